"""Read folders of images: one folder per split, and in it one folder per class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from probebench._format import list_some
from probebench.datasets import Split
from probebench.datasets.files import ImageFiles, as_text, printable
from probebench.datasets.layout import (
    TRAIN,
    Layout,
    find_classes,
    find_layout,
    find_split,
    folders_in,
    match_classes,
    splits_in,
)
from probebench.datasets.walk import Walk
from probebench.errors import DataError, Note
from probebench.fetch.local import NotOnDisk, data_root

_ARCHIVES = (".7z", ".rar", ".tar", ".tar.bz2", ".tar.gz", ".tar.xz", ".tgz", ".zip")


def image_folder(root: str | Path, test: str | None = None, *, upright: bool = True) -> tuple[list[str], Split, Split]:
    """Read a folder with one folder per split, and in it one folder per class: class names, train, test.

    The splits may also be in the class folders (``daisy/train``), and all of that in the only folder that `root` has.

    Args:
        root: contains ``train`` and ``test`` (or ``val``), or folders of names such as ``Training`` and ``valid``;
            relative to the directory that pytest is started in
        test: the folder to test on; by default ``test``, or ``val`` if there is no ``test``
        upright: whether to apply the EXIF orientation, which torchvision's `ImageFolder` does not
    """
    base = Path(root).expanduser()
    layout = find_layout(base, test)
    if layout is None:
        missing = (test or "test") if find_split(base, folders_in(base), TRAIN) else "train"
        raise NotOnDisk(
            f"folder {printable(base / missing)} does not exist; {printable(base.absolute())} should contain train/ "
            f"and test/ (or val/), each with one folder of images per class. {_explain_layout(base)}"
        )
    walk = Walk(layout.root)
    trained, tested, unread = _classes_inside(walk, layout) if layout.inside else _classes_of(walk, layout)
    number = {name: label for label, name in enumerate(trained)}
    train, tests = (read_classes(walk, folders, number, upright=upright) for folders in (trained, tested))
    untested = [name for name in trained if name not in tested]
    notes = (*_explain_choice(layout, unread, untested, test), *walk.notes())
    return [as_text(name) for name in trained], Split(train.images, train.labels, notes=notes), tests


def _classes_of(walk: Walk, layout: Layout) -> tuple[dict[str, Path], dict[str, Path], list[str]]:
    """Return the folders of training and of test images by class, and the folders that are not read."""
    train, test = layout.root / layout.train, layout.root / layout.test
    if train.samefile(test):
        raise DataError(
            f"{printable(test)} is {printable(train)}; use other images for testing than for fitting the probe"
        )
    there = walk.folders(layout.root)
    classes, tested = class_folders(train, walk), class_folders(test, walk)
    matched = match_classes(tested, classes, printable(test), printable(train))
    folders = {matched[name]: test / name for name in tested}
    return (
        {name: train / name for name in classes},
        {name: folders[name] for name in classes if name in folders},
        [name for name in there if name not in (layout.train, layout.test)],
    )


def _classes_inside(walk: Walk, layout: Layout) -> tuple[dict[str, Path], dict[str, Path], list[str]]:
    """Return the same where each class folder has the splits."""
    splits = {name: walk.folders(layout.root / name) for name in walk.folders(layout.root)}
    trained, tested = (
        {name: layout.root / name / split for name, found in splits.items() if split in found}
        for split in (layout.train, layout.test)
    )
    known = layout.train, layout.test
    return trained, tested, [f"{name}/{each}" for name, found in splits.items() for each in found if each not in known]


def _explain_choice(layout: Layout, unread: list[str], untested: list[str], test: str | None) -> list[Note]:
    """Say what is not where one would look for it."""
    parts = []
    if layout.above:
        parts.append(f"read from {printable(layout.root)}")
    if layout.inside:
        parts.append(f"trained on {layout.train}/ and tested on {layout.test}/ of each class folder")
    elif layout.train != "train" or layout.test != (test or "test"):
        parts.append(f"trained on {layout.train}/ and tested on {layout.test}/")
    if untested:
        parts.append(f"without test images: {list_some(map(printable, untested))}")
    if unread:
        parts.append(f"not read: {list_some(f'{printable(name)}/' for name in unread)}")
    return [Note("info", "; ".join(parts))] if parts else []


def _explain_layout(base: Path) -> str:
    """Suggest how to correct a folder without the expected splits."""
    if not base.is_dir():
        return "Correct `root`"
    if len(found := splits_in(base)) > 1:
        other = next((name for name in found if name.lower() not in TRAIN), found[-1])
        return f"It has {' and '.join(found)}: set the one to test on, as in {{'root': ..., 'test': {other!r}}}"
    whole = base / "train" if folders_in(base / "train") else find_classes(base)
    if not folders_in(whole):
        return "Create a folder for each split there, or correct `root`"
    kwargs = {"folder": printable(whole.absolute()), "test_every": 5}
    return (
        f"If the folders in {printable(whole)} are classes, split them with the reader "
        f"'probebench.datasets.unsplit:unsplit_folder' and kwargs {kwargs}"
    )


def published_folder(folder: str, test: str = "test") -> tuple[list[str], Split, Split]:
    """Read a published dataset with `image_folder`: `folder` is relative to the data root, EXIF is ignored."""
    return image_folder(str(data_root() / folder), test, upright=False)


def class_folders(folder: Path, walk: Walk | None = None) -> list[str]:
    """Return the sorted names of the class folders.

    Args:
        walk: counts what else lies there

    Raises:
        DataError: if there are none, or if they are splits
    """
    names = (walk or Walk(folder)).folders(folder)
    if not names:
        packed = sorted(path.name for path in folder.iterdir() if path.name.lower().endswith(_ARCHIVES))
        remedy = f"unpack {list_some(packed)}" if packed else "sort its images into one folder per class"
        raise DataError(f"{printable(folder)} has no class folders; {remedy}")
    if names == splits_in(folder):
        raise DataError(
            f"the folders in {printable(folder)} have names of splits, not of classes: {', '.join(names)}; name them "
            "train and test, with one folder of images per class in each"
        )
    return names


def unsplit_class_folders(folder: Path, walk: Walk) -> list[str]:
    """Return the same for a folder without splits.

    Raises:
        DataError: if the class folders have splits, which would be thrown together
    """
    if (layout := find_layout(folder)) is not None and layout.inside:
        raise DataError(
            f"the class folders in {printable(folder)} have splits in them, {layout.train}/ and {layout.test}/; the "
            "reader 'probebench.datasets.folder:image_folder' reads them so"
        )
    return class_folders(folder, walk)


def read_classes(walk: Walk, folders: Mapping[str, Path], number: Mapping[str, int], *, upright: bool = False) -> Split:
    """Read some class folders; `Walk.notes` has to be called for what is wrong with them.

    Args:
        folders: by class
        number: the label of each class
    """
    names: list[str] = []
    labels: list[int] = []
    for name, folder in folders.items():
        found = walk.images(folder)
        names += found
        labels += [number[name]] * len(found)
    return Split(ImageFiles(walk.root, names, upright=upright), np.array(labels, dtype=np.int64))


def read_split(root: Path, split: str, classes: list[str], *, upright: bool = False) -> Split:
    """Read the class folders `classes` in the folder `split` of `root`; labels are indices into `classes`."""
    walk = Walk(root)
    number = {name: label for label, name in enumerate(classes)}
    found = read_classes(walk, {name: root / split / name for name in classes}, number, upright=upright)
    return replace(found, notes=walk.notes())
