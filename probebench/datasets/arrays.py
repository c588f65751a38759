"""Read arrays from an npz file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from probebench.catalog.tasks import CLASSIFICATION
from probebench.datasets import Split
from probebench.errors import DataError
from probebench.fetch.local import NotOnDisk

NAMES = ("x_train", "y_train", "x_test", "y_test")
SAVE = "np.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)"


def npz(path: str | Path, task: str = CLASSIFICATION.name) -> tuple[list[str], Split, Split]:
    """Read an npz file with x_train, y_train, x_test and y_test: class names, train, test.

    Images are uint8 of shape (n, height, width), (n, height, width, 1) or (n, height, width, 3). Labels are class
    names as strings, or non-negative integers: those of the training images are the classes. With an array
    ``classes`` of strings, integers are indices into it, from 0.

    Of other tasks, y_train and y_test are as `probebench.datasets.Split` describes them, and ``classes`` has the names
    of the labels or targets; without it they are numbered.

    Args:
        path: relative to the directory that pytest is started in
        task: of the dataset, as in `DatasetSpec.task`, from which it is filled in
    """
    file = Path(path).expanduser()
    arrays = _load(file)
    if np.array_equal(arrays["x_train"], arrays["x_test"]):
        raise DataError(f"{file}: x_test is x_train; use other images for testing than for fitting the probe")
    if task != CLASSIFICATION.name:
        names = _names(arrays)
        train, test = (Split(_images(file, f"x_{part}", arrays), arrays[f"y_{part}"]) for part in ("train", "test"))
        return names, train, test
    classes = _classes(file, arrays)
    splits = [
        Split(_images(file, f"x_{split}", arrays), _labels(file, f"y_{split}", arrays, classes))
        for split in ("train", "test")
    ]
    return classes, splits[0], splits[1]


def _load(file: Path) -> dict[str, npt.NDArray[Any]]:
    if not file.is_file():
        raise NotOnDisk(f"file {file.absolute()} does not exist; save it with {SAVE}, or correct the path")
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise DataError(f"{file} contains a single array; save it with {SAVE}")
        with loaded:
            if missing := [name for name in NAMES if name not in loaded.files]:
                held = ", ".join(loaded.files) or "nothing"
                raise DataError(f"{file} has no {', '.join(missing)} (it has {held}); save it with {SAVE}")
            return {name: loaded[name] for name in loaded.files if name in (*NAMES, "classes")}
    except DataError:
        raise
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
        raise DataError(
            f"{file} cannot be read ({error}); it may be truncated, or contain Python objects, which are never loaded: "
            f"save it again with {SAVE}, with arrays of plain types"
        ) from error


def _images(file: Path, name: str, arrays: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.uint8]:
    images = arrays[name]
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.dtype == np.uint8 and (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)):
        return images
    if images.ndim == 4 and images.shape[1] in (1, 3):
        remedy = f"move the channels last: {name}.transpose(0, 2, 3, 1)"
    elif images.dtype.kind == "f":
        remedy = f"store values from 0 to 255, for images in [0, 1] with ({name} * 255).round().astype(np.uint8)"
    else:
        remedy = "convert them"
    raise DataError(
        f"{file}: {name} must be uint8 of shape (n, height, width) or (n, height, width, 3), "
        f"got {images.dtype} of shape {images.shape}; {remedy}"
    )


def _names(arrays: dict[str, npt.NDArray[Any]]) -> list[str]:
    """Return the names of labels or targets."""
    if "classes" in arrays:
        return [str(name) for name in np.ravel(arrays["classes"])]
    labels = arrays["y_train"]
    return [str(column) for column in range(labels.shape[1] if labels.ndim == 2 else 1)]


def _classes(file: Path, arrays: dict[str, npt.NDArray[Any]]) -> list[str]:
    labels = arrays["y_train"]
    if "classes" in arrays:
        return [str(name) for name in np.ravel(arrays["classes"])]
    if labels.dtype.kind == "U":
        return [str(name) for name in np.unique(labels)]
    if labels.dtype.kind in "iu" and labels.size:
        if labels.min() < 0:
            raise DataError(
                f"{file}: y_train has the label {labels.min()}; remove images without a class, or use class names"
            )
        return [str(label) for label in np.unique(labels)]
    raise DataError(
        f"{file}: y_train must contain integers or strings, one per image, got {labels.dtype} of shape {labels.shape}"
    )


def _labels(file: Path, name: str, arrays: dict[str, npt.NDArray[Any]], classes: list[str]) -> npt.NDArray[np.int64]:
    labels, count = arrays[name], len(arrays[name.replace("y", "x")])
    if labels.shape != (count,) or labels.dtype.kind not in "iuU":
        raise DataError(
            f"{file}: {name} must contain integers or strings of shape ({count},), one per image, "
            f"got {labels.dtype} of shape {labels.shape}"
        )
    if labels.dtype.kind != "U" and arrays["y_train"].dtype.kind == "U" and "classes" not in arrays:
        raise DataError(
            f"{file}: {name} contains integers but y_train contains names; use names in both, or add an array "
            "'classes' with the names in the order of the integers"
        )
    if labels.dtype.kind != "U" and "classes" in arrays:
        return labels.astype(np.int64)
    number = {each: label for label, each in enumerate(classes)}
    if strange := sorted({str(each) for each in labels} - number.keys()):
        raise DataError(
            f"{file}: {name} has labels that no training image has: {', '.join(strange[:5])}; "
            "add training images of those classes, or remove them"
        )
    return np.array([number[str(each)] for each in labels], dtype=np.int64)
