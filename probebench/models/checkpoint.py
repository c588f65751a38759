"""Read the tables of tensors in a user's checkpoint file, without executing anything in it."""

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
"""Entries in which training scripts store weights, in timm's order of precedence: averaged (EMA) weights first."""

_SAVE = "save only the state_dict of the network: torch.save(net.state_dict(), FILE), or better as safetensors"


def read_tables(path: Path, where: str) -> dict[str, dict[str, torch.Tensor]]:
    """Return the dictionaries of tensors in a file by their entry: those of `KNOWN` first; ``""`` is the file itself.

    Prefixes that torch's wrappers add to names (``module.``, ``_orig_mod.``) are removed.

    Args:
        path: a safetensors file if its suffix says so, else a torch file
        where: name of the file in error messages

    Raises:
        WeightsError: if the file cannot be read, contains Python objects, or has no dictionary of tensors
    """
    from timm.models import clean_state_dict

    if path.suffix == ".safetensors":
        try:
            return {"": dict(clean_state_dict(load_file(path)))}
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{where}: not a readable safetensors file, or truncated ({error})") from error
    content = _load_plain(path, where)
    entries = content if isinstance(content, Mapping) else {}
    order = [*(key for key in KNOWN if key in entries), *(key for key in entries if key not in KNOWN)]
    tables = {"": content} if _is_table(content) else {key: entries[key] for key in order if _is_table(entries[key])}
    if not tables:
        raise WeightsError(f"{where}: the file contains no dictionary of tensors, but {_describe(content)}; {_SAVE}")
    # AveragedModel of torch stores its update count as a tensor.
    return {
        key: {name: each for name, each in clean_state_dict(table).items() if name != "n_averaged"}
        for key, table in tables.items()
    }


def _load_plain(path: Path, where: str) -> Any:
    """Load a torch file of plain data only."""
    safe_globals = getattr(torch.serialization, "safe_globals", None)
    try:
        # timm's training script stores its arguments in a Namespace, which executes nothing.
        with nullcontext() if safe_globals is None else safe_globals([Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, pickle and zipfile raise many kinds
        # torch's own message for refused objects advises loading them anyway.
        refused = isinstance(error, pickle.UnpicklingError)
        reason = _unsafe_objects(path) if refused else describe(error)
        raise WeightsError(
            f"{where}: not a torch file of plain tensors, or truncated{f' ({reason})' if reason else ''}. "
            f"Python objects are never loaded: {_SAVE}"
        ) from error


def _unsafe_objects(path: Path) -> str:
    """Name up to three Python objects in a file that are not loaded, if torch can list them."""
    try:
        return ", ".join(torch.serialization.get_unsafe_globals_in_checkpoint(path)[:3])
    except Exception:  # an older torch without this function, or not a torch file
        return ""


def _is_table(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(name, str) and isinstance(each, torch.Tensor) for name, each in value.items())
    )


def _describe(content: object) -> str:
    """Describe the content of a file without tables in a few words."""
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    held = [f"{key!r} ({type(value).__name__})" for key, value in content.items()]
    return ", ".join(held[:5]) + (f" and {len(held) - 5} more" if len(held) > 5 else "") if held else "nothing"


def own_file(spec: ModelSpec, instead: Path | None = None) -> Path | None:
    """Return the user's file with the weights of a model; None if its weights come from elsewhere.

    Args:
        instead: a file that replaces the one in the spec

    Raises:
        WeightsError: if the file does not exist
    """
    path = Path(spec.checkpoint) if instead is None and spec.checkpoint is not None else instead
    if path is None or path.is_file():
        return path
    what = "the path"
    if instead is None:
        what = "`checkpoint` of its spec, which is relative to the directory that pytest is started in"
    raise WeightsError(f"weights of model {spec.name!r} ({path.absolute()}): no such file; correct {what}")
