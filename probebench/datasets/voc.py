"""Read the classification task of PASCAL VOC: photographs with any number of 20 kinds of objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from probebench.datasets import Split
from probebench.datasets.files import find_listed
from probebench.errors import DataError
from probebench.fetch.local import data_root, require

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
LISTS = "ImageSets/Main"
AGAIN = "get it again from the official source"

# In the lists an image that shows a kind of object only where it is hard to see is 0; the official evaluation leaves
# it out for that kind.
_LABELS = {"1": 1, "-1": 0, "0": -1}


def voc2007() -> tuple[list[str], Split, Split]:
    """Read VOC2007: names of the kinds, train (5,011: the official train and validation sets), test (4,952).

    Labels are int8 of shape (n, 20), -1 where an object is hard to see.
    """
    root = data_root() / "VOCdevkit" / "VOC2007"
    require(root, ["JPEGImages", *(f"{LISTS}/{name}_{part}.txt" for part in ("trainval", "test") for name in CLASSES)])
    splits = []
    for part in ("trainval", "test"):
        columns, names = [], None
        for kind in CLASSES:
            path = root / LISTS / f"{kind}_{part}.txt"
            listed, labels = _read_list(path)
            if names is not None and listed != names:
                raise DataError(f"{path} lists other images than {CLASSES[0]}_{part}.txt; {AGAIN}")
            names = listed
            columns.append(labels)
        files = find_listed(root, [f"JPEGImages/{name}.jpg" for name in names or []])
        splits.append(Split(files, np.array(columns, dtype=np.int8).T))
    return list(CLASSES), splits[0], splits[1]


def _read_list(path: Path) -> tuple[list[str], list[int]]:
    """Return the images of a list, and for each whether it shows the kind: 1, 0, or -1 if that is hard to see.

    Raises:
        DataError: if the file cannot be read, or a line has another format
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); {AGAIN}") from error
    names, labels = [], []
    for number, line in enumerate(lines, start=1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) != 2 or parts[1] not in _LABELS:
            raise DataError(
                f"{path}, line {number}: expected the number of an image and 1, 0 or -1, got {line[:80]!r}; {AGAIN}"
            )
        names.append(parts[0])
        labels.append(_LABELS[parts[1]])
    return names, labels
