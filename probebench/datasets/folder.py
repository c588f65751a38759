"""Folders of images, one folder a split and in it one folder a class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from probebench._format import counted
from probebench.datasets import Split
from probebench.datasets.files import ImageFiles
from probebench.errors import DataError
from probebench.fetch.local import NotOnDisk, data_root

ENDINGS = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Files that count as images, in either case; others are passed over, but for `UNREAD`."""

UNREAD = (".avif", ".heic", ".heif", ".jxl")
"""Photographs that not every Pillow reads: to pass over them would leave out a part of the data."""

_SPLITS = ("train", "training", "test", "testing", "val", "valid", "validation", "dev")


def image_folder(root: str | Path, test: str | None = None, *, upright: bool = True) -> tuple[list[str], Split, Split]:
    """A folder with one folder a split, and in it one folder a class: class names, train, test.

    Args:
        root: has ``train`` and ``test`` or ``val`` in it; relative to the directory that pytest is started in
        test: the folder to test on; ``test`` by default, or ``val`` where there is no ``test``
        upright: whether images are turned as their EXIF orientation says, which torchvision's `ImageFolder` does not
    """
    base = Path(root).expanduser()
    if test is None:
        test = "val" if (base / "val").is_dir() and not (base / "test").is_dir() else "test"
    for split in ("train", test):
        if not (base / split).is_dir():
            raise NotOnDisk(
                f"there is no folder {base / split}; {base.absolute()} should hold train/ and test/ or val/, each with "
                f"one folder of images a class. {_remedy(base)}"
            )
    if (base / "train").samefile(base / test):
        raise DataError(
            f"{base / test} is {base / 'train'}; keep other images for the test than the probe is fitted on"
        )
    classes = class_folders(base / "train")
    tested = class_folders(base / test)
    if extra := sorted(set(tested) - set(classes)):
        more = f" and {len(extra) - 5} more" if len(extra) > 5 else ""
        raise DataError(
            f"{base / test} has class folders that {base / 'train'} has not: {', '.join(extra[:5])}{more}; "
            "names must agree to the letter: rename or remove them"
        )
    train, tests = (
        read_split(base, split, present, classes, upright=upright)
        for split, present in (("train", classes), (test, tested))
    )
    return classes, train, tests


def _remedy(base: Path) -> str:
    """What to do about a folder that lacks a split."""
    if not base.is_dir():
        return "Correct the root"
    if len(found := splits_in(base)) > 1:
        other = next((name for name in found if name != "train"), "")
        named = (
            f"name the one to test on, as in {{'root': ..., 'test': {other!r}}}" if "train" in found else "rename them"
        )
        return f"It has {' and '.join(found)}: {named}"
    whole = base / "train" if (base / "train").is_dir() else base
    if not any(entry.is_dir() for entry in os.scandir(whole)):
        return "Put a folder for each split there, or correct the root"
    kwargs = {"folder": str(whole.absolute()), "test_every": 5}
    return (
        f"If the folders in {whole} are the classes, the reader 'probebench.datasets.unsplit:unsplit_folder' with "
        f"kwargs {kwargs} splits them"
    )


def published_folder(folder: str, test: str = "test") -> tuple[list[str], Split, Split]:
    """`image_folder` for a published dataset: `folder` is relative to the data root, and no image is turned."""
    return image_folder(str(data_root() / folder), test, upright=False)


def splits_in(folder: Path) -> list[str]:
    """The folders in a folder that are named as splits are, in either case, sorted."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name.lower() in _SPLITS)


def class_folders(folder: Path) -> list[str]:
    """The names of the class folders, sorted. Raises DataError if there are none, or if they are splits."""
    # Sorted by code point, as torchvision sorts them, so that labels agree with networks trained on the same folder.
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(f"{folder} has no class folders; sort its images into one folder a class")
    if names == splits_in(folder):
        raise DataError(
            f"the folders in {folder} are named as splits are, and not as classes: {', '.join(names)}; name them train "
            "and test, with one folder of images a class in each"
        )
    return names


def read_split(
    root: Path, split: str, present: Sequence[str], classes: Sequence[str], *, upright: bool = False
) -> Split:
    """The images of the class folders `present` in the folder `split` of `root`, labelled by their place in `classes`.

    Raises:
        DataError: if a class folder has no image
    """
    names: list[str] = []
    labels: list[int] = []
    number = {name: label for label, name in enumerate(classes)}
    for name in present:
        found = images_of(root / split / name)
        names += [path.relative_to(root).as_posix() for path in found]
        labels += [number[name]] * len(found)
    return Split(ImageFiles(root, names, upright=upright), np.array(labels, dtype=np.int64))


def images_of(folder: Path) -> list[Path]:
    """The images of a class folder and of the folders in it, sorted; what is hidden does not count.

    Raises:
        DataError: if there are none, or some of a kind that is not read
    """
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place) / name for name in names if not name.startswith(".")]
    unread = [path for path in found if path.suffix.lower() in UNREAD]
    found = [path for path in found if path.suffix.lower() in ENDINGS]
    if unread:
        raise DataError(
            f"class folder {folder} has {counted(len(unread), 'image')} of a kind that is not read, such as "
            f"{min(unread).relative_to(folder)}; convert to {', '.join(ENDINGS)}, or take away"
        )
    if not found:
        raise DataError(f"class folder {folder} has no image in it ({' '.join(ENDINGS)}); fill it or remove it")
    return sorted(found)
