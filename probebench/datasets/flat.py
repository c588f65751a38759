"""Read a flat folder of test images whose classes are in a file, the key, as ImageNet's validation images are."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from probebench._format import counted
from probebench.datasets import Split
from probebench.datasets.columns import TEST, find_split
from probebench.datasets.files import ImageFiles
from probebench.datasets.folder import class_folders, read_split
from probebench.datasets.labels import number_labels
from probebench.datasets.locate import Locator, is_image
from probebench.datasets.table_files import TABLES, read_table, read_text
from probebench.errors import DataError, Note
from probebench.fetch.local import NotOnDisk

KEY = re.compile(
    r"(val|valid|validation|test)(\.txt|.*(label|synset|truth|solution|map|key).*\.(txt|csv))|LOC_val_solution\.csv"
)
"""Names of keys, at the end of a file's name or after a separator."""

KAGGLE = "PredictionString"
"""The column of ImageNet's keys at Kaggle: the class, and boxes of objects."""


def flat_folder(
    root: str | Path, key: str | Path | None = None, test: str | None = None, *, upright: bool = True
) -> tuple[list[str], Split, Split]:
    """Read training images in one folder per class, and test images in a single folder: class names, train, test.

    The key of the test images has their classes: one in each line, in the order of the images' names; or a name and a
    class in each line; or a table with a header. Classes are names of class folders of the training images, or numbers
    from 0 in their order. The numbers from 1 of ImageNet's development kit need its file ``meta.mat`` beside them.

    Args:
        root: contains ``train`` and ``val`` (or ``test``); relative to the directory that pytest is started in
        key: by default the only file in `root` or in the folder of test images that is named like one
        test: the folder with the test images, by default the one that there is
        upright: whether to apply the EXIF orientation

    Raises:
        NotOnDisk: if a folder or the key does not exist
        DataError: if the key does not fit the images
    """
    base = Path(root).expanduser()
    test = test or find_split([entry.name for entry in _folders(base)], TEST) or "val"
    for split in ("train", test):
        if not (base / split).is_dir():
            raise NotOnDisk(f"folder {base / split} does not exist; it should contain images")
    file = find_key(base, test) if key is None else Path(key).expanduser()
    if file is None:
        raise NotOnDisk(
            f"{base / test} is a flat folder, and {base} has no single file with the classes of its images, such as "
            "val_labels.txt; name it with key = '...'"
        )
    classes = class_folders(base / "train")
    names, labels = _read_key(file, base / test, classes)
    train = read_split(base, "train", classes, upright=upright)
    _, _, numbers = number_labels(classes, labels, classes, (str(base / "train"), str(file)))
    said = f"classes of the images in {base / test} are those of {file}"
    if left_out := len(set(_images(base / test)) - set(names)):
        said += f"; {counted(left_out, 'image')} that it does not list left out"
    images = ImageFiles(base, [f"{test}/{name}" for name in names], upright=upright)
    return classes, replace(train, notes=(*train.notes, Note("info", said))), Split(images, numbers)


def is_flat(folder: Path) -> bool:
    """Return whether a folder has images but no folders."""
    return folder.is_dir() and not _folders(folder) and bool(_images(folder))


def find_key(base: Path, test: str) -> Path | None:
    """Return the only file that is named like a key, beside or among test images or in ImageNet's development kit."""
    found = [
        path
        for folder in (base, base / test, *base.glob("*devkit*/data"))
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if re.search(rf"(^|[_\W])({KEY.pattern})$", path.name, re.IGNORECASE) and path.is_file()
    ]
    return found[0] if len(found) == 1 else None


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []


def _images(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if is_image(name) and name[0] != ".")


def _read_key(key: Path, folder: Path, classes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names of the images in a folder, and the class of each as a class folder or a number from 0."""
    text = read_text(key)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if key.suffix.lower() in TABLES:
        kaggle = KAGGLE in lines[0]
        rows = read_table(key, label=KAGGLE if kaggle else None).rows
        names, labels = [row.name for row in rows], [row.label.split()[0] if kaggle else row.label for row in rows]
    elif all(len(line.split()) == 1 for line in lines):
        names, labels = _images(folder), lines
        if len(names) != len(labels):
            raise DataError(
                f"{key} has {counted(len(labels), 'line')}, but {folder} {counted(len(names), 'image')}; they need one "
                "line for each image, in the order of names"
            )
    else:
        rows = read_table(key).rows
        names, labels = [row.name for row in rows], [row.label for row in rows]
    _, files = Locator(folder).locate(key, names)
    return files, _as_classes(key, labels, classes)


def _as_classes(key: Path, labels: list[str], classes: Sequence[str]) -> list[str]:
    """Replace numbers by the class folders that they stand for."""
    numbers = [int(label) for label in labels if label.isdecimal()]
    if len(numbers) < len(labels) or set(labels) <= set(classes):
        return labels
    if min(numbers) == 0:
        return [classes[number] if number < len(classes) else str(number) for number in numbers]
    meta = key.with_name("meta.mat")
    if not meta.is_file():
        raise DataError(
            f"{key} has numbers from {min(numbers)}: numbers of class folders begin with 0, and those of ImageNet's "
            f"development kit have another order; put its file meta.mat into {key.parent}, or use a key with the names "
            "of class folders"
        )
    from scipy.io import loadmat

    try:
        synsets = loadmat(meta, squeeze_me=True)["synsets"]
        names = {int(one["ILSVRC2012_ID"]): str(one["WNID"]) for one in synsets}
    except Exception as error:  # scipy raises many kinds for a damaged file
        raise DataError(f"{meta} is not the one of ImageNet's development kit ({error})") from error
    return [names.get(number, str(number)) for number in numbers]
