"""Networks of transformers: ``hf:ID`` of the Hugging Face hub, or ``hf:FOLDER`` that `save_pretrained` wrote.

Weights are read from safetensors files only, and code in a repository is never run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from probebench._format import list_some
from probebench.catalog import ModelSpec
from probebench.errors import ProbebenchError, WeightsError, describe
from probebench.fetch import snapshots
from probebench.fetch.hub import configured_folder
from probebench.models.libraries import import_extra
from probebench.models.libraries.describe import Declared, complete_with
from probebench.models.quiet import without_logs

_POOLERS = ("pooler.", "head.")
"""Parts that no tap reads, which a checkpoint may lack."""


def complete_spec(spec: ModelSpec) -> ModelSpec:
    """Return the spec with missing fields filled in from the folder's configuration and image processor.

    Raises:
        FetchError: if the configuration is not on this machine, and cannot be downloaded
        LayoutError: if the network cannot be read
        ProbebenchError: if transformers does not know the network, or nothing declares a missing field
    """
    folder = configured_folder(spec)
    return complete_with(spec, _read_processor(folder), create_network)


def create_network(spec: ModelSpec) -> nn.Module:
    """Build the network of a configuration, initialised by transformers."""
    folder = configured_folder(spec)
    config = _read_config(spec, folder)
    with _quiet():
        try:
            net = _transformers().AutoModel.from_config(config, trust_remote_code=False)
        except Exception as error:  # transformers raises many kinds
            raise ProbebenchError(
                f"model {spec.name!r}: transformers cannot build the network of {folder} ({describe(error)})"
            ) from error
    return _tower(net)


def load_network(spec: ModelSpec, path: Path | None) -> nn.Module:
    """Build the network with the weights in its folder, every tensor of which must be there.

    Raises:
        WeightsError: if they are damaged, or are not all of the network's
    """
    folder = configured_folder(spec)
    where = f"weights of model {spec.name!r} ({folder})"
    with _quiet():
        try:
            net, info = _transformers().AutoModel.from_pretrained(
                folder,
                config=_read_config(spec, folder),
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                torch_dtype="float32",
            )
        except Exception as error:  # transformers, safetensors and torch raise many kinds
            raise WeightsError(f"{where} cannot be loaded ({describe(error)})") from error
    tower = _tower(net)
    inside = {
        f"{path}.{name}".removeprefix(".")
        for path, each in net.named_modules()
        if each is tower
        for name in tower.state_dict()
    }
    missing = [name for name in map(_name, info["missing_keys"]) if name in inside and not _is_pooler(name)]
    wrong = [name for name in map(_name, info["mismatched_keys"]) if name in inside]
    if missing or wrong:
        what = "lacks" if missing else "has with other shapes"
        raise WeightsError(
            f"{where}: the file {what} {list_some(missing or wrong, 3)}; the configuration in the folder is of another "
            "network"
        )
    return tower


def _name(key: Any) -> str:
    return str(key if isinstance(key, str) else key[0])


def _is_pooler(name: str) -> bool:
    return any(name.startswith(part) or f".{part}" in name for part in _POOLERS)


def _transformers() -> Any:
    return import_extra("transformers", "transformers", "hf")


def _tower(net: Any) -> nn.Module:
    """The image tower of a network of images and text, or the network itself; without a linear layer that pools, which
    most checkpoints lack."""
    tower: Any = getattr(net, "vision_model", net)
    if getattr(getattr(tower, "pooler", None), "dense", None) is not None:
        tower.pooler = None
    return tower  # type: ignore[no-any-return]


def _read_config(spec: ModelSpec, folder: Path) -> Any:
    """Return the configuration in a folder, with the arguments of the spec in place of its own."""
    try:
        config = _transformers().AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds
        raise ProbebenchError(
            f"model {spec.name!r}: transformers does not know the network of {folder} ({describe(error)})"
        ) from error
    if config.model_type == "vit_mae":
        config.mask_ratio = 0.0  # or three quarters of the patches, at random, would be left out
    for name, value in spec.kwargs.items():
        if not hasattr(config, name):
            raise ProbebenchError(f"model {spec.name!r}: its configuration has no {name!r}; correct its kwargs")
        setattr(config, name, value)
    return config


def _read_processor(folder: Path) -> Declared:
    """Return what the image processor in a folder declares; nothing if there is none."""
    if not (folder / snapshots.PROCESSOR).is_file():
        return Declared()
    with _quiet():
        processor: Any = _transformers().AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
    whole = _side(getattr(processor, "size", None))
    crops = getattr(processor, "do_center_crop", False)
    size = (_side(getattr(processor, "crop_size", None)) if crops else 0) or whole
    normalised = getattr(processor, "do_normalize", True)
    return Declared(
        size,
        tuple(processor.image_mean) if normalised else (0.0, 0.0, 0.0),
        tuple(processor.image_std) if normalised else (1.0, 1.0, 1.0),
        "bilinear" if int(getattr(processor, "resample", 3) or 0) == 2 else "bicubic",
        size / whole if whole else 1.0,
    )


def _side(size: Any) -> int:
    """The side of a square in one of the forms of transformers; 0 if there is none."""
    if size is None or isinstance(size, int):
        return size or 0
    table = dict(size)
    return int(table.get("shortest_edge") or table.get("height") or 0)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what transformers logs and its progress bars out of our output."""
    bars = import_extra("transformers.utils.logging", "transformers", "hf")
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        with without_logs():
            yield
    finally:
        if shown:
            bars.enable_progress_bar()
