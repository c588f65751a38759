"""Folders of images, one folder a class, whose publishers gave no split: a fixed one instead."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from probebench.datasets import Split
from probebench.datasets.files import ImageFiles
from probebench.datasets.folder import class_folders, images_of
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
    """A folder with one folder a class: class names, train, test.

    The split hangs on nothing but the number of images of each class, in the order of their names.

    Args:
        folder: absolute, or relative to the data root, as those of published datasets are
        test_every: test on every so many-th image of each class, and train on the others
        train_each: or: train on so many images of each class, evenly spread over it, and test on the others
        leave_out: class folders that do not count
        upright: whether images are turned as their EXIF orientation says
    """
    if bool(test_every) == bool(train_each):
        raise DataError(f"{folder} has no split of its own: give it either test_every or train_each")
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
                " A relative folder is looked for in the data root; one of your own needs an absolute path, as "
                f"Path(__file__).parent / {str(folder)!r} is beside a conftest.py."
            )
        )
        raise NotOnDisk(f"there is no folder {root}; it should hold one folder of images a class.{relative}")
    classes = [name for name in class_folders(root) if name not in leave_out]
    names: list[str] = []
    labels: list[int] = []
    tested: list[npt.NDArray[np.bool_]] = []
    for label, name in enumerate(classes):
        found = [path.relative_to(root).as_posix() for path in images_of(root / name)]
        in_test = _every(len(found), test_every) if test_every else ~_spread(len(found), train_each)
        if in_test.all() or not in_test.any():
            raise DataError(
                f"class folder {root / name} has {len(found)} images, too few to train and to test on by "
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
    return [name.replace("_", " ") for name in classes], train, test


def _every(count: int, step: int) -> npt.NDArray[np.bool_]:
    """The last of each `step` images: bool, shape (count,)."""
    mask = np.zeros(count, dtype=bool)
    mask[step - 1 :: step] = True
    return mask


def _spread(count: int, chosen: int) -> npt.NDArray[np.bool_]:
    """`chosen` images at equal distances, all if there are fewer: bool, shape (count,)."""
    mask = np.zeros(count, dtype=bool)
    mask[np.arange(min(chosen, count)) * count // min(chosen, count)] = True
    return mask
