"""Find the tensors of a network among those of a checkpoint file, and load them.

A file is a set of tables of tensors (see `probebench.models.checkpoint`). Every table gives candidates: the table as it
is, or, if that does not fit, its names without a prefix that training code put before them. A candidate fits when,
after conversion to timm's form, it has exactly the network's tensors.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from probebench.catalog import ModelSpec
from probebench.errors import WeightsError
from probebench.models import checkpoint
from probebench.models.timm_spec import classifier_tensors

_PATCHES = "patch_embed.proj.weight"


class _Problems(NamedTuple):
    """Differences from the tensors of the network, a phrase each; all empty if the tensors fit."""

    missing: list[str]
    unexpected: list[str]
    shapes: list[str]


@dataclass(frozen=True)
class Candidate:
    """Tensors of a file that may be the network's.

    Attributes:
        entry, prefix, made_for: see `probebench.models.build.Model`
        tensors: converted to the form of the network
        problems: differences from the network
    """

    entry: str
    prefix: str
    made_for: int
    tensors: dict[str, torch.Tensor]
    problems: _Problems

    @property
    def fits(self) -> bool:
        return not any(self.problems)

    def __str__(self) -> str:
        parts = [f"in its entry {self.entry!r}"] if self.entry else []
        parts += [f"under the prefix {self.prefix!r} of its names"] if self.prefix else []
        return " ".join(parts)


def load_weights(net: nn.Module, spec: ModelSpec, path: Path, sha256: str | None) -> Candidate:
    """Load the weights in a file into a network, and return the candidate that was loaded.

    Entries are tried in timm's order: averaged (EMA) weights take precedence, then the other entries of
    `checkpoint.KNOWN`. Any other entry is used only if no other place in the file fits as well.

    Raises:
        WeightsError: if the file cannot be read or has another SHA-256, if no candidate fits, if averaged weights do
            not fit and others do, or if several candidates fit and none takes precedence
    """
    where = f"weights of model {spec.name!r} ({path})"
    check_sha256(path, spec, where, sha256)
    tables = checkpoint.read_tables(path, where)
    candidates = [candidate for entry, state in tables.items() for candidate in _find_candidates(net, entry, state)]
    fitting = [candidate for candidate in candidates if candidate.fits]
    if not fitting:
        raise WeightsError(f"{where}: {_explain_misfit(spec, candidates, tables)}")
    if fitting[0].entry in checkpoint.KNOWN:
        fitting = [candidate for candidate in fitting if candidate.entry == fitting[0].entry]
    chosen = fitting[0]
    averaged = next((entry for entry in checkpoint.AVERAGED if entry in tables), chosen.entry)
    if averaged != chosen.entry:
        reason = _explain_misfit(spec, [candidate for candidate in candidates if candidate.entry == averaged], {})
        raise WeightsError(
            f"{where}: the checkpoint contains EMA weights, which take precedence, but {reason}. "
            f"To use the other weights, save only those: state[{chosen.entry!r}]"
        )
    if len(fitting) > 1:
        raise WeightsError(
            f"{where}: the file contains the network {len(fitting)} times, {' and '.join(map(str, fitting))}; "
            f"save only the one to use, for example {_expression(chosen)}, where state is the loaded file"
        )
    net.load_state_dict(chosen.tensors)
    return chosen


def _expression(candidate: Candidate) -> str:
    """Return the Python expression that selects a candidate from ``state``, the loaded file."""
    table = f"state[{candidate.entry!r}]" if candidate.entry else "state"
    if not candidate.prefix:
        return table
    return (
        f"{{name.removeprefix({candidate.prefix!r}): tensor for name, tensor in "
        f"timm.models.clean_state_dict({table}).items() if name.startswith({candidate.prefix!r})}}"
    )


def _find_candidates(net: nn.Module, entry: str, state: dict[str, torch.Tensor]) -> list[Candidate]:
    """Return a table of tensors as it is, or, if that does not fit, under each possible prefix, the best first."""

    def candidate(prefix: str) -> Candidate:
        found = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        tensors = _convert(net, found)
        return Candidate(entry, prefix, _input_size_of(net, found), tensors, _find_problems(net, tensors))

    plain = candidate("")
    prefixes = [] if plain.fits else _find_prefixes(net, state)
    return [candidate(prefix) for prefix in prefixes] or [plain]


def _find_prefixes(net: nn.Module, state: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the prefixes under which more than half of the network's names are found, the most complete first.

    Returns none if more than half are found without a prefix: then a prefix is not what is wrong.
    """
    want = net.state_dict()
    found = Counter(
        name[:start]
        for name in state
        for start in (0, *(dot.end() for dot in re.finditer(r"\.", name)))
        if name[start:] in want
    )
    prefixes = [prefix for prefix, count in found.most_common() if 2 * count > len(want)]
    return [] if "" in prefixes else prefixes


def _convert(net: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Convert tensors to the form of a network, if timm knows how, and replace a classifier that does not fit."""
    want, patches = net.state_dict(), state.get(_PATCHES)
    state = dict(_convert_by_timm(net, state) if any(_find_problems(net, state)) else state)
    # timm also resamples patch embeddings of another patch size, but that is another network.
    if patches is not None and _PATCHES in want and patches.ndim == want[_PATCHES].ndim == 4:
        state[_PATCHES] = patches
    # A fine-tuned network has another classifier, which no tap reads.
    for name in classifier_tensors(net, state):
        if name not in want or name not in state or state[name].shape != want[name].shape:
            state.pop(name, None)
            if name in want:
                state[name] = want[name]
    return state


def _convert_by_timm(net: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Apply timm's conversion of checkpoints from other code: names, fused matrices, position tables."""
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        return dict(convert(dict(state), net))
    except Exception:  # written for the checkpoints it knows; what does not fit is reported afterwards
        return state


def _find_problems(net: nn.Module, state: Mapping[str, torch.Tensor]) -> _Problems:
    want = net.state_dict()
    return _Problems(
        missing=[f"{name} is missing" for name in want if name not in state],
        unexpected=[f"{name} is not part of the network" for name in state if name not in want],
        shapes=[
            f"{name} has shape {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
            for name, tensor in want.items()
            if name in state and state[name].shape != tensor.shape
        ],
    )


def _explain_misfit(spec: ModelSpec, candidates: list[Candidate], tables: Mapping[str, object]) -> str:
    """Describe what does not fit in the closest candidate, and name the other tables of the file."""

    def distance(candidate: Candidate) -> tuple[int, int]:
        return len(candidate.problems.missing) + len(candidate.problems.shapes), -len(candidate.tensors)

    nearest = min(candidates, key=distance)
    kwargs = f" with kwargs {dict(spec.kwargs)}" if spec.kwargs else ""
    at = f" ({nearest})" if nearest.entry or nearest.prefix else ""
    problems = "; ".join(_shorten(kind) for kind in nearest.problems if kind)
    others = [repr(entry) for entry in tables if entry != nearest.entry]
    more = f". The file also has tensors in {', '.join(others)}" if others else ""
    return f"the tensors do not match the architecture {spec.architecture}{kwargs}{at}: {problems}{more}"


def _shorten(problems: list[str]) -> str:
    return "; ".join(problems[:3]) + (f" and {len(problems) - 3} more" if len(problems) > 3 else "")


def _input_size_of(net: nn.Module, state: Mapping[str, torch.Tensor]) -> int:
    """Return the input size that position embeddings were made for if it is not the network's, else 0.

    Position embeddings are those of prefix tokens, followed by those of a square of patches.
    """
    embed, found = getattr(net, "patch_embed", None), state.get("pos_embed")
    patches, size = getattr(embed, "num_patches", None), getattr(embed, "img_size", None)
    if not patches or not size or found is None or found.ndim != 3:
        return 0
    side, own = isqrt(found.shape[1]), isqrt(patches)
    return 0 if side == own else side * int(size[0]) // own


def check_sha256(path: Path, spec: ModelSpec, where: str, sha256: str | None) -> None:
    """Raise WeightsError if the SHA-256 of a file is not the given one, unless that is None."""
    if sha256 is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise WeightsError(
            f"{where}: SHA-256 is {found}, expected {sha256}. The file is damaged or was replaced; reinstall "
            f"probebench, or pass another checkpoint explicitly with --probe-weights {spec.name}=FILE"
        )
