"""Read folders of images without a published split, one folder per class, and split them in a fixed way."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from probebench.datasets import Split
from probebench.datasets.files import ImageFiles, as_text, printable
from probebench.datasets.folder import unsplit_class_folders
from probebench.datasets.layout import find_classes
from probebench.datasets.walk import Walk
from probebench.errors import DataError
from probebench.fetch.local import NotOnDisk, data_root


def unsplit_folder(
    folder: str | Path,
    *,
    test_every: int = 0,
    train_each: int = 0,
    leave_out: Collection[str] = (),
    upright: bool = True,
) -> tuple[list[str], Split, Split]:
    """Read a folder with one folder per class: class names, train, test.

    The split depends only on the number of images of each class, in the order of their names. Exactly one of
    `test_every` and `train_each` must be given.

    Args:
        folder: absolute, or relative to the data root, like those of published datasets
        test_every: test on every `test_every`-th image of each class, and train on the others
        train_each: train on this many images of each class, evenly spaced, and test on the others
        leave_out: class folders to ignore
        upright: whether to apply the EXIF orientation
    """
    if bool(test_every) == bool(train_each):
        raise DataError(f"{folder} has no split: set either test_every or train_each")
    if test_every < 0 or test_every == 1 or train_each < 0:
        raise DataError(
            f"{folder}: test_every must be at least 2 and train_each at least 1, got {test_every or train_each}"
        )
    root = data_root() / folder
    if not root.is_dir():
        relative = (
            ""
            if Path(folder).is_absolute()
            else (
                " Relative folders are relative to the data root; use an absolute path for a folder of your own, such "
                f"as Path(__file__).parent / {str(folder)!r} next to a conftest.py."
            )
        )
        raise NotOnDisk(f"folder {root} does not exist; it should contain one folder of images per class.{relative}")
    root = find_classes(root)
    walk = Walk(root)
    classes = [name for name in unsplit_class_folders(root, walk) if name not in leave_out]
    images = {name: walk.images(root / name) for name in classes}
    notes = walk.notes()
    names: list[str] = []
    labels: list[int] = []
    tested: list[npt.NDArray[np.bool_]] = []
    for label, (name, found) in enumerate(images.items()):
        in_test = _every(len(found), test_every) if test_every else ~_spread(len(found), train_each)
        if in_test.all() or not in_test.any():
            raise DataError(
                f"class folder {printable(root / name)} has {len(found)} images, too few to split with "
                f"{f'test_every = {test_every}' if test_every else f'train_each = {train_each}'}"
            )
        names += found
        labels += [label] * len(found)
        tested.append(in_test)
    mask, numbers = np.concatenate(tested), np.array(labels, dtype=np.int64)
    train, test = (
        Split(ImageFiles(root, [names[i] for i in chosen], upright=upright), numbers[chosen])
        for chosen in (np.flatnonzero(~mask), np.flatnonzero(mask))
    )
    return [as_text(name).replace("_", " ") for name in classes], replace(train, notes=notes), test


def _every(count: int, step: int) -> npt.NDArray[np.bool_]:
    """Select the last of each `step` images: bool, shape (count,)."""
    mask = np.zeros(count, dtype=bool)
    mask[step - 1 :: step] = True
    return mask


def _spread(count: int, chosen: int) -> npt.NDArray[np.bool_]:
    """Select `chosen` evenly spaced images, or all if there are fewer: bool, shape (count,)."""
    mask = np.zeros(count, dtype=bool)
    mask[np.arange(min(chosen, count)) * count // min(chosen, count)] = True
    return mask
