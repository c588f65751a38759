"""Read the tables of tensors in a user's checkpoint, without running anything in it.

What a file is says its first bytes, not its name.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from probebench._files import expand_path
from probebench._format import list_some
from probebench.catalog import ModelSpec
from probebench.errors import WeightsError, describe
from probebench.fetch.snapshots import parts_of
from probebench.models.unpickling import StandIn, load_pickle, load_torch, load_torchscript

AVERAGED, PLAIN = ("state_dict_ema", "model_ema"), ("state_dict", "model")
KNOWN = (*AVERAGED, *PLAIN)
"""Entries in which training scripts store weights, in timm's order of precedence: averaged (EMA) weights first."""

Table = dict[str, torch.Tensor]

_SAVE = "save only the state_dict of the network: torch.save(net.state_dict(), FILE), or better as safetensors"
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
_DEPTH = 3  # entries in entries, as in {"state": {"model": ...}}

_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_WHOLE = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")

_READERS: dict[str, Callable[[Path], Any]] = {
    "safetensors": load_file,
    "torch": load_torch,
    "TorchScript": load_torchscript,
    "pickle": load_pickle,
}

_FOREIGN = {
    b"version https://git-lfs": "a pointer of Git LFS, not the weights; run `git lfs pull` where it was cloned",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"7z\xbc\xaf": "a 7-Zip archive; unpack it first",
    b"\xfd7zXZ": "an xz archive; unpack it first",
    b"BZh": "a bzip2 archive; unpack it first",
    b"Rar!": "a RAR archive; unpack it first",
    b"\x89HDF": "an HDF5 file, as Keras writes them; weights of TensorFlow are not read",
    b"\x93NUMPY": f"a single array of numpy; {_SAVE}",
}


def read_tables(path: Path, where: str) -> dict[str, Table]:
    """Return the dictionaries of tensors in a checkpoint by their entry, those of `KNOWN` first.

    The entry ``""`` is the file itself; that of a dictionary in others is their keys, with dots between. Arrays of
    numpy become tensors, what is no tensor is left out, and so are the names of torch's wrappers (``module.``,
    ``_orig_mod.``, ...).

    Args:
        path: a file of safetensors, torch.save, TorchScript or pickle, or of the index of a checkpoint in parts; or the
            folder of one, as `save_pretrained` writes it
        where: name of the file in error messages

    Raises:
        WeightsError: if it cannot be read, or has no dictionary of tensors
    """
    if path.is_dir():
        path = _file_of(path, where)
    content = _read(path, where)
    found = dict(_find_tables(content))
    if not found:
        raise WeightsError(f"{where}: {_describe_other(content)}")
    order = [key for key in KNOWN if key in found]
    tables = {key: found[key] for key in (*order, *(key for key in found if key not in KNOWN))}
    return {key: _without_wrappers(table) for key, table in tables.items()}


def _file_of(folder: Path, where: str) -> Path:
    """The file with the weights in a folder."""
    for name in (*_INDICES, *_WHOLE):
        if (folder / name).is_file():
            return folder / name
    if (folder / ".metadata").is_file():
        raise WeightsError(
            f"{where}: a folder of torch's distributed checkpoints; make one file of it: "
            f"python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} FILE"
        )
    found = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".pt", ".pth", ".bin", ".ckpt"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise WeightsError(f"{where}: a folder without a checkpoint in it; name the file with the weights")
    names = list_some((path.name for path in found), 5)
    raise WeightsError(f"{where}: a folder with {len(found)} checkpoints; name one of {names}")


def _read(path: Path, where: str) -> Any:
    """Return the content of a file, by what it is."""
    with path.open("rb") as file:
        start = file.read(512)
    kind = _kind_of(path, start)
    if kind not in (*_READERS, "index"):
        raise WeightsError(f"{where}: {kind}")
    try:
        return _read_parts(path, where) if kind == "index" else _READERS[kind](path)
    except WeightsError:
        raise
    except SafetensorError as error:
        raise WeightsError(f"{where}: not a readable safetensors file, or truncated ({error})") from error
    except Exception as error:  # torch, pickle and zipfile raise many kinds
        reason = f" ({describe(error)})"
        raise WeightsError(f"{where}: a damaged or truncated {kind} file{reason}; get it again") from error


def _kind_of(path: Path, start: bytes) -> str:
    """Return what a file is: a key of `_READERS`, ``index``, or why it cannot be read and what to do."""
    if not start:
        return "the file is empty; get it again"
    for first, said in _FOREIGN.items():
        if start.startswith(first):
            return said
    if start.startswith(b"PK"):
        return _kind_of_zip(path)
    if start[257:262] == b"ustar":
        return "a tar archive; unpack it first"
    if start[8:9] == b"{":
        return "safetensors"
    text = start.lstrip().lower()
    if text.startswith(b"{"):
        return "index"
    if text.startswith(b"<"):
        return "a web page, not a checkpoint; download the file itself"
    if start.startswith(b"\x80") and b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19" in start[:20]:
        return "torch"  # of the format before zip
    if start.startswith(b"\x80"):
        return "pickle"
    if path.suffix == ".safetensors":
        return "safetensors"  # which then says what is wrong with it
    return f"neither a safetensors file nor one of torch.save: it begins with {start[:12]!r}"


def _names_in_zip(path: Path) -> list[str]:
    """Return the names in a zip archive; none if it is no such file, or a damaged one."""
    if not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def is_npz(path: Path) -> bool:
    """Return whether a file is an archive of numpy arrays."""
    return path.is_file() and any(name.endswith(".npy") for name in _names_in_zip(path))


def _kind_of_zip(path: Path) -> str:
    if not zipfile.is_zipfile(path):
        return "a truncated torch file; get it again"
    if is_npz(path):
        return "arrays of numpy (.npz), not a checkpoint of torch"
    names = _names_in_zip(path)
    if not any(name.endswith("/data.pkl") for name in names):
        return "a zip archive, not a file of torch.save; unpack it first"
    return "TorchScript" if any(name.endswith("/constants.pkl") for name in names) else "torch"


def _read_parts(path: Path, where: str) -> Table:
    """The tensors of all parts that an index names."""
    tensors: Table = {}
    for name in parts_of(path, where):
        if not (path.parent / name).is_file():
            raise WeightsError(f"{where}: {name}, a part of the checkpoint, is not beside its index")
        tensors |= _read(path.parent / name, where)
    return tensors


def _find_tables(content: Any, entry: str = "", depth: int = 0) -> Iterator[tuple[str, Table]]:
    """Every dictionary with tensors in a file, and its entry."""
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        return
    table = {key: tensor for key, value in content.items() if (tensor := _as_tensor(value)) is not None}
    if table:
        yield entry, table
    if depth < _DEPTH:
        for key, value in content.items():
            yield from _find_tables(value, f"{entry}.{key}" if entry else key, depth + 1)


def _as_tensor(value: object) -> torch.Tensor | None:
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return torch.from_numpy(np.array(value))
    return value if isinstance(value, torch.Tensor) else None


def _without_wrappers(table: Table) -> Table:
    """The tensors under their names without those of torch's wrappers, wherever they stand in a name."""
    # AveragedModel of torch stores its update count as a tensor.
    return {
        ".".join(part for part in name.split(".") if part not in _WRAPPERS): tensor
        for name, tensor in table.items()
        if name != "n_averaged"
    }


def _describe_other(content: object) -> str:
    """Say what a file without tensors holds, and what to do."""
    objects = [content, *(content.values() if isinstance(content, Mapping) else ())]
    for each in objects:
        if isinstance(each, StandIn) and isinstance(each.state, Mapping) and "_modules" in each.state:
            return (
                f"the file holds the network as a Python object ({_kind_name(each)}), and Python objects are never "
                f"loaded: {_SAVE}"
            )
    return f"the file contains no dictionary of tensors, but {_describe(content)}; {_SAVE}"


def _kind_name(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__name__}" if isinstance(value, StandIn) else kind.__name__


def _describe(content: object) -> str:
    """Describe the content of a file without tables in a few words."""
    if not isinstance(content, Mapping):
        return f"a {_kind_name(content)}"
    held = [f"{key!r} ({_kind_name(value)})" for key, value in content.items()]
    return list_some(held, 5) if held else "nothing"


def split_key(given: Path) -> tuple[Path, str | None]:
    """Part ``FILE#ENTRY``, as a command line names one of several networks in a file, into the file and the entry."""
    file, mark, entry = str(given).rpartition("#")
    return (Path(file), entry) if mark and entry and not expand_path(str(given)).exists() else (given, None)


def own_file(spec: ModelSpec, instead: Path | None = None) -> Path | None:
    """Return the user's file or folder with the weights of a model; None if its weights come from elsewhere.

    ``~`` and environment variables in its path are expanded.

    Args:
        instead: a file that replaces the one in the spec, or ``FILE#ENTRY``

    Raises:
        WeightsError: if it does not exist
    """
    given = spec.checkpoint if instead is None else str(split_key(instead)[0])
    if given is None:
        return None
    path = expand_path(given)
    if path.exists():
        return path
    what = "the path"
    if instead is None:
        what = "`checkpoint` of its spec, which is relative to the directory that pytest is started in"
    hint = ""
    if re.match(r"https?://|hf[-_]hub:|hf:", given):
        hint = "; an address is not a path: download it, and name the file"
    raise WeightsError(f"weights of model {spec.name!r} ({path.absolute()}): no such file; correct {what}{hint}")
