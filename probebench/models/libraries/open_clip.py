"""Image towers of open_clip: ``open_clip:ViT-B-32/laion2b_s34b_b79k``, or a file in place of the tag."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from probebench._files import expand_path
from probebench.catalog import ModelSpec
from probebench.errors import ProbebenchError, describe, unknown
from probebench.models.libraries import import_extra
from probebench.models.libraries.describe import Declared, complete_with
from probebench.models.matching import load_weights
from probebench.models.quiet import without_logs


def complete_spec(spec: ModelSpec) -> ModelSpec:
    """Return the spec with missing fields filled in from the declaration of open_clip's weights.

    Raises:
        UnknownName: if open_clip has no such model or tag
        LayoutError: if the network cannot be read
    """
    if (file := _file_of(spec)) is not None:
        name, _ = _parts(spec)
        spec = replace(spec, architecture=f"open_clip:{name}", checkpoint=str(file), typed=spec.typed)
    about = _declaration(spec)
    size = spec.kwargs.get("force_image_size") or _config(spec)["vision_cfg"].get("image_size", 224)
    if isinstance(size, tuple | list):
        size = size[0]
    owner, _, rest = str(about.get("hf_hub") or "").strip("/").partition("/")
    repo, _, inside = rest.partition("/")
    hub = f"{owner}/{repo}" + (f":{inside}" if inside else "")
    declared = Declared(
        int(size),
        tuple(about.get("mean") or _open_clip().OPENAI_DATASET_MEAN),
        tuple(about.get("std") or _open_clip().OPENAI_DATASET_STD),
        "bilinear" if about.get("interpolation") == "bilinear" else "bicubic",
        source=hub if repo else str(about.get("url") or ""),
    )
    return complete_with(spec, declared, create_network)


def create_network(spec: ModelSpec) -> nn.Module:
    """Build the image tower, initialised by open_clip."""
    name, _ = _parts(spec)
    _config(spec)
    activation = {"force_quick_gelu": True} if _declaration(spec).get("quick_gelu") else {}
    try:
        with without_logs():  # it warns of missing pretrained weights
            model: Any = _open_clip().create_model(
                name, pretrained=None, device=torch.get_default_device(), **activation, **spec.kwargs
            )
    except Exception as error:  # constructors raise many kinds
        raise ProbebenchError(
            f"model {spec.name!r}: open_clip cannot build {name} with kwargs {dict(spec.kwargs)} ({describe(error)})"
        ) from error
    return getattr(model.visual, "trunk", model.visual)  # type: ignore[no-any-return]


def load_network(spec: ModelSpec, path: Path | None) -> nn.Module:
    """Build the image tower with the weights in open_clip's file."""
    net = create_network(spec)
    assert path is not None
    load_weights(net, spec, path, spec.sha256)
    return net


def _file_of(spec: ModelSpec) -> Path | None:
    """Return the file that a spec names in place of a tag; None if it names a tag."""
    _, tag = _parts(spec)
    return expand_path(tag) if "/" in tag or "\\" in tag or Path(tag).suffix else None


def _open_clip() -> Any:
    return import_extra("open_clip", "open_clip", "open_clip")


def _parts(spec: ModelSpec) -> tuple[str, str]:
    name, _, tag = spec.architecture.removeprefix("open_clip:").partition("/")
    return name, tag


def _config(spec: ModelSpec) -> Mapping[str, Any]:
    name, _ = _parts(spec)
    config = _open_clip().get_model_config(name)
    if config is None:
        raise unknown("model of open_clip", name, [each for each in _open_clip().list_models() if "ViT" in each])
    return config  # type: ignore[no-any-return]


def _declaration(spec: ModelSpec) -> Mapping[str, Any]:
    """Return what open_clip declares about the weights; empty if there is no tag.

    Raises:
        UnknownName: if open_clip has no such tag
    """
    name, tag = _parts(spec)
    _config(spec)
    tags = _open_clip().list_pretrained_tags_by_model(name)
    if not tag and spec.weights == "timm" and spec.checkpoint is None:
        raise ProbebenchError(
            f"model {spec.name!r}: name the weights, too: open_clip:{name}/TAG, where TAG is one of {', '.join(tags)}, "
            "or a file"
        )
    if tag and tag not in tags:
        raise unknown(f"tag of open_clip's {name}", tag, tags)
    return _open_clip().get_pretrained_cfg(name, tag) if tag else {}
