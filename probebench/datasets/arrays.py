"""Read arrays from an npz file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from probebench._format import counted
from probebench.catalog.tasks import CLASSIFICATION
from probebench.datasets import Split
from probebench.datasets.labels import number_labels
from probebench.errors import DataError, Note
from probebench.fetch.local import NotOnDisk

NAMES = (
    ("x_train", "y_train", "x_test", "y_test"),  # Keras
    ("train_images", "train_labels", "test_images", "test_labels"),  # MedMNIST
)
"""The names of training images and labels, and of test images and labels."""

VALIDATION = ("x_val", "val_images")
SAVE = "np.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)"

Arrays = Mapping[str, npt.NDArray[Any]]


def npz(path: str | Path, task: str = CLASSIFICATION.name) -> tuple[list[str], Split, Split]:
    """Read an npz file with arrays as Keras or MedMNIST name them: class names, train, test.

    The names are x_train, y_train, x_test and y_test, or train_images, train_labels, test_images and test_labels;
    validation images are not used. Images are uint8 of shape (n, height, width), (n, height, width, 1) or (n, height,
    width, 3). Labels are of shape (n,) or (n, 1): class names as strings, or non-negative integers, of which those of
    the training images are the classes; or one-hot, of shape (n, classes). With an array ``classes`` of strings,
    integers and one-hot columns are indices into it, from 0.

    Of other tasks, the labels are as `probebench.datasets.Split` describes them, and ``classes`` has the names
    of the labels or targets; without it they are numbered.

    Args:
        path: relative to the directory that pytest is started in
        task: of the dataset, as in `DatasetSpec.task`, from which it is filled in
    """
    file = Path(path).expanduser()
    arrays, (x_train, y_train, x_test, y_test) = _load(file)
    if np.array_equal(arrays[x_train], arrays[x_test]):
        raise DataError(f"{file}: {x_test} is {x_train}; use other images for testing than for fitting the probe")
    images = [_images(file, name, arrays) for name in (x_train, x_test)]
    notes = [f"{counted(len(arrays[name]), 'image')} of {name} not used" for name in VALIDATION if name in arrays]
    if task != CLASSIFICATION.name:
        train, test = (Split(own, arrays[name]) for own, name in zip(images, (y_train, y_test), strict=True))
        said = tuple(Note("info", text) for text in notes)
        return _names(arrays[y_train], arrays.get("classes")), replace(train, notes=said), test
    labels = []
    for x, y in ((x_train, y_train), (x_test, y_test)):
        numbers, one_hot = _labels(file, y, arrays[y], len(arrays[x]))
        labels.append(numbers)
        if one_hot:
            notes.append(f"{y} is one-hot: the class of an image is its column with 1")
    classes, *numbered = _number(file, (y_train, y_test), labels, arrays.get("classes"))
    train, test = (Split(own, numbers) for own, numbers in zip(images, numbered, strict=True))
    return classes, replace(train, notes=tuple(Note("info", text) for text in notes)), test


def _load(file: Path) -> tuple[Arrays, Sequence[str]]:
    """Read the arrays that are used, and return the names of the four that must exist."""
    if not file.is_file():
        raise NotOnDisk(f"file {file.absolute()} does not exist; save it with {SAVE}, or correct the path")
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise DataError(f"{file} contains a single array; save it with {SAVE}")
        with loaded:
            names = _find_names(file, loaded.files)
            return {name: loaded[name] for name in loaded.files if name in (*names, *VALIDATION, "classes")}, names
    except DataError:
        raise
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
        raise DataError(
            f"{file} cannot be read ({error}); it may be truncated, or contain Python objects, which are never loaded: "
            f"save it again with {SAVE}, with arrays of plain types, such as labels.astype(str)"
        ) from error


def _find_names(file: Path, arrays: Sequence[str]) -> Sequence[str]:
    """Return the names of the four arrays. Raises DataError if some are missing."""
    written = {name.lower(): name for name in arrays}  # X_train is usual, too
    lacking = [[name for name in names if name not in written] for names in NAMES]
    fewest = min(range(len(NAMES)), key=lambda at: len(lacking[at]))
    if lacking[fewest]:
        held = ", ".join(arrays) or "nothing"
        raise DataError(f"{file} has no {', '.join(lacking[fewest])} (it has {held}); save it with {SAVE}")
    return [written[name] for name in NAMES[fewest]]


def _images(file: Path, name: str, arrays: Arrays) -> npt.NDArray[np.uint8]:
    images = arrays[name]
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.dtype == np.uint8 and (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)):
        return images
    remedies = []
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] != 3:
        remedies.append(f"move the channels last: {name}.transpose(0, 2, 3, 1)")
    elif images.ndim in (4, 5):
        remedies.append("take one slice, or three channels, of each image")
    if images.dtype.kind == "f":
        scaled = f"({name} * 255).round().astype(np.uint8)"
        remedies.append(f"store values from 0 to 255, for images in [0, 1] with {scaled}")
    raise DataError(
        f"{file}: {name} must be uint8 of shape (n, height, width) or (n, height, width, 3), "
        f"got {images.dtype} of shape {images.shape}; {', and '.join(remedies) or 'convert them'}"
    )


def _names(labels: npt.NDArray[Any], classes: npt.NDArray[Any] | None) -> list[str]:
    """Return the names of labels or targets."""
    if classes is not None:
        return [str(name) for name in np.ravel(classes)]
    return [str(column) for column in range(labels.shape[1] if labels.ndim == 2 else 1)]


def _labels(file: Path, name: str, labels: npt.NDArray[Any], count: int) -> tuple[npt.NDArray[Any], bool]:
    """Return integers or strings of shape (n,), and whether they were one-hot."""
    if labels.shape == (count, 1):
        labels = labels[:, 0]
    if labels.dtype.kind == "S":
        labels = labels.astype(str)
    if labels.shape == (count,) and labels.dtype.kind in "iuU":
        return labels, False
    problem, remedy = f"got {labels.dtype} of shape {labels.shape}", ""
    if labels.ndim == 2 and len(labels) == count and labels.dtype.kind in "iufb":
        if np.isin(labels, (0, 1)).all():
            chosen = np.count_nonzero(labels, axis=1)
            if (chosen == 1).all():
                return labels.argmax(axis=1), True
            row = int(np.flatnonzero(chosen != 1)[0])
            problem += f" in which image {row} has {chosen[row]} classes"
    elif labels.shape == (count,) and labels.dtype.kind == "f" and not (labels % 1).any():
        remedy = f"; convert them with {name}.astype(int)"
    raise DataError(
        f"{file}: {name} must contain integers or strings of shape ({count},), one class per image, {problem}{remedy}"
    )


def _number(
    file: Path, names: tuple[str, str], labels: list[npt.NDArray[Any]], classes: npt.NDArray[Any] | None
) -> tuple[list[str], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the class names, and the class of each image."""
    named = [own.dtype.kind == "U" for own in labels]
    if classes is not None and not any(named):
        return [str(name) for name in np.ravel(classes)], labels[0].astype(np.int64), labels[1].astype(np.int64)
    if named[0] != named[1]:
        words, integers = names if named[0] else names[::-1]
        raise DataError(
            f"{file}: {integers} contains integers but {words} contains names; use names in both, or add an array "
            "'classes' with the names in the order of the integers"
        )
    where = f"{file}: {names[0]}", f"{file}: {names[1]}"
    known = None if classes is None else [str(name) for name in np.ravel(classes)]
    return number_labels([str(each) for each in labels[0]], [str(each) for each in labels[1]], known, where)
