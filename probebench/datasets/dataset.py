"""Datasets in memory: images, labels, class names and the official split."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from inspect import signature
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from probebench.catalog import DatasetSpec
from probebench.catalog.tasks import CLASSIFICATION, REGRESSION, Task, get_task
from probebench.datasets.files import broken_images, in_threads
from probebench.errors import DataError, Note, ProbebenchError
from probebench.fetch.local import NotOnDisk, how_to_get

_SEARCH = 60.0  # seconds


class Images(Protocol):
    """A sequence of images, which need not be in memory or of one size. May define `concurrent`; see that function."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> npt.NDArray[np.uint8]:
        """One image: uint8, shape (height, width) for grey or (height, width, 3) for RGB."""


@runtime_checkable
class Content(Protocol):
    """`Images` that can be identified without decoding them."""

    def content(self) -> Iterator[bytes]:
        """Yield bytes that identify the images, in order."""


@runtime_checkable
class Digests(Protocol):
    """`Images` that can be compared without decoding them, although `content` identifies them by more than bytes."""

    def digests(self, rows: npt.NDArray[np.int64], /) -> list[bytes]:
        """Return the SHA-256 of the bytes of each of some images, without their names."""


def concurrent(images: npt.NDArray[np.uint8] | Images) -> bool:
    """Return whether several threads may read images at once: arrays, and classes with ``concurrent = True``."""
    if isinstance(images, Subset):
        return concurrent(images.images)
    return isinstance(images, np.ndarray) or bool(getattr(images, "concurrent", False))


def upright(images: npt.NDArray[np.uint8] | Images) -> bool:
    """Return whether the EXIF orientation is applied to images: unless they have ``upright = False``."""
    if isinstance(images, Subset):
        return upright(images.images)
    return bool(getattr(images, "upright", True))


@dataclass(frozen=True)
class Split:
    """One split of a dataset.

    Attributes:
        images: uint8, shape (n, height, width) for grey or (n, height, width, 3) for RGB; or `Images`, read one by one
        labels: int64, shape (n,), class indices from 0. Of the task ``multilabel`` int8, shape (n, labels), 1 for a
            label that the image has, 0 for one that it has not, -1 for one of which it is not known; of ``regression``
            float64, shape (n, targets). `Dataset` converts other types of the same values to these
        groups: int64, shape (n,), equal for views of the same source image, which a held-out part keeps together;
            None if all images are independent
        notes: what the user should know about how the images were found, such as how many files were left out and why
    """

    images: npt.NDArray[np.uint8] | Images
    labels: npt.NDArray[Any]
    groups: npt.NDArray[np.int64] | None = None
    notes: tuple[Note, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of shapes, images and labels, in order.

        Images with a method `content`, such as files, are identified by what it yields (names and bytes), so that
        nothing is decoded and the digest does not depend on the version of a decoder. Others are identified by pixels.
        """
        if isinstance(self.images, np.ndarray):
            h = hashlib.sha256(repr((self.images.shape, self.labels.shape)).encode())
        else:
            h = hashlib.sha256(repr((len(self.images), self.labels.shape)).encode())
        for part in _identifying_bytes(self.images):
            h.update(part)
        h.update(self.labels.astype("<f8" if self.labels.dtype.kind == "f" else "<i8").tobytes())
        return h.hexdigest()[:16]

    @cached_property
    def images_digest(self) -> str:
        """The SHA-256 of the images in order, in hexadecimal digits; see `digest`. Independent of labels."""
        return _images_digest(self.images)


def _images_digest(images: npt.NDArray[np.uint8] | Images) -> str:
    if isinstance(images, Subset):  # not by pixels, so that files are not decoded
        parts = (_images_digest(images.images).encode(), images.indices.astype("<i8").tobytes())
        return hashlib.sha256(b"some of " + b"".join(parts)).hexdigest()
    h = hashlib.sha256(repr(images.shape if isinstance(images, np.ndarray) else len(images)).encode())
    for part in _identifying_bytes(images):
        h.update(part)
    return h.hexdigest()


def image_keys(images: npt.NDArray[np.uint8] | Images, rows: npt.NDArray[np.int64] | None = None) -> list[bytes] | None:
    """Return bytes that are equal for equal images, and only for those.

    Two images in memory are equal if their shapes and pixels are, two files if their bytes are. Nothing is decoded.

    Args:
        rows: indices of the images; by default all

    Returns:
        a key per image, or None for `Images` with neither a method `digests` nor a method `content`
    """
    rows = np.arange(len(images)) if rows is None else rows
    if isinstance(images, Subset):
        return image_keys(images.images, images.indices[rows])
    if isinstance(images, np.ndarray):
        shape = repr(images.shape[1:]).encode()
        return [hashlib.sha256(shape + images[row].tobytes()).digest() for row in rows]
    if isinstance(images, Digests):
        return images.digests(rows)
    if not isinstance(images, Content):
        return None
    known = [hashlib.sha256(part).digest() for part in images.content()]
    return [known[row] for row in rows]


def pixel_keys(images: npt.NDArray[np.uint8] | Images, rows: npt.NDArray[np.int64] | None = None) -> list[bytes]:
    """Return bytes that are equal for images of equal shape and pixels, and only for those. All are decoded.

    Args:
        rows: indices of the images; by default all

    Raises:
        DataError: if some cannot be read; the message has all of them
    """
    keys, broken = _read_all(images, np.arange(len(images)) if rows is None else rows, _pixel_key)
    if broken:
        raise broken_images(broken, len(keys))
    return keys


def _pixel_key(image: npt.NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()


def explain_broken(splits: Sequence[Split], error: DataError, seconds: float = _SEARCH) -> DataError:
    """Return an error for all images that cannot be read, after one of them could not be.

    Args:
        splits: in which they are looked for
        error: that of the first; returned if no other is found
        seconds: after which the search ends
    """
    broken: list[str] = []
    tried, end = 0, time.monotonic() + seconds
    for split in splits:
        keys, found = _read_all(split.images, np.arange(len(split)), lambda image: b"", end)
        broken, tried = broken + found, tried + len(keys)
    return broken_images(broken, tried) if len(broken) > 1 else error


def _read_all(
    images: npt.NDArray[np.uint8] | Images,
    rows: npt.NDArray[np.int64],
    key: Callable[[npt.NDArray[np.uint8]], bytes],
    end: float = float("inf"),
) -> tuple[list[bytes], list[str]]:
    """Decode images in several threads.

    Args:
        end: the time of `time.monotonic` from which no other image is read

    Returns:
        a key of each, and for each that cannot be read the reason
    """
    broken: list[str] = []

    def read(piece: Sequence[int]) -> list[bytes]:
        keys = []
        for row in piece:
            if time.monotonic() > end:
                break
            try:
                keys.append(key(images[row]))
            except DataError as error:
                broken.append(str(error))
                keys.append(b"")
        return keys

    found = in_threads(read, rows.tolist(), None if concurrent(images) else 1)
    return found, sorted(broken)


def _identifying_bytes(images: npt.NDArray[np.uint8] | Images) -> Iterable[bytes | memoryview]:
    if isinstance(images, np.ndarray):
        return (np.ascontiguousarray(images).reshape(-1).data,)
    return images.content() if isinstance(images, Content) else _pixel_bytes(images)


def _pixel_bytes(images: Images) -> Iterator[bytes]:
    for index in range(len(images)):
        image = images[index]
        yield repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()


@dataclass(frozen=True)
class Dataset:
    """A labelled image dataset with its official train and test splits.

    Attributes:
        name: as in `DatasetSpec.name`
        classes: class names; of other tasks the names of labels or targets
        train, test: the splits
        task: as in `DatasetSpec.task`
    """

    name: str
    classes: Sequence[str]
    train: Split
    test: Split
    task: str = CLASSIFICATION.name

    def __post_init__(self) -> None:
        if not hasattr(self.classes, "__len__"):
            raise DataError(f"dataset {self.name!r}: classes must be a list of names, got {_describe(self.classes)}")
        for name, split in (("train", self.train), ("test", self.test)):
            where = f"dataset {self.name!r}, {name} split"
            if not isinstance(split, Split):
                raise DataError(f"{where}: must be a Split(images, labels), got {_describe(split)}")
            _check_images(where, split.images)
            count = len(split.images)
            if self.task == CLASSIFICATION.name:
                _check_classes(where, split.labels, count)
            else:
                labels = _labels_of_task(where, split.labels, count, self.classes, get_task(self.task))
                split = replace(split, labels=labels)
                object.__setattr__(self, name, split)
            if split.groups is not None and not _is_array(split.groups, None, (count,)):
                raise DataError(f"{where}: groups must be an array of shape ({count},), got {_describe(split.groups)}")
            if not len(split):
                raise DataError(f"{where} is empty")
            if not isinstance(split.images, np.ndarray):
                check_image(self._first_image(split), where)
            if self.task != CLASSIFICATION.name:
                continue
            low, high = int(split.labels.min()), int(split.labels.max())
            if low < 0 or high >= len(self.classes):
                raise DataError(
                    f"{where}: labels run from {low} to {high}, outside 0 to {len(self.classes) - 1} "
                    f"for {len(self.classes)} classes; a label is an index into the list of classes, from 0"
                )

    def _first_image(self, split: Split) -> npt.NDArray[np.uint8]:
        try:
            return split.images[0]
        except DataError as error:
            raise explain_broken([self.train, self.test], error) from error

    @property
    def notes(self) -> list[Note]:
        """What the user should know about how the images of both splits were found."""
        return [
            replace(note, text=f"images of {self.name}: {note.text}") for note in (*self.train.notes, *self.test.notes)
        ]


def _check_classes(where: str, labels: object, count: int) -> None:
    if _is_array(labels, np.int64, (count,)):
        return
    hint = ""
    if isinstance(labels, np.ndarray) and labels.ndim == 2 and labels.shape[1] > 1:
        hint = "; for several labels an image, give its DatasetSpec task='multilabel'"
    elif isinstance(labels, np.ndarray) and labels.dtype.kind == "f":
        hint = "; for real-valued targets, give its DatasetSpec task='regression'"
    raise DataError(f"{where}: labels must be int64 of shape ({count},), got {_describe(labels)}{hint}")


def _labels_of_task(where: str, labels: object, count: int, names: Sequence[str], task: Task) -> npt.NDArray[Any]:
    """Return the labels of a task that has no classes, in the type of `Split.labels`.

    Raises:
        DataError: if they are of another type or shape, or have values that the task has not
    """
    columns = (count, len(names))
    shapes = (columns, (count,)) if task is REGRESSION and len(names) == 1 else (columns,)
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "biuf" or labels.shape not in shapes:
        wanted = " or ".join(str(shape) for shape in shapes)
        raise DataError(
            f"{where}: the labels of task {task.name!r} are {task.labels}; wanted shape {wanted} for {len(names)} "
            f"name{'' if len(names) == 1 else 's'}, got {_describe(labels)}"
        )
    labels = labels.reshape(columns)
    if task is REGRESSION:
        values = labels.astype(np.float64)
        if not (finite := np.isfinite(values).all(axis=1)).all():
            raise DataError(
                f"{where}: the target of image {int(np.argmin(finite))} is not finite; remove images without a target"
            )
        return values
    known = np.nan_to_num(labels, nan=-1) if labels.dtype.kind == "f" else labels.astype(np.int64)
    strange = known[~np.isin(known, (-1, 0, 1))]
    if len(strange):
        raise DataError(
            f"{where}: a label is 1 if the image has it, 0 if it has it not, and -1 if that is not known, got "
            f"{strange[0]}"
        )
    return known.astype(np.int8)


def _check_images(where: str, images: npt.NDArray[np.uint8] | Images) -> None:
    if not isinstance(images, np.ndarray):
        if not (hasattr(images, "__len__") and hasattr(images, "__getitem__")):
            raise DataError(f"{where}: images must be an array or support len() and [index], got {_describe(images)}")
        return
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataError(
            f"{where}: images must be uint8 of shape (n, height, width) or (n, height, width, 3), got "
            f"{_describe(images)}"
        )
    if images.ndim == 4 and images.shape[3] != 3:
        raise DataError(f"{where}: colour images need 3 channels in the last axis, got {images.shape}")
    if 0 in images.shape[1:]:
        raise DataError(f"{where}: images have no pixels, got {_describe(images)}")


def check_image(image: object, where: str) -> None:
    """Check one image of a sequence. Every image is checked, because others may differ from the first.

    Args:
        where: name of the sequence in error messages

    Raises:
        DataError: if it is not uint8 of shape (height, width) or (height, width, 3), or has no pixels
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise DataError(
            f"{where}: an image must be uint8 of shape (height, width) or (height, width, 3), got {_describe(image)}"
        )
    if image.ndim == 3 and image.shape[2] != 3:
        raise DataError(f"{where}: a colour image needs 3 channels in the last axis, got {image.shape}")
    if not image.size:
        raise DataError(f"{where}: an image has no pixels, got {_describe(image)}")


def _is_array(value: object, dtype: type | None, shape: tuple[int, ...]) -> bool:
    return isinstance(value, np.ndarray) and (dtype is None or value.dtype == dtype) and value.shape == shape


def _describe(value: object) -> str:
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def training_split_for(shifted: Dataset, clean: Dataset) -> Split:
    """Return the train split of a clean dataset, restricted and relabelled to the tested classes of a shifted one.

    Classes are matched by name, unless both datasets have the same list. Classes that are not tested are left out, so
    that the probe cannot predict them.

    Labels and targets are matched by name, too.

    Raises:
        DataError: if a class is not in the clean dataset, a name occurs twice, or the datasets have different tasks
    """
    if shifted.task != clean.task:
        raise DataError(
            f"dataset {shifted.name!r} of task {shifted.task!r} cannot be tested with a probe trained on "
            f"{clean.name!r} of task {clean.task!r}"
        )
    if shifted.task != CLASSIFICATION.name:
        columns = _match_classes(shifted, clean, np.arange(len(shifted.classes)))
        return replace(clean.train, labels=clean.train.labels[:, columns])
    tested = np.unique(shifted.test.labels)
    own = tested if list(shifted.classes) == list(clean.classes) else _match_classes(shifted, clean, tested)
    renamed = np.full(len(clean.classes), -1, dtype=np.int64)
    renamed[own] = tested
    labels = renamed[clean.train.labels]
    if (labels >= 0).all():
        return replace(clean.train, labels=labels)
    kept = np.flatnonzero(labels >= 0)
    return select(replace(clean.train, labels=labels), kept)


def select(split: Split, rows: npt.NDArray[np.int64]) -> Split:
    """Return some images of a split, read as before."""
    groups = None if split.groups is None else split.groups[rows]
    return replace(split, images=Subset(split.images, rows), labels=split.labels[rows], groups=groups)


def _match_classes(shifted: Dataset, clean: Dataset, tested: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the clean dataset's labels of the tested classes of a shifted one, matched by name."""
    names = [shifted.classes[label] for label in tested]
    where = f"dataset {shifted.name!r} cannot be tested with a probe trained on {clean.name!r}"
    if missing := [name for name in names if name not in clean.classes]:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise DataError(f"{where}, which has no class {', '.join(map(repr, missing[:3]))}{more}")
    for each, data in ((names, shifted), (list(clean.classes), clean)):
        if twice := next((name for name in names if each.count(name) > 1), None):
            raise DataError(f"{where}: classes are matched by name, but {data.name!r} has two classes {twice!r}")
    place = {name: label for label, name in enumerate(clean.classes)}
    return np.array([place[name] for name in names], dtype=np.int64)


@dataclass(frozen=True)
class Subset:
    """A selection of images, each read when it is indexed."""

    images: npt.NDArray[np.uint8] | Images
    indices: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> npt.NDArray[np.uint8]:
        return self.images[int(self.indices[index])]


def load(spec: DatasetSpec) -> Dataset:
    """Read the dataset of a spec.

    Raises:
        ProbebenchError: if the reader does not exist, or does not accept the arguments of the spec
        NotOnDisk: if the dataset is not on this machine; the message has the steps to get it
        DataError: if it is damaged, or the reader does not return a valid dataset
    """
    module, _, function = spec.reader.partition(":")
    try:
        reader = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ProbebenchError(f"dataset {spec.name!r}: reader {spec.reader!r} cannot be loaded ({error})") from error
    # A reader that can read labels of several tasks has an argument `task`.
    known = signature(reader).parameters
    kwargs = {"task": spec.task, **spec.kwargs} if "task" in known else dict(spec.kwargs)
    try:
        signature(reader).bind(**kwargs)
    except TypeError as error:
        raise ProbebenchError(
            f"dataset {spec.name!r}: reader {spec.reader!r} cannot be called with kwargs {dict(spec.kwargs)} ({error})"
        ) from error
    try:
        read = reader(**kwargs)
    except NotOnDisk as error:
        raise NotOnDisk(f"dataset {spec.name!r} is not on this machine: {error} {how_to_get(spec)}".rstrip()) from error
    except DataError as error:
        raise DataError(f"dataset {spec.name!r}: {error}") from error
    if not isinstance(read, tuple | list) or len(read) != 3:
        raise DataError(
            f"dataset {spec.name!r}: reader {spec.reader!r} must return class names, train and test, "
            f"got {_describe(read)}{f' of {len(read)}' if isinstance(read, tuple | list) else ''}"
        )
    classes, train, test = read
    return Dataset(spec.name, classes, train, test, spec.task)
