"""Read SUN397, split by the first of its official partitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from probebench.datasets import Split
from probebench.datasets.files import find_listed
from probebench.errors import DataError
from probebench.fetch.local import data_root, require

AGAIN = "unpack the partitions again"


def sun397() -> tuple[list[str], Split, Split]:
    """Read SUN397: class names, train (19,850), test (19,850), 50 images per class each."""
    root = data_root() / "SUN397"
    require(root, ["a", "ClassName.txt", "Training_01.txt", "Testing_01.txt"])
    classes = [line.strip("/") for line in _lines(root / "ClassName.txt")]
    number = {name: label for label, name in enumerate(classes)}
    splits = []
    for path in (root / "Training_01.txt", root / "Testing_01.txt"):
        names = [line.strip("/") for line in _lines(path)]
        folders = [name.rpartition("/")[0] for name in names]
        if strange := [folder for folder in folders if folder not in number]:
            raise DataError(f"{path} lists images in {strange[0]!r}, which is not a class in ClassName.txt; {AGAIN}")
        splits.append(Split(find_listed(root, names), np.array([number[folder] for folder in folders], dtype=np.int64)))
    # Without the letter that the folders are sorted under: a/apartment_building/outdoor.
    return [name.partition("/")[2].replace("_", " ").replace("/", ", ") for name in classes], splits[0], splits[1]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read ({error}); {AGAIN}") from error
