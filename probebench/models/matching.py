"""Find a network's tensors among those of a checkpoint file."""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import torch
from torch import nn

from probebench.catalog import ModelSpec
from probebench.errors import WeightsError
from probebench.models import checkpoint
from probebench.models.timm_spec import classifier_tensors

_PATCHES = "patch_embed.proj.weight"


_Problems = tuple[list[str], list[str], list[str]]  # what is missing, what is too much, what has another shape


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


def load_weights(net: nn.Module, spec: ModelSpec, path: Path, sha256: str | None) -> _Place:
    """Load a file into a network; returns where in the file it was."""
    where = f"weights of model {spec.name!r} ({path})"
    check_sha256(path, spec, where, sha256)
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
        tensors = _in_form_of(net, found)
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


def _in_form_of(net: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors in the form of a network as far as that is known, with a classifier that fits."""
    want, patches = net.state_dict(), state.get(_PATCHES)
    state = dict(_in_timms_form(net, state) if any(_problems(net, state)) else state)
    # timm resamples patches of another size, too; that is another network.
    if patches is not None and _PATCHES in want and patches.ndim == want[_PATCHES].ndim == 4:
        state[_PATCHES] = patches
    # A fine-tuned network has another classifier; nothing is read behind it.
    for name in classifier_tensors(net, state):
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


def check_sha256(path: Path, spec: ModelSpec, where: str, sha256: str | None) -> None:
    if sha256 is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise WeightsError(
            f"{where}: SHA-256 is {found}, expected {sha256}. The file is damaged or was replaced; reinstall "
            f"probebench, or pass another checkpoint on purpose with --probe-weights {spec.name}=FILE"
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
