"""The tables of tensors in a checkpoint of one's own, read without running anything that the file holds."""

from __future__ import annotations

import pickle
from argparse import Namespace
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from probebench.catalog import ModelSpec
from probebench.errors import WeightsError, describe

AVERAGED, PLAIN = ("state_dict_ema", "model_ema"), ("state_dict", "model")
KNOWN = (*AVERAGED, *PLAIN)
"""Entries that training scripts keep weights in, in the order in which timm takes them: averaged ones first."""

_SAVE = "save the state_dict of the network alone: torch.save(net.state_dict(), FILE), or best as safetensors"


def read(path: Path, where: str) -> dict[str, dict[str, torch.Tensor]]:
    """The tables of tensors in a file, by its entry that each is, those of `KNOWN` first; ``""`` is the file itself.

    What torch's own wrappers put before names is dropped.

    Args:
        path: a safetensors file, by its ending, or else a torch file
        where: what to call it in errors

    Raises:
        WeightsError: if it cannot be read, holds other than plain data, or no table
    """
    from timm.models import clean_state_dict

    if path.suffix == ".safetensors":
        try:
            return {"": dict(clean_state_dict(load_file(path)))}
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{where}: not a readable safetensors file, or cut short ({error})") from error
    content = _plain(path, where)
    entries = content if isinstance(content, Mapping) else {}
    order = [*(key for key in KNOWN if key in entries), *(key for key in entries if key not in KNOWN)]
    tables = {"": content} if _is_table(content) else {key: entries[key] for key in order if _is_table(entries[key])}
    if not tables:
        raise WeightsError(f"{where}: no dictionary of tensors in it, but {_held(content)}; {_SAVE}")
    # Torch's AveragedModel counts its updates among its tensors.
    return {
        key: {name: each for name, each in clean_state_dict(table).items() if name != "n_averaged"}
        for key, table in tables.items()
    }


def _plain(path: Path, where: str) -> Any:
    safe_globals = getattr(torch.serialization, "safe_globals", None)
    try:
        # timm's training script keeps its arguments in one, which holds nothing that runs.
        with nullcontext() if safe_globals is None else safe_globals([Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, pickle and zipfile raise many kinds
        # Torch's words for what it refuses advise to read it all the same.
        refused = isinstance(error, pickle.UnpicklingError)
        reason = _objects(path) if refused else describe(error)
        raise WeightsError(
            f"{where}: not a torch file of plain tensors, or cut short{f' ({reason})' if reason else ''}. "
            f"Python objects are never loaded: {_SAVE}"
        ) from error


def _objects(path: Path) -> str:
    """The Python objects in a file that are not loaded, as far as torch finds out."""
    try:
        return ", ".join(torch.serialization.get_unsafe_globals_in_checkpoint(path)[:3])
    except Exception:  # a torch that has no such function, or a file that is none
        return ""


def _is_table(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(name, str) and isinstance(each, torch.Tensor) for name, each in value.items())
    )


def _held(content: object) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    held = [f"{key!r} ({type(value).__name__})" for key, value in content.items()]
    return ", ".join(held[:5]) + (f" and {len(held) - 5} more" if len(held) > 5 else "") if held else "nothing"


def own_file(spec: ModelSpec, instead: Path | None = None) -> Path | None:
    """The file of one's own that a network's weights are read from; None for a network without.

    Args:
        instead: one that replaces what the spec names

    Raises:
        WeightsError: if it is not there
    """
    path = Path(spec.checkpoint) if instead is None and spec.checkpoint is not None else instead
    if path is None or path.is_file():
        return path
    what = "the path"
    if instead is None:
        what = "`checkpoint` of its spec, which starts from the directory that pytest is started in"
    raise WeightsError(f"weights of model {spec.name!r} ({path.absolute()}): no such file; correct {what}")
