"""Find the tensors of a network among those of a checkpoint, and load them.

A checkpoint is a set of tables of tensors (see `probebench.models.checkpoint`). Every table gives candidates: the table
as it is, or, if that does not fit, under the names of other code (see `probebench.models.names`), and without a prefix
that training code put before them. A candidate fits when, after conversion to timm's form, it has exactly the network's
tensors, and every tensor of the file is used or known to be no part of the network.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path

import torch
from torch import nn

from probebench._format import list_some
from probebench.catalog import ModelSpec
from probebench.errors import WeightsError, unknown
from probebench.models import checkpoint
from probebench.models.conversion import NO_PART, PERIODS, Problems, convert, find_lost, find_problems
from probebench.models.jax_weights import read_npz
from probebench.models.names import families_of, rename

_POSITIONS = ("pos_embed", "visual.positional_embedding", "module.visual.positional_embedding")

_PUBLISHED = (
    ("teacher", "student", "DINO, iBOT and DINOv2 evaluate the teacher"),
    ("target_encoder", "encoder", "I-JEPA evaluates the target encoder"),
    ("base_encoder", "momentum_encoder", "MoCo v3 evaluates the base encoder"),
    ("online", "target", "BYOL evaluates the online network"),
)
"""Names of two copies of a network, the one that is evaluated first, and what says so (the training code of each)."""


@dataclass(frozen=True)
class Candidate:
    """Tensors of a file that may be the network's.

    Attributes:
        entry, prefix, made_for, family, left_out, copies: see `probebench.models.build.Model`
        tensors: converted to the form of the network
        problems: differences from the network
        periods: of rotary positions, if the file has others than the network
    """

    entry: str
    prefix: str
    made_for: int
    tensors: dict[str, torch.Tensor]
    problems: Problems
    family: str = ""
    left_out: tuple[str, ...] = ()
    copies: str = ""
    periods: torch.Tensor | None = None

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
    `checkpoint.KNOWN`. Any other entry is used only if no other place in the file fits as well, or if its copies are
    those of a method that says which of them it evaluates.

    Raises:
        WeightsError: if the file cannot be read or has another SHA-256, if no candidate fits, if averaged weights do
            not fit and others do, or if several candidates fit and none takes precedence
    """
    where = f"weights of model {spec.name!r} ({path})"
    check_sha256(path, spec, where, sha256)
    tables = {"": read_npz(net, path, where)} if checkpoint.is_npz(path) else checkpoint.read_tables(path, where)
    wanted = _select(spec, tables, where)
    prefix = spec.checkpoint_prefix
    if prefix is not None and not any(name.startswith(prefix) for state in wanted.values() for name in state):
        raise WeightsError(f"{where}: no tensor of it has a name with the prefix {prefix!r}, its checkpoint_prefix")
    candidates = [each for entry, state in wanted.items() for each in _find_candidates(net, entry, state, prefix)]
    fitting = [candidate for candidate in candidates if candidate.fits]
    if not fitting:
        raise WeightsError(f"{where}: {_explain_misfit(spec, candidates, wanted)}")
    places = fitting
    if fitting[0].entry in checkpoint.KNOWN:
        fitting = [candidate for candidate in fitting if candidate.entry == fitting[0].entry]
    fitting, said = _choose_copy(fitting)
    chosen = fitting[0]
    averaged = next((entry for entry in checkpoint.AVERAGED if entry in wanted), chosen.entry)
    if averaged != chosen.entry:
        reason = _explain_misfit(spec, [candidate for candidate in candidates if candidate.entry == averaged], {})
        raise WeightsError(
            f"{where}: the checkpoint contains EMA weights, which take precedence, but {reason}. "
            f"To use the other weights, name their entry: checkpoint_key={chosen.entry!r} in its ModelSpec"
        )
    if len(fitting) > 1:
        keys = f"checkpoint_key={chosen.entry!r}" if len({each.entry for each in fitting}) > 1 else ""
        key = keys or f"checkpoint_prefix={chosen.prefix!r}"
        raise WeightsError(
            f"{where}: the file contains the network {len(fitting)} times, {' and '.join(map(str, fitting))}; "
            f"name the one to use in its ModelSpec, for example {key}"
        )
    others = [str(each) for each in places if each is not chosen and not _equal(each, chosen)]
    if others and not said:
        said = f"entries are tried in the order {', '.join(checkpoint.KNOWN)}"
    net.load_state_dict(chosen.tensors)
    if chosen.periods is not None:
        net.get_buffer(PERIODS).copy_(chosen.periods)
    copies = f"their file has another copy of the network {' and '.join(others)} ({said})" if others else ""
    return replace(chosen, copies=copies)


def _select(spec: ModelSpec, tables: dict[str, checkpoint.Table], where: str) -> dict[str, checkpoint.Table]:
    """The tables of a file, or the one that the spec names."""
    key = spec.checkpoint_key
    if key is None:
        return tables
    if key not in tables:
        raise unknown(f"entry of {where},", key, list(tables))
    return {key: tables[key]}


def _choose_copy(fitting: list[Candidate]) -> tuple[list[Candidate], str]:
    """Choose the copy of the network that its method evaluates, and say which method that is.

    Returns:
        the copy, or all different ones if no method says which counts
    """
    different = [fitting[0]]
    different += [each for each in fitting[1:] if not any(_equal(each, other) for other in different)]
    for first, second, said in _PUBLISHED:
        taken = [each for each in different if first in _parts_of(each)]
        others = [each for each in different if second in _parts_of(each)]
        if len(taken) == 1 and len(taken) + len(others) == len(different) and others:
            return taken, said
    return different, ""


def _parts_of(candidate: Candidate) -> list[str]:
    return f"{candidate.entry}.{candidate.prefix}".split(".")


def _equal(one: Candidate, other: Candidate) -> bool:
    return all(tensor.equal(other.tensors[name]) for name, tensor in one.tensors.items())


def _find_candidates(net: nn.Module, entry: str, state: dict[str, torch.Tensor], given: str | None) -> list[Candidate]:
    """Return a table of tensors as it is, or, if that does not fit, by other names and prefixes, the best first.

    Args:
        given: the only prefix to try, or None
    """
    plain = _candidate(net, entry, state, given or "", "")
    if plain.fits:
        return [plain]
    found = (
        [_candidate(net, entry, state, prefix, "") for prefix in _find_prefixes(net, state)] if given is None else []
    )
    for family in families_of(state):
        renamed = rename(family, state)
        prefixes = ["", *_find_prefixes(net, renamed)] if given is None else [given]
        found += [_candidate(net, entry, renamed, prefix, family.name) for prefix in prefixes]
    return [each for each in found if each.fits] or found or [plain]


def _candidate(net: nn.Module, entry: str, state: dict[str, torch.Tensor], prefix: str, family: str) -> Candidate:
    found = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    outside = [name for name in state if not name.startswith(prefix)]
    beside, inside = _set_aside(net, found)
    tensors = convert(net, inside)
    problems = find_problems(net, tensors)
    if not any(problems):
        lost = find_lost(net, inside, tensors)
        problems.unexpected.extend(f"{name} has no place in the network" for name in lost)
    left_out = tuple(sorted([*outside, *(prefix + name for name in beside)]))
    size, periods = _input_size_of(net, found), _other_periods(net, found)
    return Candidate(entry, prefix, size, tensors, problems, family, left_out, periods=periods)


def _other_periods(net: nn.Module, state: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """The periods of rotary positions in a file of DINOv3, which timm leaves out, if they are not those of the network.

    A published file has them rounded to bfloat16.
    """
    found, own = state.get("rope_embed.periods"), dict(net.named_buffers()).get(PERIODS)
    if found is None or own is None or found.shape != own.shape:
        return None
    return None if torch.allclose(found.double(), own.double(), rtol=2**-8) else found


def _set_aside(
    net: nn.Module, state: dict[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Part tensors into those of heads, decoders and the like, which are no part of the network, and the others."""
    want = net.state_dict()
    own = {name.partition(".")[0] for name in want}
    if not own & {name.partition(".")[0] for name in state}:
        return {}, state  # of other code, which timm converts
    beside = {
        name: tensor
        for name, tensor in state.items()
        if name not in want and name.partition(".")[0] not in own and NO_PART.match(name)
    }
    # timm tells by a mask token what code a file is of.
    kept = {name: tensor for name, tensor in state.items() if name not in beside or name == "mask_token"}
    return beside, kept


def _find_prefixes(net: nn.Module, state: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the prefixes under which more than half of the network's names are found, the most complete first.

    The tensors of CLIP, which timm renames, are known by some of their names. Returns none if most are found without a
    prefix: then a prefix is not what is wrong. A text tower may have half of the names, too.
    """
    want = net.state_dict()
    found = Counter(
        name[:start]
        for name in state
        for start in (0, *(dot.end() for dot in re.finditer(r"\.", name)))
        if name[start:] in want
    )
    prefixes = [prefix for prefix, count in found.most_common() if 2 * count > len(want)]
    clip = {
        name.partition("visual.")[0]
        for name in state
        if re.search(r"(^|\.)visual\.(class_embedding|trunk\.pos_embed|conv1\.weight)$", name)
    }
    if prefixes and not prefixes[0]:
        return []
    return [*(prefix for prefix in prefixes if prefix), *sorted(clip - {"", *prefixes})]


def _explain_misfit(spec: ModelSpec, candidates: list[Candidate], tables: Mapping[str, object]) -> str:
    """Describe what does not fit in the closest candidate, and name the other tables of the file."""

    def distance(candidate: Candidate) -> tuple[int, int]:
        return len(candidate.problems.missing) + len(candidate.problems.shapes), -len(candidate.tensors)

    nearest = min(candidates, key=distance)
    kwargs = f" with kwargs {dict(spec.kwargs)}" if spec.kwargs else ""
    found = [str(nearest)] if nearest.entry or nearest.prefix else []
    found += [f"by the names of {nearest.family}"] if nearest.family else []
    at = f" ({', '.join(found)})" if found else ""
    problems = "; ".join(list_some(kind, separator="; ") for kind in nearest.problems if kind)
    problems += _hint(spec, nearest.problems)
    others = [repr(entry) for entry in tables if entry != nearest.entry]
    more = f". The file also has tensors in {', '.join(others)}" if others else ""
    return f"the tensors do not match the architecture {spec.architecture}{kwargs}{at}: {problems}{more}"


def _hint(spec: ModelSpec, problems: Problems) -> str:
    """Say what to do about differences that many have had; empty for others."""
    missing, unexpected = set(problems.missing), " ".join(problems.unexpected)
    if missing == {"norm.weight is missing", "norm.bias is missing"} and "fc_norm.weight is not" in unexpected:
        return ". The network was tuned with average pooling: kwargs={'global_pool': 'avg'} makes its norm fc_norm"
    if not missing and re.search(r"blocks\.\d+\.attn\.qkv\.bias has no place", unexpected):
        base, _, _ = spec.architecture.partition(".")
        return f". The network has biases of queries and values: {base}_qkvb is the architecture with them"
    part = re.search(r"-(\d{5})-of-(\d{5})\.\w+$", spec.checkpoint or "")
    if part and missing:
        return (
            f". The file is part {int(part[1])} of {int(part[2])}: name the folder or the index (.index.json) instead"
        )
    return ""


def _input_size_of(net: nn.Module, state: Mapping[str, torch.Tensor]) -> int:
    """Return the input size that position embeddings were made for if it is not the network's, else 0.

    Position embeddings are those of prefix tokens, followed by those of a square of patches. Tables of relative
    positions have a row for each of the 2 n - 1 by 2 n - 1 distances in a square of n by n patches, and three for a
    class token.
    """
    embed = getattr(net, "patch_embed", None)
    patches, size = getattr(embed, "num_patches", None), getattr(embed, "img_size", None)
    if not patches or not size:
        return 0
    found = next((state[name] for name in _POSITIONS if name in state), None)
    table = next((state[name] for name in state if name.endswith("relative_position_bias_table")), None)
    if found is not None and found.ndim in (2, 3):
        side = isqrt(found.shape[-2])
    elif table is not None and table.ndim == 2:
        side = (isqrt(len(table)) + 1) // 2
    else:
        return 0
    own = isqrt(patches)
    return 0 if side == own else side * int(size[0]) // own


def check_sha256(path: Path, spec: ModelSpec, where: str, sha256: str | None) -> None:
    """Raise WeightsError if the SHA-256 of a file is not the given one, unless that is None."""
    if sha256 is None:
        return
    if path.is_dir():
        raise WeightsError(f"{where}: sha256 is that of a file, and this is a folder; name the file in it")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise WeightsError(
            f"{where}: SHA-256 is {found}, expected {sha256}. The file is damaged or was replaced; reinstall "
            f"probebench, or pass another checkpoint explicitly with --probe-weights {spec.name}=FILE"
        )
