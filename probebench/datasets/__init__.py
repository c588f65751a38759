"""What a dataset is once it is read: images, labels, class names, an official split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module

import numpy as np
import numpy.typing as npt

from probebench.catalog import DatasetSpec
from probebench.errors import DataError, ProbebenchError


@dataclass(frozen=True)
class Split:
    """One split of a dataset.

    Attributes:
        images: uint8, shape (n, height, width) for grey or (n, height, width, 3) for RGB
        labels: int64, shape (n,), class indices from 0
        groups: int64, shape (n,), the same number for views of the same source image, which a held-out part keeps
            together; None where every image is its own
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of shapes, pixels and labels, in their order."""
        h = hashlib.sha256(repr((self.images.shape, self.labels.shape)).encode())
        h.update(np.ascontiguousarray(self.images).tobytes())
        h.update(self.labels.astype("<i8").tobytes())
        return h.hexdigest()[:16]


@dataclass(frozen=True)
class Dataset:
    """A labelled image dataset with its official train and test splits."""

    name: str
    classes: Sequence[str]
    train: Split
    test: Split

    def __post_init__(self) -> None:
        for name, split in (("train", self.train), ("test", self.test)):
            where = f"dataset {self.name!r}, {name} split"
            if split.images.dtype != np.uint8 or split.images.ndim not in (3, 4):
                raise DataError(
                    f"{where}: images must be uint8 of shape (n, height, width) or (n, height, width, 3), "
                    f"got {split.images.dtype} of shape {split.images.shape}"
                )
            if split.images.ndim == 4 and split.images.shape[3] != 3:
                raise DataError(f"{where}: colour images need 3 channels in the last axis, got {split.images.shape}")
            if split.labels.dtype != np.int64 or split.labels.shape != (len(split.images),):
                raise DataError(
                    f"{where}: labels must be int64 of shape ({len(split.images)},), "
                    f"got {split.labels.dtype} of shape {split.labels.shape}"
                )
            if split.groups is not None and split.groups.shape != split.labels.shape:
                raise DataError(f"{where}: groups must have shape {split.labels.shape}, got {split.groups.shape}")
            if not len(split):
                raise DataError(f"{where} is empty")
            low, high = int(split.labels.min()), int(split.labels.max())
            if low < 0 or high >= len(self.classes):
                raise DataError(
                    f"{where}: labels run from {low} to {high}, outside 0 to {len(self.classes) - 1} "
                    f"for {len(self.classes)} classes"
                )


def load(spec: DatasetSpec) -> Dataset:
    """Read the dataset that a spec describes.

    Raises:
        ProbebenchError: if the reader does not exist
        DataError: if what it returns is no valid dataset
    """
    module, _, function = spec.reader.partition(":")
    try:
        reader = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ProbebenchError(f"dataset {spec.name!r}: reader {spec.reader!r} cannot be loaded ({error})") from error
    classes, train, test = reader(**spec.kwargs)
    return Dataset(spec.name, classes, train, test)
