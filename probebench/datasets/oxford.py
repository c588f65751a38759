"""Read Flowers102 and Pets of Oxford's Visual Geometry Group."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from probebench.datasets import Split
from probebench.datasets.files import find_listed
from probebench.datasets.lists import Line, class_names, read_list
from probebench.errors import DataError
from probebench.fetch.local import data_root, require

AGAIN = "get it again from the official source"


def flowers102() -> tuple[list[str], Split, Split]:
    """Read Oxford Flowers102: class names, train (2,040: the official train and validation sets), test (6,149)."""
    root = data_root() / "flowers-102"
    require(root, ["jpg", "imagelabels.mat", "setid.mat"])
    (labels,) = _matrix(root / "imagelabels.mat", "labels")
    first, validation, test = _matrix(root / "setid.mat", "trnid", "valid", "tstid")
    classes = files(__package__).joinpath("flowers102.txt").read_text(encoding="utf-8").splitlines()
    splits = []
    for ids in (np.concatenate([first, validation]), test):
        if ids.size and not (ids.min() >= 1 and ids.max() <= len(labels)):
            raise DataError(
                f"{root / 'setid.mat'} lists images {ids.min()} to {ids.max()}, but imagelabels.mat has labels of "
                f"1 to {len(labels)}; get both again from the official source"
            )
        names = [f"jpg/image_{number:05d}.jpg" for number in ids]
        splits.append(Split(find_listed(root, names), labels[ids - 1] - 1))  # both count from 1
    return classes, splits[0], splits[1]


def _matrix(path: Path, *names: str) -> list[npt.NDArray[np.int64]]:
    """Read vectors of integers from a MATLAB file by name."""
    from scipy.io import loadmat

    try:
        found = loadmat(path)
    except Exception as error:  # scipy raises many kinds for a damaged file
        raise DataError(f"{path} is not a valid MATLAB file ({error}); it may be truncated: {AGAIN}") from error
    vectors = []
    for name in names:
        vector = found.get(name)
        if vector is None or vector.dtype.kind not in "iu":
            held = "nothing" if vector is None else f"{vector.dtype}"
            raise DataError(f"{path} should contain integers under {name!r}, but contains {held}; {AGAIN}")
        vectors.append(vector.ravel().astype(np.int64))
    return vectors


def pets() -> tuple[list[str], Split, Split]:
    """Read Oxford-IIIT Pet: class names of the 37 breeds, train (3,680: the official trainval), test (3,669)."""
    root = data_root() / "oxford-iiit-pet"
    require(root, ["images", "annotations/trainval.txt", "annotations/test.txt"])
    train, test = (read_list(root / "annotations" / f"{split}.txt", columns=4) for split in ("trainval", "test"))
    classes = class_names(((_breed(line), line) for line in (*train, *test)), first=1)
    splits = [
        Split(
            find_listed(root, [f"images/{line.name}.jpg" for line in lines]),
            np.array([line.label - 1 for line in lines], dtype=np.int64),
        )
        for lines in (train, test)
    ]
    return classes, splits[0], splits[1]


def _breed(line: Line) -> str:
    """Return the breed in a name such as ``great_pyrenees_12``."""
    breed, _, number = line.name.rpartition("_")
    if not breed or not number.isdecimal():
        raise DataError(f"{line.where}: expected a name such as great_pyrenees_12, got {line.name!r}; {AGAIN}")
    return breed.replace("_", " ")
