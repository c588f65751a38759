"""Vision transformers of torchvision: ``torchvision:vit_b_16``, or with a name of its weights after a dot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from probebench.catalog import ModelSpec
from probebench.errors import ProbebenchError, describe, unknown
from probebench.models.libraries.describe import Declared, complete_with
from probebench.models.matching import load_weights


def complete_spec(spec: ModelSpec) -> ModelSpec:
    """Return the spec with missing fields filled in from the transforms of torchvision's weights.

    Raises:
        UnknownName: if torchvision has no such model or weights
        LayoutError: if the network cannot be read
    """
    weights = _weights(spec)
    view = weights.transforms()
    size = int(spec.kwargs.get("image_size", view.crop_size[0]))
    declared = Declared(
        size,
        tuple(view.mean),
        tuple(view.std),
        view.interpolation.value,
        view.crop_size[0] / view.resize_size[0],
        weights.url,
    )
    return complete_with(spec, declared, create_network)


def create_network(spec: ModelSpec) -> nn.Module:
    """Build the network, initialised by torchvision, without its classifier."""
    from torchvision.models import get_model

    (name, _, _), kwargs = _parts(spec), dict(spec.kwargs)
    if name.startswith("vit_") and "image_size" not in kwargs:  # the constructor's own is 224 for all weights
        kwargs["image_size"] = spec.input_size or _weights(spec).transforms().crop_size[0]
    try:
        net: Any = get_model(name, weights=None, **kwargs)
    except Exception as error:  # constructors raise many kinds
        raise ProbebenchError(
            f"model {spec.name!r}: torchvision cannot build {name} with kwargs {dict(spec.kwargs)} ({describe(error)})"
        ) from error
    if hasattr(net, "heads"):
        net.heads = nn.Identity()
    return net  # type: ignore[no-any-return]


def load_network(spec: ModelSpec, path: Path | None) -> nn.Module:
    """Build the network with the weights in torchvision's file."""
    net = create_network(spec)
    assert path is not None
    load_weights(net, spec, path, spec.sha256)
    return net


def _parts(spec: ModelSpec) -> tuple[str, str, str]:
    return spec.architecture.removeprefix("torchvision:").partition(".")


def _weights(spec: ModelSpec) -> Any:
    """Return the weights that a spec names, or the default ones.

    Raises:
        UnknownName: if torchvision does not have them
    """
    from torchvision.models import get_model_weights, list_models

    name, _, tag = _parts(spec)
    if name not in list_models():
        raise unknown("model of torchvision", name, list_models(include="vit_*"))
    every = get_model_weights(name)
    if tag and tag not in every.__members__:
        raise unknown(f"weights of torchvision's {name}", tag, list(every.__members__))
    return every[tag] if tag else every.DEFAULT
