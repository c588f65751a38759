"""Read the pickles of CIFAR without executing code that a pickle could contain."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np

from probebench.errors import DataError

AGAIN = "delete it and unpack its archive again"


def _encode(text: str, encoding: str) -> bytes:
    """Restore bytes as Python 3 writes them in old pickle protocols. Refuses other codecs."""
    if encoding != "latin1":
        raise ValueError(f"codec {encoding!r}")
    return text.encode("latin1")


# Under the names used by Python 2, Python 3 and the releases of numpy.
_reconstruct = np.empty(0).__reduce__()[0]
_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file, encoding="latin1")  # required by numpy for arrays pickled by Python 2
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise DataError(
                f"{self._path} refers to {module}.{name}, which a dataset does not need; nothing was executed. "
                f"Do not trust this file: {AGAIN}, from the official source"
            ) from None


def load_pickle(path: Path) -> dict[str, Any]:
    """Read a pickled dictionary of strings, numbers, lists and numpy arrays.

    Raises:
        DataError: if the file is truncated, or contains anything else
    """
    try:
        with path.open("rb") as file:
            record = _Unpickler(file, path).load()
    except DataError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path} is not a valid pickle ({reason}); it may be truncated: {AGAIN}") from error
    if not isinstance(record, dict):
        raise DataError(f"{path} contains a {type(record).__name__} instead of a dictionary; {AGAIN}")
    return record
