"""Build a frozen network from its spec: timm's architecture, weights from the hub, from a file or from a seed."""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from probebench import checkpoint
from probebench.catalog import ModelSpec
from probebench.catalog.precision import Precision, check, dtype_of
from probebench.errors import LayoutError, ProbebenchError, UnknownName, WeightsError, unknown
from probebench.fetch import hub as pretrained
from probebench.layouts import blocks_of

PLAIN = "VisionTransformer"
"""The architecture that stands for timm's class itself."""

_PATCHES = "patch_embed.proj.weight"

_Problems = tuple[list[str], list[str], list[str]]  # what is missing, what is too much, what has another shape


@dataclass(frozen=True)
class Model:
    """A network ready to read features from.

    Attributes:
        spec: what it was built from
        net: in evaluation mode, without gradients
        weights_digest: the first 16 hexadecimal digits of the SHA-256 over all parameters and buffers, in float32
        precision: that the network computes in
        entry: of its weights file that its weights are, where they are one of several
        prefix: what stood before the names of the network in its weights file; whatever lay elsewhere was left out
        made_for: side in pixels of the images that position embeddings in its weights file are made for, where they
            were resampled to the network's; else 0
    """

    spec: ModelSpec
    net: nn.Module
    weights_digest: str
    precision: Precision = "float32"
    entry: str = ""
    prefix: str = ""
    made_for: int = 0


def shipped(spec: ModelSpec) -> Traversable:
    """The weights of a model whose weights are inside the package."""
    return files("probebench.embedded") / spec.weights.removeprefix("embedded:")


def build(
    spec: ModelSpec, *, weights: Path | None = None, device: str = "cpu", precision: Precision = "float32"
) -> Model:
    """Build the network of a spec and load its weights.

    Args:
        weights: a file to load instead of what the spec names, for instance a new checkpoint that is to be checked
            against the baselines of the old one; of the formats of `ModelSpec.checkpoint`
        device: a torch device
        precision: that its parameters are brought to

    Raises:
        ProbebenchError: if the device does not have the precision
        UnknownName: if timm has no such architecture
        WeightsError: if the weights are not on this machine, damaged, or of another architecture
        LayoutError: if the network's blocks cannot be read, or are not as many as the spec says
    """
    check(precision, device)
    sha256 = None if weights is not None else spec.sha256
    weights = pretrained.own_file(spec, weights)
    hub = pretrained.require(spec) if weights is None and pretrained.needs_download(spec) else None
    # The initialisation draws from torch's global generator; give the caller's state back afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(spec.seed or 0)
        net = _from_timm(spec, hub) if hub is not None else _architecture(spec)
    blocks = blocks_of(net)
    if len(blocks) != spec.depth:
        raise LayoutError(f"model {spec.name!r} has {len(blocks)} blocks where its spec says {spec.depth}")
    entry, prefix, made_for = "", "", 0
    if weights is not None:
        found = _load(net, spec, weights, sha256)
        entry, prefix, made_for = found.entry, found.prefix, found.made_for
    elif spec.weights.startswith("embedded:"):
        with as_file(shipped(spec)) as path:
            _load(net, spec, path, sha256)
    _check_input_size(net, spec)
    net = net.float().eval().requires_grad_(False)
    digest = _digest(net)
    return Model(spec, net.to(device=device, dtype=dtype_of(precision)), digest, precision, entry, prefix, made_for)


_FILLING = {Tensor.add_, Tensor.clamp_, Tensor.erfinv_, Tensor.mul_, Tensor.normal_, Tensor.uniform_}
"""What initialisers are made of."""


class _Unfilled(TorchFunctionMode):
    """On tensors without memory, initialisers do nothing: torch derives the shape of each step in Python."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _FILLING and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def weightless() -> Iterator[None]:
    """Networks that are built inside have shapes only: one of any size takes a fraction of a second."""
    with torch.device("meta"), _Unfilled():
        yield


def completed(spec: ModelSpec) -> ModelSpec:
    """The spec with what it leaves out filled in from timm, and with the tag of its weights in `architecture`.

    Raises:
        UnknownName: if timm has no such architecture or tag
        LayoutError: if its blocks cannot be read
        ProbebenchError: if timm says nothing of what is missing
    """
    if spec.architecture == PLAIN:
        raise ProbebenchError(f"model {spec.name!r}: {PLAIN} needs depth, input_size, mean and std to be given")
    config = _config(spec)
    with weightless():
        net = _architecture(spec)
    try:
        blocks = blocks_of(net)
    except LayoutError as error:
        raise LayoutError(f"model {spec.name!r}: {error}") from error
    parameters = sum(p.numel() for p in net.parameters())
    classifier = sum(net.get_parameter(name).numel() for name in _classifier_tensors(net, {}))
    used = pretrained.needs_download(spec)
    tag = f".{config.tag}" if used and config.tag and "." not in spec.architecture else ""
    size = config.input_size[-1]
    return replace(
        spec,
        architecture=spec.architecture + tag,
        depth=spec.depth or len(blocks),
        width=spec.width or int(getattr(net, "embed_dim", 0) or 0),
        parameters=spec.parameters or parameters - classifier,
        # Of a file of another code, which may hold more than one network, the size is not known.
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
    """Of a square input, given as a number or a pair."""
    sides = set(size) if isinstance(size, tuple | list) else {size}
    if len(sides) != 1:
        raise ProbebenchError(f"model {spec.name!r}: img_size is {size}; only square inputs are read")
    return int(sides.pop())


def declared(spec: ModelSpec) -> ModelSpec:
    """The spec with the preprocessing that timm declares for its pretrained weights."""
    kwargs = {key: value for key, value in spec.kwargs.items() if key != "img_size"}
    told = completed(ModelSpec(spec.name, spec.architecture, kwargs=kwargs, source=spec.source))
    # Of weights from elsewhere timm knows nothing.
    return told if spec.source in ("", _source(told, _config(told))) else spec


def _config(spec: ModelSpec) -> Any:
    """What timm knows of an architecture and the tag of its weights."""
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
        hint = f"name one of its tags: {', '.join(tags)}" if tags else "say weights = 'random', or name a checkpoint"
        raise ProbebenchError(f"model {spec.name!r}: timm has no pretrained weights for {spec.architecture}; {hint}")
    return config


def _tags(base: str) -> list[str]:
    import timm

    return [name.partition(".")[2] for name in timm.list_models(f"{base}.*", pretrained=True)]


def _source(spec: ModelSpec, config: Any) -> str:
    """As in `ModelSpec.source`."""
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
        f"timm.list_models() has all {len(timm.list_models())}."
    )


def _architecture(spec: ModelSpec) -> nn.Module:
    """The network of a spec as timm initialises it."""
    import timm
    from timm.models.vision_transformer import VisionTransformer

    kwargs: dict[str, Any] = dict(spec.kwargs)
    if spec.architecture == PLAIN:
        return VisionTransformer(depth=spec.depth, **kwargs)  # type: ignore[no-any-return]
    if not timm.is_model(spec.architecture.partition(".")[0]):
        raise _unknown_architecture(spec)
    try:
        net = timm.create_model(spec.architecture, pretrained=False, **kwargs)
    except Exception as error:  # constructors raise whatever they trip over
        raise ProbebenchError(
            f"model {spec.name!r}: {spec.architecture} cannot be built with kwargs {kwargs} ({_first_line(error)})"
        ) from error
    assert isinstance(net, nn.Module)
    return net


def _from_timm(spec: ModelSpec, path: Path) -> nn.Module:
    """The network with pretrained weights from a file of the hub, which timm brings into its own form."""
    import timm

    where = f"weights of model {spec.name!r} ({path})"
    _check_sha256(path, spec, where, spec.sha256)
    # custom_load is for original npz files; on the hub they are stored as timm's own tensors.
    overlay = {"file": str(path), "custom_load": False, "state_dict": None}
    try:
        net = timm.create_model(spec.architecture, pretrained=True, pretrained_cfg_overlay=overlay, **spec.kwargs)
    except Exception as error:  # safetensors, pickle, torch and timm's own checks raise many kinds
        raise WeightsError(
            f"{where} cannot be loaded ({_first_line(error)}). If the file is damaged, delete it and fetch it again"
        ) from error
    assert isinstance(net, nn.Module)
    return net


@dataclass(frozen=True)
class _Place:
    """A place in a file where a network may be.

    Attributes:
        entry, prefix, made_for: see `Model`
        tensors: in the form of the network
        problems: what does not fit
    """

    entry: str
    prefix: str
    made_for: int
    tensors: dict[str, torch.Tensor]
    problems: _Problems

    def __str__(self) -> str:
        parts = [f"in its entry {self.entry!r}"] if self.entry else []
        parts += [f"under the prefix {self.prefix!r} of its names"] if self.prefix else []
        return " ".join(parts)


def _load(net: nn.Module, spec: ModelSpec, path: Path, sha256: str | None) -> _Place:
    """Load a file into a network; returns where in the file it was."""
    where = f"weights of model {spec.name!r} ({path})"
    _check_sha256(path, spec, where, sha256)
    tables = checkpoint.read(path, where)
    places = [place for entry, state in tables.items() for place in _places(net, entry, state)]
    fitting = [place for place in places if not any(place.problems)]
    if not fitting:
        raise WeightsError(f"{where}: {_misfit(spec, places, tables)}")
    if fitting[0].entry in checkpoint.KNOWN:
        fitting = [place for place in fitting if place.entry == fitting[0].entry]
    first = fitting[0]
    averaged = next((entry for entry in checkpoint.AVERAGED if entry in tables), first.entry)
    if averaged != first.entry:
        reason = _misfit(spec, [place for place in places if place.entry == averaged], {})
        raise WeightsError(
            f"{where}: averaged weights go before others, and those of the file do not fit: {reason}. If others are "
            f"meant, save them alone, as state[{first.entry!r}]"
        )
    if len(fitting) > 1:
        one = f"state[{first.entry!r}]" if first.entry else "state"
        if first.prefix:
            one = (
                f"{{name.removeprefix({first.prefix!r}): tensor for name, tensor in "
                f"timm.models.clean_state_dict({one}).items() if name.startswith({first.prefix!r})}}"
            )
        raise WeightsError(
            f"{where}: the network is there {len(fitting)} times, {' and '.join(map(str, fitting))}; of the file's "
            f"state save only the one that is meant, as {one}"
        )
    net.load_state_dict(first.tensors)
    return first


def _places(net: nn.Module, entry: str, state: dict[str, torch.Tensor]) -> list[_Place]:
    """A table of tensors as it is, or where that does not fit, under each prefix that may be meant, best first."""

    def place(prefix: str) -> _Place:
        found = _under(prefix, state)
        tensors = _brought(net, found)
        return _Place(entry, prefix, _made_for(net, found), tensors, _problems(net, tensors))

    plain = place("")
    prefixes = _prefixes(net, state) if any(plain.problems) else []
    return [place(prefix) for prefix in prefixes] or [plain]


def _misfit(spec: ModelSpec, places: list[_Place], tables: Mapping[str, object]) -> str:
    """What does not fit at the place that comes closest, and where else there are tensors in the file."""

    def distance(place: _Place) -> tuple[int, int]:
        missing, _, shapes = place.problems
        return len(missing) + len(shapes), -len(place.tensors)

    nearest = min(places, key=distance)
    kwargs = f" with kwargs {dict(spec.kwargs)}" if spec.kwargs else ""
    at = f" ({nearest})" if nearest.entry or nearest.prefix else ""
    problems = "; ".join(_some(kind) for kind in nearest.problems if kind)
    others = [repr(entry) for entry in tables if entry != nearest.entry]
    more = f". The file has tensors in {', '.join(others)} as well" if others else ""
    return f"another architecture than {spec.architecture}{kwargs}{at}: {problems}{more}"


def _some(problems: list[str]) -> str:
    return "; ".join(problems[:3]) + (f" and {len(problems) - 3} more" if len(problems) > 3 else "")


def _prefixes(net: nn.Module, state: Mapping[str, torch.Tensor]) -> list[str]:
    """What training code put before the network's names: each prefix under which most of them are found, best first.

    None where most are found as they are: then something else does not fit.
    """
    want = net.state_dict()
    found = Counter(
        name[:start]
        for name in state
        for start in (0, *(dot.end() for dot in re.finditer(r"\.", name)))
        if name[start:] in want
    )
    most = [prefix for prefix, count in found.most_common() if 2 * count > len(want)]
    return [] if "" in most else most


def _under(prefix: str, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _brought(net: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors in the form of a network as far as that is known, with a classifier that fits."""
    want, patches = net.state_dict(), state.get(_PATCHES)
    state = dict(_in_timms_form(net, state) if any(_problems(net, state)) else state)
    # timm resamples patches of another size, too; that is another network.
    if patches is not None and _PATCHES in want and patches.ndim == want[_PATCHES].ndim == 4:
        state[_PATCHES] = patches
    # A fine-tuned network has another classifier; nothing is read behind it.
    for name in _classifier_tensors(net, state):
        if name not in want or name not in state or state[name].shape != want[name].shape:
            state.pop(name, None)
            if name in want:
                state[name] = want[name]
    return state


def _made_for(net: nn.Module, state: Mapping[str, torch.Tensor]) -> int:
    """As in `Model`. Behind tokens of their own, position embeddings are those of a square of patches."""
    embed, found = getattr(net, "patch_embed", None), state.get("pos_embed")
    patches, size = getattr(embed, "num_patches", None), getattr(embed, "img_size", None)
    if not patches or not size or found is None or found.ndim != 3:
        return 0
    side, own = isqrt(found.shape[1]), isqrt(patches)
    return 0 if side == own else side * int(size[0]) // own


def _check_sha256(path: Path, spec: ModelSpec, where: str, sha256: str | None) -> None:
    if sha256 is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise WeightsError(
            f"{where}: SHA-256 is {found}, expected {sha256}. The file is damaged or was replaced; reinstall "
            f"probebench, or pass another checkpoint on purpose with --probe-weights {spec.name}=FILE"
        )


def _check_input_size(net: nn.Module, spec: ModelSpec) -> None:
    """Before any image is read: a network of one size refuses others in the middle of its forward pass."""
    embed = getattr(net, "patch_embed", None)
    size = getattr(embed, "img_size", None)
    if size is None or not getattr(embed, "strict_img_size", True) or tuple(size) == (spec.input_size,) * 2:
        return
    raise WeightsError(
        f"model {spec.name!r}: input_size is {spec.input_size}, and {spec.architecture} is built for "
        f"{size[0]} x {size[1]} pixels; give both, as in input_size={spec.input_size}, "
        f"kwargs={{'img_size': {spec.input_size}}}"
    )


def _in_timms_form(net: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What timm does to checkpoints of other code for this architecture: names, fused matrices, position tables."""
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        return dict(convert(dict(state), net))
    except Exception:  # made for checkpoints that it knows; what does not fit is listed afterwards
        return state


def _classifier_tensors(net: nn.Module, state: Mapping[str, torch.Tensor]) -> list[str]:
    config = getattr(net, "pretrained_cfg", None) or {}
    names = config.get("classifier") or "head"
    prefixes = tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))
    return [name for name in {**net.state_dict(), **state} if name.startswith(prefixes)]


def _problems(net: nn.Module, state: Mapping[str, torch.Tensor]) -> _Problems:
    want = net.state_dict()
    return (
        [f"{name} is missing" for name in want if name not in state],
        [f"{name} is not part of the network" for name in state if name not in want],
        [
            f"{name} has shape {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
            for name, tensor in want.items()
            if name in state and state[name].shape != tensor.shape
        ],
    )


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _digest(net: nn.Module) -> str:
    h = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        h.update(name.encode())
        h.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return h.hexdigest()[:16]
