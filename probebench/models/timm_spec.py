"""Complete model specs with what timm declares about architectures and pretrained weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from probebench.catalog import ModelSpec
from probebench.catalog.specs import id_name
from probebench.errors import LayoutError, ProbebenchError, UnknownName, describe, unknown
from probebench.fetch import hub as pretrained
from probebench.models.layouts import blocks_of

PLAIN_CLASS = "VisionTransformer"
"""The architecture name that means timm's class itself, configured by kwargs alone."""

_INITIALISERS = {
    *(Tensor.add_, Tensor.clamp_, Tensor.erfinv_, Tensor.mul_, Tensor.normal_, Tensor.uniform_),
    *(nn.init.constant_, nn.init.kaiming_uniform_, nn.init.normal_, nn.init.uniform_),
}
"""The tensor operations that initialisers use, and torch's initialisers that are passed to a mode as a whole."""


class _SkipInitialisation(TorchFunctionMode):
    """Skip initialisers on meta tensors, for which torch would derive the shape of each step in Python."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # torch's own initialisers are passed with all arguments by name.
        if func in _INITIALISERS and (tensor := args[0] if args else kwargs["tensor"]).is_meta:
            return tensor
        return func(*args, **kwargs)


@contextmanager
def without_weights() -> Iterator[None]:
    """Build networks without memory for weights within a ``with`` block: a fraction of a second for any size."""
    with torch.device("meta"), _SkipInitialisation():
        yield


def complete_spec(spec: ModelSpec) -> ModelSpec:
    """Return the spec with missing fields filled in from timm, and with the tag of its weights in `architecture`.

    Raises:
        UnknownName: if timm has no such architecture or tag
        LayoutError: if its blocks cannot be read
        ProbebenchError: if timm does not declare a missing field
    """
    if spec.architecture == PLAIN_CLASS:
        raise ProbebenchError(f"model {spec.name!r}: {PLAIN_CLASS} needs depth, input_size, mean and std to be given")
    config = _config(spec)
    with without_weights():
        net = create_network(spec)
    try:
        blocks = blocks_of(net)
    except LayoutError as error:
        raise LayoutError(f"model {spec.name!r}: {error}") from error
    parameters = sum(p.numel() for p in net.parameters())
    classifier = sum(net.get_parameter(name).numel() for name in classifier_tensors(net, {}))
    used = pretrained.needs_download(spec)
    tag = f".{config.tag}" if used and config.tag and "." not in spec.architecture else ""
    size = config.input_size[-1]
    return replace(
        spec,
        architecture=spec.architecture + tag,
        depth=spec.depth or len(blocks),
        width=spec.width or int(getattr(net, "embed_dim", 0) or 0),
        parameters=spec.parameters or parameters - classifier,
        # The size of a file from other code, which may hold more than one network, is unknown.
        download_size=spec.download_size or (4 * parameters if used and config.hf_hub_id else 0),
        input_size=spec.input_size or _side(spec, spec.kwargs.get("img_size", size)),
        mean=spec.mean or tuple(config.mean),
        std=spec.std or tuple(config.std),
        interpolation=spec.interpolation or ("bilinear" if config.interpolation == "bilinear" else "bicubic"),
        crop=spec.crop if spec.crop != 1 else float(config.crop_pct or 1),
        licence=spec.licence or (config.license or "" if used else ""),
        source=spec.source or (_source(spec, config) if used else ""),
    )


def _side(spec: ModelSpec, size: Any) -> int:
    """Return the side of a square input, given as a number or a pair."""
    sides = set(size) if isinstance(size, tuple | list) else {size}
    if len(sides) != 1:
        raise ProbebenchError(f"model {spec.name!r}: img_size is {size}; only square inputs are supported")
    return int(sides.pop())


def resized_spec(spec: ModelSpec, size: int) -> ModelSpec:
    """Return the spec of the same network for images of another size, for which position embeddings are resampled.

    Args:
        size: the side in pixels, a multiple of the network's patches

    Raises:
        ProbebenchError: if the network is not timm's, or the size does not fit its patches
    """
    if spec.library != "timm":
        raise ProbebenchError(
            f"model {spec.name!r}: only networks of timm can be read at another size, and this one is of {spec.library}"
        )
    resized = replace(spec, input_size=size, kwargs={**spec.kwargs, "img_size": size})
    with without_weights():
        embed: Any = getattr(create_network(resized), "patch_embed", None)
    if (patch := getattr(embed, "patch_size", None)) is None:
        raise ProbebenchError(f"model {spec.name!r}: its patches are not known, so it cannot be read at another size")
    if left := size % patch[0]:
        near = [side for side in (size - left, size - left + patch[0]) if side]
        raise ProbebenchError(
            f"model {spec.name!r}: {size} pixels are no multiple of its patches of {patch[0]}; "
            f"use {' or '.join(map(str, near))}"
        )
    return resized


def pretrained_spec(spec: ModelSpec) -> ModelSpec:
    """Return the spec with the preprocessing that timm declares for its pretrained weights."""
    kwargs = {key: value for key, value in spec.kwargs.items() if key != "img_size"}
    declared = complete_spec(ModelSpec(spec.name, spec.architecture, kwargs=kwargs, source=spec.source))
    # timm declares nothing about weights from elsewhere.
    return declared if spec.source in ("", _source(declared, _config(declared))) else spec


def _config(spec: ModelSpec) -> Any:
    """Return timm's configuration of an architecture and the tag of its weights."""
    import timm
    from timm.models import get_pretrained_cfg

    base, _, tag = spec.architecture.partition(".")
    if not timm.is_model(base):
        raise _unknown_architecture(spec)
    if "." in spec.architecture and tag not in (tags := _tags(base)):
        raise unknown(f"pretraining tag of model {spec.name!r}, timm's {base},", tag, tags)
    config = get_pretrained_cfg(spec.architecture)
    needed = pretrained.needs_download(spec) and not spec.source
    if config is None or (needed and not (config.hf_hub_id or config.url)):
        tags = _tags(base)
        hint = f"use one of its tags: {', '.join(tags)}" if tags else "set weights = 'random', or set a checkpoint"
        raise ProbebenchError(f"model {spec.name!r}: timm has no pretrained weights for {spec.architecture}; {hint}")
    return config


def _tags(base: str) -> list[str]:
    import timm

    return [name.partition(".")[2] for name in timm.list_models(f"{base}.*", pretrained=True)]


def is_timm_id(name: str) -> bool:
    """Return whether ids call some model of timm so, which a user names by ``timm:`` and timm's name."""
    import timm

    return name in {id_name(f"timm:{each}") for each in (*timm.list_models(), *timm.list_models(pretrained=True))}


def _source(spec: ModelSpec, config: Any) -> str:
    """Return the source of pretrained weights in the form of `ModelSpec.source`."""
    if not config.hf_hub_id:
        return str(config.url)
    if config.hf_hub_filename:
        return f"{config.hf_hub_id}:{config.hf_hub_filename}"
    plain = config.hf_hub_id == f"timm/{config.architecture}.{config.tag}"
    return "" if plain else str(config.hf_hub_id)


def _unknown_architecture(spec: ModelSpec) -> UnknownName:
    import timm

    base = spec.architecture.partition(".")[0]
    near = get_close_matches(base, timm.list_models("*vit*") + timm.list_models(), n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(map(repr, dict.fromkeys(near)))}?" if near else ""
    return UnknownName(
        f"model {spec.name!r}: unknown timm architecture {base!r}.{hint} "
        f"timm.list_models() lists all {len(timm.list_models())}."
    )


def create_network(spec: ModelSpec) -> nn.Module:
    """Build the network of a spec, initialised by timm."""
    import timm
    from timm.models.vision_transformer import VisionTransformer

    kwargs: dict[str, Any] = dict(spec.kwargs)
    if spec.architecture == PLAIN_CLASS:
        return VisionTransformer(depth=spec.depth, **kwargs)  # type: ignore[no-any-return]
    if not timm.is_model(spec.architecture.partition(".")[0]):
        raise _unknown_architecture(spec)
    try:
        net = timm.create_model(spec.architecture, pretrained=False, **kwargs)
    except Exception as error:  # constructors raise many kinds
        raise ProbebenchError(
            f"model {spec.name!r}: {spec.architecture} cannot be built with kwargs {kwargs} ({describe(error)})"
        ) from error
    assert isinstance(net, nn.Module)
    return net


def classifier_tensors(net: nn.Module, state: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the names of the classifier's tensors in a network and in a table of tensors."""
    config = getattr(net, "pretrained_cfg", None) or {}
    names = config.get("classifier") or "head"
    prefixes = tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))
    return [name for name in {**net.state_dict(), **state} if name.startswith(prefixes)]
