"""Read folders of images: one folder per split, and in it one folder per class."""

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
"""Suffixes of image files, in upper or lower case. Other files are ignored, except those of `UNREAD`."""

UNREAD = (".avif", ".heic", ".heif", ".jxl")
"""Suffixes of photographs that not every Pillow reads. They are refused, because ignoring them would lose data."""

_SPLITS = ("train", "training", "test", "testing", "val", "valid", "validation", "dev")


def image_folder(root: str | Path, test: str | None = None, *, upright: bool = True) -> tuple[list[str], Split, Split]:
    """Read a folder with one folder per split, and in it one folder per class: class names, train, test.

    Args:
        root: contains ``train`` and ``test`` (or ``val``); relative to the directory that pytest is started in
        test: the folder to test on; by default ``test``, or ``val`` if there is no ``test``
        upright: whether to apply the EXIF orientation, which torchvision's `ImageFolder` does not
    """
    base = Path(root).expanduser()
    if test is None:
        test = "val" if (base / "val").is_dir() and not (base / "test").is_dir() else "test"
    for split in ("train", test):
        if not (base / split).is_dir():
            raise NotOnDisk(
                f"folder {base / split} does not exist; {base.absolute()} should contain train/ and test/ (or val/), "
                f"each with one folder of images per class. {_explain_layout(base)}"
            )
    if (base / "train").samefile(base / test):
        raise DataError(f"{base / test} is {base / 'train'}; use other images for testing than for fitting the probe")
    classes = class_folders(base / "train")
    tested = class_folders(base / test)
    if extra := sorted(set(tested) - set(classes)):
        more = f" and {len(extra) - 5} more" if len(extra) > 5 else ""
        raise DataError(
            f"{base / test} has class folders that {base / 'train'} does not have: {', '.join(extra[:5])}{more}; "
            "names must match exactly: rename or remove them"
        )
    train, tests = (
        read_split(base, split, present, classes, upright=upright)
        for split, present in (("train", classes), (test, tested))
    )
    return classes, train, tests


def _explain_layout(base: Path) -> str:
    """Suggest how to correct a folder without the expected splits."""
    if not base.is_dir():
        return "Correct `root`"
    if len(found := splits_in(base)) > 1:
        other = next((name for name in found if name != "train"), "")
        named = (
            f"set the one to test on, as in {{'root': ..., 'test': {other!r}}}" if "train" in found else "rename them"
        )
        return f"It has {' and '.join(found)}: {named}"
    whole = base / "train" if (base / "train").is_dir() else base
    if not any(entry.is_dir() for entry in os.scandir(whole)):
        return "Create a folder for each split there, or correct `root`"
    kwargs = {"folder": str(whole.absolute()), "test_every": 5}
    return (
        f"If the folders in {whole} are classes, split them with the reader "
        f"'probebench.datasets.unsplit:unsplit_folder' and kwargs {kwargs}"
    )


def published_folder(folder: str, test: str = "test") -> tuple[list[str], Split, Split]:
    """Read a published dataset with `image_folder`: `folder` is relative to the data root, EXIF is ignored."""
    return image_folder(str(data_root() / folder), test, upright=False)


def splits_in(folder: Path) -> list[str]:
    """Return the sorted names of subfolders that are names of splits, in upper or lower case."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name.lower() in _SPLITS)


def class_folders(folder: Path) -> list[str]:
    """Return the sorted names of the class folders. Raises DataError if there are none, or if they are splits."""
    # Sorted by code point like torchvision, so that labels agree with networks trained on the same folder.
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(f"{folder} has no class folders; sort its images into one folder per class")
    if names == splits_in(folder):
        raise DataError(
            f"the folders in {folder} have names of splits, not of classes: {', '.join(names)}; name them train and "
            "test, with one folder of images per class in each"
        )
    return names


def read_split(
    root: Path, split: str, present: Sequence[str], classes: Sequence[str], *, upright: bool = False
) -> Split:
    """Read the class folders `present` of `root`/`split`; labels are indices into `classes`.

    Raises:
        DataError: if a class folder has no images
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
    """Return the sorted images of a class folder and its subfolders, without hidden ones.

    Raises:
        DataError: if there are none, or some have an unsupported format
    """
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place) / name for name in names if not name.startswith(".")]
    unread = [path for path in found if path.suffix.lower() in UNREAD]
    found = [path for path in found if path.suffix.lower() in ENDINGS]
    if unread:
        raise DataError(
            f"class folder {folder} has {counted(len(unread), 'image')} in an unsupported format, such as "
            f"{min(unread).relative_to(folder)}; convert to {', '.join(ENDINGS)}, or remove them"
        )
    if not found:
        raise DataError(f"class folder {folder} has no images ({' '.join(ENDINGS)}); fill it or remove it")
    return sorted(found)
