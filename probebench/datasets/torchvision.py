"""Read datasets with torchvision.datasets; datasets.toml has the arguments of its classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from probebench.datasets import Split
from probebench.datasets.files import ImageFiles, find_listed
from probebench.errors import DataError, ProbebenchError
from probebench.fetch.local import NotOnDisk, data_root


def dataset(
    of: str,
    train: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]],
    classes: Sequence[str] | None = None,
    first: int = 0,
    together: str | None = None,
) -> tuple[list[str], Split, Split]:
    """Read a dataset of torchvision from its usual folder in the data root: class names, train, test.

    Downloads nothing. Images in files stay there until they are read.

    Args:
        of: a class of torchvision.datasets
        train, test: arguments of the class for each part of the split; parts are concatenated
        classes: class names, if torchvision has none
        first: the smallest label
        together: a regular expression; training files with equal matches of its group are views of one object

    Raises:
        ProbebenchError: if this torchvision has no such class, or it takes other arguments
        NotOnDisk: if files are missing
        DataError: if torchvision cannot read them, or a class has no training image
    """
    parts = {
        name: [_read(of, options) for options in group] for name, group in (("train", train), ("test", test)) if group
    }
    found = [part.classes for group in parts.values() for part in group]
    # torchvision numbers the classes found in each part: if they differ, so does the meaning of the labels.
    if any(each != found[0] for each in found):
        raise DataError(f"the parts of {of} in {data_root()} have different classes; a list or a folder is incomplete")
    names = [name.replace("_", " ") for name in classes or found[0] or ()]
    splits = {name: _join(of, group, first) for name, group in parts.items()}
    trained = set(splits["train"].labels.tolist())
    if untrained := [name for label, name in enumerate(names) if label not in trained]:
        raise DataError(
            f"{of} in {data_root()} has no training images for {len(untrained)} of {len(names)} classes, the first "
            f"{untrained[0]!r}; unpack its archives again"
        )
    if together:
        splits["train"] = _group(splits["train"], together)
    return names, splits["train"], splits["test"]


@dataclass(frozen=True)
class _Part:
    """One dataset object of torchvision: its images are an array, or names of files in the data root."""

    images: npt.NDArray[np.uint8] | list[str]
    labels: npt.NDArray[np.int64]
    classes: Sequence[str] | None


def _read(of: str, options: Mapping[str, Any]) -> _Part:
    import torchvision

    root = data_root()
    where = f"{of} in {root}"
    try:
        kind = getattr(torchvision.datasets, of)
        signature(kind).bind(str(root), **options)
    except (AttributeError, TypeError) as error:
        version = torchvision.__version__
        raise ProbebenchError(f"torchvision {version} has no {of} that takes {dict(options)} ({error})") from None
    try:
        data = kind(str(root), **options)
    except FileNotFoundError as error:
        if error.filename is None:  # raised by make_dataset for class folders without images
            raise DataError(f"{where}: {error}") from error
        raise NotOnDisk(f"file {error.filename} does not exist.") from error
    except RuntimeError as error:
        if "not found" not in str(error):
            raise _damage_error(where, error) from error
        # The rest of the message describes how to download it with torchvision.
        raise NotOnDisk(f"torchvision finds no {of} in {root}, or it is damaged.") from error
    except Exception as error:  # torchvision does not check files, so a damaged one can raise anything
        raise _damage_error(where, error) from error
    try:
        images, labels = _images_and_labels(data)
    except (AttributeError, TypeError, ValueError) as error:
        raise _damage_error(where, error) from error
    return _Part(images, labels, getattr(data, "classes", None))


def _damage_error(where: str, error: Exception) -> DataError:
    reason = f"{type(error).__name__}: {error}"
    return DataError(f"{where} has a file that is damaged or in another format ({reason}); unpack its archives again")


def _images_and_labels(data: Any) -> tuple[npt.NDArray[np.uint8] | list[str], npt.NDArray[np.int64]]:
    """Return images and labels of a torchvision dataset; labels start at the class's own first label."""
    if hasattr(data, "data"):  # MNIST, STL10: arrays
        pixels = np.asarray(data.data)
        labels = data.targets if hasattr(data, "targets") else data.labels
        if pixels.ndim == 4:
            pixels = pixels.transpose(0, 2, 3, 1)
        return np.ascontiguousarray(pixels), _as_integers(labels)
    # torchvision has no public API for the names of files without decoding every image.
    if hasattr(data, "_image_files"):
        files, labels = data._image_files, data._labels
    else:
        samples = data.samples if hasattr(data, "samples") else data._samples
        files, labels = zip(*samples, strict=True)
    if not isinstance(files[0], str | Path):  # FER2013: an array for each image
        return np.stack([np.asarray(image) for image in files]), _as_integers(labels)
    root = data_root()
    return [Path(file).relative_to(root).as_posix() for file in files], _as_integers(labels)


def _as_integers(labels: Any) -> npt.NDArray[np.int64]:
    array = np.asarray(labels)
    if array.dtype.kind not in "iu":  # FER2013 has None if its file has no labels
        raise ValueError(f"labels are {array.dtype}, not integers")
    return array.astype(np.int64)


def _join(of: str, parts: Sequence[_Part], first: int) -> Split:
    labels = np.concatenate([part.labels for part in parts]) - first
    names = [name for part in parts for name in part.images if isinstance(name, str)]
    if names:
        return Split(find_listed(data_root(), names), labels)
    return Split(np.concatenate([np.asarray(part.images) for part in parts]), labels)


def _group(split: Split, together: str) -> Split:
    """Return the split with groups: one number per object shown in several files."""
    if not isinstance(split.images, ImageFiles):
        raise ProbebenchError(f"only image files can be grouped by {together!r}")
    keys = [match[1] if (match := re.fullmatch(together, name)) else name for name in split.images.names]
    _, groups = np.unique(keys, return_inverse=True)
    return Split(split.images, split.labels, groups.astype(np.int64))
