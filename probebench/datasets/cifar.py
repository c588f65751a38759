"""Read the Python versions of CIFAR-10 and CIFAR-100, and the corrupted test sets CIFAR-10-C and CIFAR-100-C."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from probebench.datasets import Split
from probebench.datasets.corruptions import SEVERITIES, check_corruption
from probebench.datasets.pickles import AGAIN, load_pickle
from probebench.errors import DataError, unknown
from probebench.fetch.local import data_root, require

SIDE = 32


def cifar10() -> tuple[list[str], Split, Split]:
    """Read CIFAR-10: class names, train (50,000), test (10,000)."""
    batches = [f"data_batch_{i}" for i in range(1, 6)]
    return _read_clean(
        data_root() / "cifar-10-batches-py", batches, "test_batch", "labels", "batches.meta", "label_names"
    )


def cifar100() -> tuple[list[str], Split, Split]:
    """Read CIFAR-100 with its fine labels: class names, train (50,000), test (10,000)."""
    return _read_clean(data_root() / "cifar-100-python", ["train"], "test", "fine_labels", "meta", "fine_label_names")


def corrupted(
    base: str, corruption: str, severity: int = SEVERITIES, train: str = "clean"
) -> tuple[list[str], Split, Split]:
    """Read CIFAR-10-C or CIFAR-100-C: class names, train, test.

    Args:
        base: ``cifar10`` or ``cifar100``
        corruption: one of `probebench.datasets.corruptions.CORRUPTIONS`
        severity: 1 to 5
        train: ``clean`` to train on the clean training images and test on all 10,000 corrupted ones; ``corrupted``
            to train on four fifths of the corrupted images and test on every fifth
    """
    if base not in ("cifar10", "cifar100"):
        raise unknown("base of corrupted images", base, ["cifar10", "cifar100"])
    check_corruption(corruption, severity)
    if train not in ("clean", "corrupted"):
        raise unknown("training images", train, ["clean", "corrupted"])
    folder = data_root() / ("CIFAR-10-C" if base == "cifar10" else "CIFAR-100-C")
    require(folder, [f"{corruption}.npy", "labels.npy"])
    images, labels = _memory_map(folder / f"{corruption}.npy"), _memory_map(folder / "labels.npy")
    if images.dtype != np.uint8 or images.shape != (len(labels), SIDE, SIDE, 3) or len(labels) % SEVERITIES:
        raise DataError(
            f"{folder / corruption}.npy contains {images.dtype} of shape {images.shape} and labels.npy {labels.shape}; "
            f"expected uint8 of shape (n, {SIDE}, {SIDE}, 3) and (n,), n a multiple of {SEVERITIES}; {AGAIN}"
        )
    classes, clean_train, clean_test = cifar10() if base == "cifar10" else cifar100()
    count = len(labels) // SEVERITIES
    part = slice((severity - 1) * count, severity * count)
    # The corrupted images are the clean test images in the same order. Other labels belong to the other CIFAR, or to
    # another order of classes, and would look like a very hard dataset.
    if not np.array_equal(labels[part], clean_test.labels):
        raise DataError(
            f"{folder / 'labels.npy'} does not repeat the labels of the clean test set {SEVERITIES} times; "
            "the two folders are from different datasets, or one is damaged: unpack both archives again"
        )
    pixels = np.array(images[part])
    if train == "clean":
        return classes, clean_train, Split(pixels, clean_test.labels)
    test = np.arange(count) % 5 == 4
    return classes, Split(pixels[~test], clean_test.labels[~test]), Split(pixels[test], clean_test.labels[test])


def _read_clean(
    folder: Path, batches: list[str], test: str, labels: str, meta: str, names: str
) -> tuple[list[str], Split, Split]:
    require(folder, [*batches, test, meta])
    classes = load_pickle(folder / meta).get(names)
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise DataError(f"{folder / meta} has no list of class names under {names!r}; {AGAIN}")
    parts = [_read_batch(folder / name, labels) for name in batches]
    train = Split(np.concatenate([images for images, _ in parts]), np.concatenate([each for _, each in parts]))
    return classes, train, Split(*_read_batch(folder / test, labels))


def _read_batch(path: Path, key: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    record = load_pickle(path)
    missing = {"data", key} - record.keys()
    if missing:
        raise DataError(f"{path} has no {' and no '.join(sorted(missing))}; {AGAIN}")
    data, labels = record["data"], np.asarray(record[key])
    size = 3 * SIDE * SIDE
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != size:
        found = f"{data.dtype} of shape {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise DataError(f"{path}: data must be uint8 of shape (n, {size}), got {found}; {AGAIN}")
    if labels.shape != (len(data),) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{path}: {key} must be {len(data)} integers, got {labels.dtype} of shape {labels.shape}; {AGAIN}"
        )
    # Each row has the red, green and blue planes, each stored row by row.
    images = np.ascontiguousarray(data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))
    return images, labels.astype(np.int64)


def _memory_map(path: Path) -> npt.NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy raises several kinds for a damaged header, and another for a short file
        raise DataError(f"{path} is not a valid npy file ({error}); it may be truncated: {AGAIN}") from error
    return np.asarray(array)
