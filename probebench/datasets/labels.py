"""Number labels as people write them: names, or integers with any first value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from probebench._format import list_some
from probebench.errors import DataError

SEED = 0


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Return the different labels: numbers in order, names by code point. ``1`` is a number, ``01`` a name."""
    found = set(labels)
    return sorted(found, key=int) if all(_is_integer(label) for label in found) else sorted(found)


def _is_integer(label: str) -> bool:
    return label.removeprefix("-").isdecimal() and str(int(label)) == label


def number_labels(
    train: Sequence[str], test: Sequence[str], names: Sequence[str] | None, where: tuple[str, str]
) -> tuple[list[str], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Number the labels of both splits: class names, train and test labels, int64 of shape (n,).

    Args:
        names: class names; labels are these names, or integers, indices into them from 0. None to take the labels of
            the training images as names, in the order of `sort_labels`
        where: name of each split in error messages

    Raises:
        DataError: for a label that is none of the names, a negative one, or one that only test images have
    """
    for split, labels in zip(where, (train, test), strict=True):
        if any(label.startswith("-") and _is_integer(label) for label in labels):
            lowest = min(int(label) for label in labels if _is_integer(label))
            raise DataError(f"{split} has the label {lowest}; remove images without a class, or use class names")
    if not train:
        raise DataError(f"{where[0]} has no labels; a probe needs training images")
    classes = sort_labels(train) if names is None else list(names)
    number = {name: label for label, name in enumerate(classes)}
    if names is not None and any(label not in number for label in train):
        number = {str(label): label for label in range(len(classes))}
    for split, labels in zip(where, (train, test), strict=True):
        if strange := sort_labels(set(labels) - number.keys()):
            problem = (
                f"has labels that no training image has: {list_some(strange, 5)}; add training images of those classes,"
                " or remove them"
                if names is None
                else f"has labels that are neither among the {len(classes)} class names nor numbers from 0 to "
                f"{len(classes) - 1}: {list_some(strange, 5)}"
            )
            raise DataError(f"{split} {problem}")
    numbered = [np.array([number[label] for label in labels], dtype=np.int64) for labels in (train, test)]
    return classes, numbered[0], numbered[1]


def draw_test_part(labels: Sequence[str], share: float, where: object) -> npt.NDArray[np.bool_]:
    """Draw a share of the images of each class for testing, at least one and not all: bool, shape (n,).

    The draw depends only on the name of a class and the number and order of its images.

    Raises:
        DataError: if no class has two images
    """
    places: dict[str, list[int]] = {}
    for place, label in enumerate(labels):
        places.setdefault(label, []).append(place)
    mask = np.zeros(len(labels), dtype=bool)
    for name, own in places.items():
        mask[np.array(own)[draw_of_class(name, len(own), share)]] = True
    if not mask.any():
        raise DataError(f"{where} has no class with two images, so none can be drawn for testing; add images")
    return mask


def draw_of_class(name: str, count: int, share: float) -> npt.NDArray[np.int64]:
    """Draw which of the images of a class to test on, at least one and not all: int64, in the order of the draw.

    Args:
        name: of the class; with it the draw is another one
        count: of the images
    """
    seed = [SEED, *name.encode("utf-8", "surrogateescape")]  # names of folders may be no UTF-8
    order = np.random.default_rng(seed).permutation(count)
    return order[: min(count - 1, max(1, round(share * count)))]


def describe_draw(where: object, share: float) -> str:
    """Say that a test part was drawn."""
    return (
        f"{where} has no test split: {share:.0%} of the images of each class, drawn with a fixed seed, are used for "
        "testing. If several images show the same object, split them yourself into train and test"
    )
