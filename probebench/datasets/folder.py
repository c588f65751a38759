"""Folders of images, one folder a class: one's own, and ImageNet-1k."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from probebench.datasets import Split
from probebench.datasets.disk import NotOnDisk, data_root
from probebench.datasets.files import ImageFiles
from probebench.errors import DataError

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Files that count as images, in either case; others are passed over."""


def image_folder(root: str, test: str | None = None) -> tuple[list[str], Split, Split]:
    """A folder with one folder a split, and in it one folder a class: class names, train, test.

    Args:
        root: has ``train`` and ``test`` or ``val`` in it; relative to the directory that pytest is started in
        test: the folder to test on; ``test`` by default, or ``val`` where there is no ``test``
    """
    base = Path(root).expanduser()
    if test is None:
        test = "test" if (base / "test").is_dir() else "val"
    for split in ("train", test):
        if not (base / split).is_dir():
            others = "test/ or val/" if split != "train" else "train/"
            raise NotOnDisk(
                f"there is no folder {base / split}; {base.absolute()} should hold train/ and test/ or val/, each with "
                f"one folder of images a class. Give {others} a folder there, or correct the root"
            )
    classes = _class_folders(base / "train")
    tested = _class_folders(base / test)
    if extra := sorted(set(tested) - set(classes)):
        more = f" and {len(extra) - 5} more" if len(extra) > 5 else ""
        raise DataError(
            f"{base / test} has class folders that {base / 'train'} has not: {', '.join(extra[:5])}{more}; "
            "names must agree to the letter: rename or remove them"
        )
    return classes, _split(base, "train", classes, classes), _split(base, test, tested, classes)


def imagenet(root: str | None = None, classes: int = 1000) -> tuple[list[str], Split, Split]:
    """ImageNet-1k, its official validation set as test: class names, train (1,281,167), test (50,000).

    Args:
        root: has ``train`` and ``val`` in it, each with one folder a synset; ``imagenet`` in the data root by default
        classes: how many synsets there must be
    """
    base = data_root() / "imagenet" if root is None else Path(root).expanduser()
    synsets, train, test = image_folder(str(base), test="val")
    if len(synsets) != classes:
        raise DataError(
            f"{base / 'train'} has {len(synsets)} class folders, ImageNet-1k has {classes}; "
            "unpack the missing archives, or read a part of it as a folder of your own with another name"
        )
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    known = set(info.label_names())
    if strange := [name for name in synsets if name not in known]:
        raise DataError(f"{base / 'train' / strange[0]}: {strange[0]!r} is no synset of ImageNet-1k such as n01440764")
    return [info.label_name_to_description(name) for name in synsets], train, test


def _class_folders(folder: Path) -> list[str]:
    # Sorted by code point, as torchvision sorts them, so that labels agree with networks trained on the same folder.
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(f"{folder} has no class folders; sort its images into one folder a class")
    return names


def _split(root: Path, split: str, present: Sequence[str], classes: Sequence[str]) -> Split:
    names: list[str] = []
    labels: list[int] = []
    number = {name: label for label, name in enumerate(classes)}
    for name in present:
        found = _images(root / split / name)
        if not found:
            raise DataError(
                f"class folder {root / split / name} has no image in it ({' '.join(ENDINGS)}); fill it or remove it"
            )
        names += [path.relative_to(root).as_posix() for path in found]
        labels += [number[name]] * len(found)
    return Split(ImageFiles(root, names), np.array(labels, dtype=np.int64))


def _images(folder: Path) -> list[Path]:
    found = [
        Path(place) / name
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(ENDINGS) and not name.startswith(".")
    ]
    return sorted(found)
