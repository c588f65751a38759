"""Complete the spec of a network that is not timm's with what the network itself shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from probebench._format import list_some
from probebench.catalog import ModelSpec
from probebench.errors import LayoutError, ProbebenchError
from probebench.models.adapter import adapt
from probebench.models.layouts import blocks_of
from probebench.models.timm_spec import without_weights


@dataclass(frozen=True)
class Declared:
    """What a library declares about the preprocessing of a model; empty or 0 where it does not.

    Attributes:
        input_size: side of the input in pixels
        mean, std: per channel, of images in [0, 1]
        interpolation: ``bilinear`` or ``bicubic``
        crop: share of the resized image that the centre crop keeps
        source: of the weights, as in `ModelSpec.source`
    """

    input_size: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    interpolation: str = ""
    crop: float = 1.0
    source: str = ""


def complete_with(spec: ModelSpec, declared: Declared, create: Callable[[ModelSpec], nn.Module]) -> ModelSpec:
    """Return a spec with missing fields filled in from a declaration and from the network, built without weights.

    Raises:
        LayoutError: if the network cannot be read
        ProbebenchError: if nothing declares a missing field
    """
    with without_weights():
        net = create(spec)
    try:
        net = adapt(net)
        blocks = blocks_of(net)
    except LayoutError as error:
        raise LayoutError(f"model {spec.name!r}: {error}") from error
    found = replace(
        spec,
        depth=spec.depth or len(blocks),
        width=spec.width or int(getattr(net, "embed_dim", 0) or 0),
        parameters=spec.parameters or sum(parameter.numel() for parameter in net.parameters()),
        input_size=spec.input_size or declared.input_size,
        mean=spec.mean or declared.mean,
        std=spec.std or declared.std,
        interpolation=spec.interpolation or declared.interpolation,
        crop=spec.crop if spec.crop != 1 else declared.crop,
        source=spec.source or declared.source,
    )
    if not found.complete:
        missing = [name for name in ("input_size", "mean", "std") if not getattr(found, name)]
        raise ProbebenchError(
            f"model {spec.name!r}: {spec.architecture} does not declare {list_some(missing, 3)}; "
            "set them in its ModelSpec"
        )
    return found
