"""Cache keys. A key has everything that a feature depends on, so that equal keys mean equal features up to rounding.

Left out on purpose: the use of the features (probe, C, path, labels, scaling of rows), names of models and datasets,
and the batch size and the number of threads, which change the order of sums and so the last bits of a feature:
docs/performance.md counts the predictions that flip because of that, none so far.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch

from probebench.catalog.taps import Tap
from probebench.datasets.views import Views
from probebench.errors import ProbebenchError
from probebench.features.cache.entry import FORMAT, canonical
from probebench.features.hooks import EXTRACTION, TapReader
from probebench.features.settings import ExtractionSettings
from probebench.models.build import Model


@dataclass(frozen=True)
class Key:
    """Everything that the features of an entry depend on. What a tap reads is part of the tap's own address.

    Attributes:
        format: of the files of the cache
        extraction: version of the code that reads and pools, `probebench.features.hooks.EXTRACTION`
        weights: digest of the network's parameters
        architecture: as the spec of the model names it
        arguments: of the architecture, some of which leave no trace in the weights, such as the number of heads
        network: digest of the network's tree of modules
        images: digest of the images of the split
        indices: digest of the indices of the images that are viewed, in their order
        view: kind of the views
        seed: of views that are drawn at random; None for other views
        size: of a view in pixels
        interpolation: of the resizing
        pixel_mean, pixel_std: per channel
        pooling: of the tokens
        precision: of the network's computation, see `probebench.catalog.precision`
        device: type of the device, such as cpu or cuda
        versions: of the libraries that decode, resize and compute
    """

    format: int
    extraction: int
    weights: str
    architecture: str
    arguments: Any
    network: str
    images: str
    indices: str
    view: str
    seed: int | None
    size: int
    interpolation: str
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    pooling: str
    precision: str
    device: str
    versions: Mapping[str, str]

    @property
    def name(self) -> str:
        """The first 32 hexadecimal digits of the SHA-256 of all fields, as canonical JSON."""
        return hashlib.sha256(canonical(asdict(self))).hexdigest()[:32]

    def to_json(self) -> dict[str, Any]:
        """All fields, in the form in which a JSON file returns them."""
        found: dict[str, Any] = json.loads(canonical(asdict(self)))
        return found


def key_of(model: Model, views: Views, settings: ExtractionSettings) -> Key:
    """The key of the features of views under a network.

    Raises:
        ProbebenchError: if an argument of the architecture is something whose meaning cannot be written down
    """
    viewed: Any = views.identity()
    kind = torch.device(settings.device).type
    tree = re.sub(r" at 0x[0-9a-f]+", "", f"{type(model.net).__module__}.{model.net!r}")
    return Key(
        format=FORMAT,
        extraction=EXTRACTION,
        weights=model.weights_digest,
        architecture=model.spec.architecture,
        arguments=_to_json(dict(model.spec.kwargs)),
        network=hashlib.sha256(tree.encode()).hexdigest()[:16],
        pixel_mean=tuple(settings.mean.flatten().tolist()),
        pixel_std=tuple(settings.std.flatten().tolist()),
        pooling=settings.pooling,
        precision=model.precision,
        device=kind,
        versions=versions(kind),
        **viewed,
    )


def addresses(model: Model, taps: list[Tap], pooling: str) -> dict[Tap, str]:
    """The name of each tap inside an entry: its id, and a digest of what is read there.

    Raises:
        LayoutError: if the network cannot be read
    """
    read = TapReader(model.net, taps, pooling).definitions
    return {
        tap: f"{tap.id}.{hashlib.sha256(what.encode()).hexdigest()[:8]}" for tap, what in zip(taps, read, strict=True)
    }


def versions(device: str) -> dict[str, str]:
    """Versions of the libraries that turn a file into features, for a type of device."""
    import timm
    import torchvision
    from PIL import __version__ as pillow
    from PIL import features

    found = {"torch": str(torch.__version__), "timm": timm.__version__, "torchvision": torchvision.__version__}
    found |= {"pillow": pillow, "libjpeg": str(features.version("jpg"))}
    if device == "cuda":
        found["cuda"] = str(torch.version.cuda)
    return found


def _to_json(value: Any) -> Any:
    """Write an argument as JSON. Functions and classes are named.

    Raises:
        ProbebenchError: for anything that has no name of its own, such as a lambda
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return repr(value)  # infinity too
    if isinstance(value, list | tuple):
        return [_to_json(each) for each in value]
    if isinstance(value, Mapping):
        return {str(name): _to_json(each) for name, each in value.items()}
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, type | FunctionType | BuiltinFunctionType) and "<" not in value.__qualname__:
        return f"{value.__module__}.{value.__qualname__}"
    raise ProbebenchError(f"the argument {value!r} of its architecture has no name that says what it does")
