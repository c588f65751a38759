"""Find images that are in a dataset several times: in train and test, repeated within a split, or under two labels.

A test image that is also a training image makes a score too high. A copy within train is fitted twice, and may be both
fitted and held out; a copy within test makes intervals too narrow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from probebench._format import counted, list_some
from probebench.catalog import DatasetSpec
from probebench.datasets.dataset import Dataset, Images, Split, Subset, image_keys, pixel_keys, select
from probebench.datasets.files import printable
from probebench.errors import DataError, Note

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Duplicates:
    """How many images of a dataset are duplicates, by kind.

    Attributes:
        test_in_train: test images that are also among the training images
        within_train, within_test: images that are copies of an earlier one of the same split, unless both are views of
            one source (`Split.groups`)
        two_labels: different images that have more than one label
        n_train, n_test: images that were compared
        at_least: whether there may be more
        dropped: training images that were left out because of duplicates
        examples: by kind, the names of two equal images
    """

    test_in_train: int = 0
    within_train: int = 0
    within_test: int = 0
    two_labels: int = 0
    n_train: int = 0
    n_test: int = 0
    at_least: bool = False
    dropped: int = 0
    examples: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.test_in_train or self.within_train or self.within_test or self.two_labels)

    def describe(self) -> str:
        """Return the counts that are not zero as one clause, each with an example."""
        verb, of_test = "is" if self.test_in_train == 1 else "are", counted(self.n_test, "test image")
        found = {
            "test_in_train": f"{self.test_in_train:,} of {of_test} {verb} also among the training images",
            "within_train": f"{counted(self.within_train, 'training image')} repeated",
            "within_test": f"{counted(self.within_test, 'test image')} repeated",
            "two_labels": f"{counted(self.two_labels, 'image')} under more than one label",
        }
        parts = [f"{text} ({' = '.join(self.examples[kind])})" for kind, text in found.items() if getattr(self, kind)]
        return ("at least " if self.at_least and parts else "") + "; ".join(parts)

    def note(self, dataset: DatasetSpec) -> Note | None:
        """Return what a user should know about them: a warning, unless the spec of the dataset decides about them."""
        start = f"images of {dataset.name}:"
        if self.dropped:
            left = f"; left: {self.describe()}" if self else ""
            dropped = counted(self.dropped, "duplicate training image")
            return Note("info", f"{start} {dropped} {'was' if self.dropped == 1 else 'were'} left out{left}")
        if not self:
            return None
        if dataset.duplicates:
            return Note("info", f"{start} {self.describe()}")
        where = "(in its DatasetSpec, or recommend --duplicates)"
        remedy = f"duplicates='drop-train' leaves them out of training, 'keep' accepts them {where}"
        if self.within_test and not (self.test_in_train or self.within_train or self.two_labels):
            remedy = f"remove them; duplicates='keep' accepts them {where}"
        return Note("warning", f"{start} {self.describe()}; {remedy}")


def find_duplicates(train: Split, rows: Rows, test: Split) -> Duplicates:
    """Compare training images with one another and with test images, without decoding any.

    Args:
        rows: the training images that are used, as indices into `train`

    Returns:
        the duplicates among images that `probebench.datasets.dataset.image_keys` can compare
    """
    return count_duplicates(train, rows, image_keys(train.images, rows), test, image_keys(test.images))


def count_duplicates(
    train: Split, rows: Rows, train_keys: Sequence[bytes] | None, test: Split, test_keys: Sequence[bytes] | None
) -> Duplicates:
    """Count equal keys; None for a split whose images have none."""
    parts = (
        ("train", train, rows, train_keys or ()),
        ("test", test, np.arange(len(test)), test_keys or ()),
    )
    repeated = _repeated(key for *_, keys in parts for key in keys)
    counts: Counter[str] = Counter()
    examples: dict[str, tuple[str, str]] = {}
    first: dict[bytes, str] = {}  # the name of the first image with a key
    labels: dict[bytes, set[bytes]] = {}
    trained: set[bytes] = set()
    for part, split, chosen, keys in parts:
        sources: dict[bytes, set[int]] = {}
        for row, key in zip(chosen.tolist(), keys, strict=False):
            if key not in repeated:
                continue
            source = row if split.groups is None else int(split.groups[row])
            label = _label(split, row)
            found = {
                f"within_{part}": key in sources and source not in sources[key],
                "test_in_train": part == "test" and key in trained,
                "two_labels": label not in labels.get(key, {label}),
            }
            name = name_image(split.images, row, part)
            for kind in (kind for kind, is_so in found.items() if is_so):
                examples.setdefault(kind, (first[key], name))
                counts[kind] += 1
            first.setdefault(key, name)
            sources.setdefault(key, set()).add(source)
            labels.setdefault(key, set()).add(label)
        if part == "train":
            trained = set(sources)
    return Duplicates(
        test_in_train=counts["test_in_train"],
        within_train=counts["within_train"],
        within_test=counts["within_test"],
        two_labels=sum(len(each) > 1 for each in labels.values()),
        n_train=len(rows),
        n_test=len(test),
        examples=examples,
    )


def _repeated(keys: Iterable[bytes]) -> set[bytes]:
    seen: set[bytes] = set()
    repeated: set[bytes] = set()
    for key in keys:
        (repeated if key in seen else seen).add(key)
    return repeated


def _label(split: Split, row: int) -> bytes:
    """Return what tells the label of an image, or its labels or targets, from those of others."""
    return np.ascontiguousarray(split.labels[row]).tobytes()


def drop_from_train(data: Dataset) -> tuple[Dataset, int]:
    """Leave out training images that are also test images, all of those under several labels, and repeated ones but the
    first, unless they are views of one source. Images are compared by their pixels, and so all are decoded.

    Returns:
        the dataset, and how many training images were left out

    Raises:
        DataError: if a class that is tested has no training image any more
    """
    keys, tested = pixel_keys(data.train.images), set(pixel_keys(data.test.images))
    labels: dict[bytes, set[bytes]] = {}
    for row, key in enumerate(keys):
        labels.setdefault(key, set()).add(_label(data.train, row))
    sources = range(len(keys)) if data.train.groups is None else data.train.groups.tolist()
    first: dict[bytes, int] = {}
    kept = []
    for row, (key, source) in enumerate(zip(keys, sources, strict=True)):
        if key not in tested and len(labels[key]) == 1 and first.setdefault(key, source) == source:
            kept.append(row)
    rows = np.array(kept, dtype=np.int64)
    of_classes = data.train.labels.ndim == 1
    lost = np.setdiff1d(np.intersect1d(data.test.labels, data.train.labels), data.train.labels[rows])
    if of_classes and len(lost):
        names = list_some(repr(data.classes[label]) for label in lost)
        raise DataError(
            f"dataset {data.name!r}: without duplicates, no training image is left of class {names}; add other images, "
            "or keep duplicates"
        )
    dropped = len(data.train) - len(rows)
    return (replace(data, train=select(data.train, rows)), dropped) if dropped else (data, 0)


def name_image(images: npt.NDArray[np.uint8] | Images, row: int, part: str) -> str:
    """Name an image as its user knows it: by its file if it has one, else by its number."""
    if isinstance(images, Subset):
        return name_image(images.images, int(images.indices[row]), part)
    names = getattr(images, "names", None)
    return f"{part} image {row}" if names is None else printable(names[row])
