"""Read PatchCamelyon from its HDF5 files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from probebench.datasets import Split
from probebench.errors import DataError, ProbebenchError
from probebench.fetch.local import data_root, require

SIDE = 96
PARTS = ("train", "valid", "test")
AGAIN = "delete it and unpack its archive again"


def pcam() -> tuple[list[str], Split, Split]:
    """Read PatchCamelyon: class names, train (294,912: the official train and validation sets), test (32,768).

    Raises:
        ProbebenchError: if h5py is not installed
    """
    root = data_root() / "pcam"
    files = {part: [root / f"camelyonpatch_level_2_split_{part}_{kind}.h5" for kind in "xy"] for part in PARTS}
    require(root, [path.name for pair in files.values() for path in pair])
    h5py = _h5py()
    labels = {part: _labels(h5py, y, len(_images(h5py, x))) for part, (x, y) in files.items()}
    train = Split(Patches([files["train"][0], files["valid"][0]]), np.concatenate([labels["train"], labels["valid"]]))
    return ["no metastasis", "metastasis"], train, Split(Patches([files["test"][0]]), labels["test"])


class Patches:
    """Images of several files as one lazy sequence: uint8 arrays of shape (96, 96, 3)."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self._open: list[Any] = []
        h5py = _h5py()
        self._ends = np.cumsum([len(_images(h5py, path)) for path in paths])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int, /) -> npt.NDArray[np.uint8]:
        """Read an image. Raises DataError if that part of the file cannot be read."""
        if not self._open:
            self._open = [_images(_h5py(), path) for path in self.paths]
        part = int(np.searchsorted(self._ends, index, side="right"))
        start = int(self._ends[part - 1]) if part else 0
        try:
            return np.asarray(self._open[part][index - start])
        except (OSError, RuntimeError) as error:
            raise DataError(f"{self.paths[part]}: image {index - start} cannot be read ({error}); {AGAIN}") from error

    def __getstate__(self) -> dict[str, Any]:
        # Open files stay in the process that opened them.
        return self.__dict__ | {"_open": []}


def _images(h5py: ModuleType, path: Path) -> Any:
    images = _array(h5py, path, "x")
    if images.dtype != np.uint8 or images.shape[1:] != (SIDE, SIDE, 3):
        raise DataError(
            f"{path}: x must be uint8 of shape (n, {SIDE}, {SIDE}, 3), got {images.dtype} of shape {images.shape}; "
            f"{AGAIN}"
        )
    return images


def _labels(h5py: ModuleType, path: Path, count: int) -> npt.NDArray[np.int64]:
    labels = _array(h5py, path, "y")
    if labels.dtype.kind not in "iu" or labels.shape != (count, 1, 1, 1):
        raise DataError(
            f"{path}: y must be integers of shape ({count}, 1, 1, 1), got {labels.dtype} of shape {labels.shape}; "
            f"{AGAIN}"
        )
    return np.asarray(labels[:]).ravel().astype(np.int64)


def _array(h5py: ModuleType, path: Path, name: str) -> Any:
    try:
        found = h5py.File(path, "r")[name]
    except (OSError, KeyError) as error:
        raise DataError(f"{path} is not a valid HDF5 file with {name!r} in it ({error}); {AGAIN}") from error
    if not isinstance(found, h5py.Dataset):
        raise DataError(f"{path}: {name} is not an array; {AGAIN}")
    return found


def _h5py() -> ModuleType:
    try:
        import h5py
    except ImportError:
        raise ProbebenchError("reading PatchCamelyon needs h5py: pip install 'probebench[pcam]'") from None
    module: ModuleType = h5py
    return module
