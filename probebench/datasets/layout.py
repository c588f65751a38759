"""Find the splits and the classes of a folder of images, also where they are one step from where one looks for them."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from probebench._format import list_some
from probebench.datasets.files import printable
from probebench.datasets.walk import is_hidden
from probebench.errors import DataError

TRAIN = ("train", "training")
TEST = (("test", "testing"), ("val", "valid", "validation", "dev"))
"""Names of the folders to test on, in upper or lower case; the second are used where there is none of the first."""

SPLITS = (*TRAIN, *TEST[0], *TEST[1])
_DEEPEST = 3
_ABOUT = ("readme", "licen", "copying", "citation")  # files that say something about the folder beside them


@dataclass(frozen=True)
class Layout:
    """Where the images of two splits are.

    Attributes:
        root: the folder that has both, and that names of images are relative to
        train, test: the folders of the splits
        inside: whether they are in each class folder, and not the class folders in them
        above: how many folders that have no other were passed on the way to `root`
    """

    root: Path
    train: str
    test: str
    inside: bool = False
    above: int = 0


def find_layout(base: Path, test: str | None = None, deepest: int = _DEEPEST) -> Layout | None:
    """Find the splits of a folder: in it, in its class folders, or in the only folder that it has.

    Args:
        test: the folder to test on; None for the first of `TEST`
        deepest: how many folders in folders are looked into

    Returns:
        None if there are no two splits

    Raises:
        DataError: if several folders could be the same split
    """
    names = folders_in(base)
    train, tested = find_split(base, names, TRAIN), _find_test(base, names, test)
    if train and tested:
        return Layout(base, train, tested)
    if train or tested:
        return None
    if inside := _find_inside(base, names, test):
        return inside
    found = find_layout(base / names[0], test, deepest - 1) if len(names) == 1 and deepest else None
    return None if found is None else replace(found, above=found.above + 1)


def _find_inside(base: Path, names: Sequence[str], test: str | None) -> Layout | None:
    """Find splits in class folders; all classes have a split to train on, and some have one to test on."""
    if len(names) < 2:
        return None
    within: list[set[str]] = []
    for name in names:
        within.append(set(folders_in(base / name)))
        if not any(each.lower() in TRAIN for each in within[-1]):
            return None
    union = sorted(set().union(*within))
    train, tested = find_split(base / "*", union, TRAIN), _find_test(base / "*", union, test)
    if not tested or not all(train in each for each in within):
        return None
    return Layout(base, train, tested, inside=True)


def find_split(base: Path, names: Sequence[str], wanted: Sequence[str]) -> str:
    """Return the folder that has one of some names, in upper or lower case; an empty string if there is none.

    Raises:
        DataError: if there are several, and none of them has the first name as it is written
    """
    if wanted[0] in names:
        return wanted[0]
    found = [name for name in names if name.lower() in wanted]
    if len(found) > 1:
        raise DataError(f"{printable(base)} has {' and '.join(found)}; rename the one to use to {wanted[0]}")
    return found[0] if found else ""


def _find_test(base: Path, names: Sequence[str], test: str | None) -> str:
    if test is not None:
        return test if test in names or (base / test).is_dir() else ""
    return next(filter(None, (find_split(base, names, group) for group in TEST)), "")


def find_classes(base: Path) -> Path:
    """Return the folder with the class folders: `base`, or the only folder in it if that has several."""
    for _ in range(_DEEPEST):
        names = folders_in(base)
        if len(names) != 1 or _has_files(base) or _has_files(base / names[0]) or not folders_in(base / names[0]):
            break
        base = base / names[0]
    return base


def _has_files(folder: Path) -> bool:
    """Return whether a folder has files, such as images of a class or lists of the images below it."""
    return any(
        not (is_hidden(entry.name) or entry.name.lower().startswith(_ABOUT) or entry.is_dir())
        for entry in os.scandir(folder)
    )


def folders_in(folder: Path) -> list[str]:
    """Return the sorted names of the folders in a folder, without hidden ones; of none if it is no folder."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_hidden(entry.name))


def splits_in(folder: Path) -> list[str]:
    """Return the sorted names of subfolders that are names of splits, in upper or lower case."""
    return [name for name in folders_in(folder) if name.lower() in SPLITS]


def match_classes(tested: Iterable[str], trained: Sequence[str], where: str, other: str) -> dict[str, str]:
    """Return the training class of each test class. Two ways to write a letter with an accent (NFC, NFD) are the same.

    Args:
        where, other: the folders of the test and of the training classes, for messages

    Raises:
        DataError: if a test class has no training class; the message has names that are similar
    """
    same = {unicodedata.normalize("NFC", name): name for name in trained}
    if len(same) < len(trained):
        name = next(name for name in trained if same[unicodedata.normalize("NFC", name)] != name)
        raise DataError(
            f"{other} has two class folders named {printable(name)}, written in different bytes; merge them"
        )
    matched, extra = {}, []
    similar = {_fold(name): name for name in trained}
    for name in tested:
        if (known := same.get(unicodedata.normalize("NFC", name))) is not None:
            matched[name] = known
        else:
            hint = similar.get(_fold(name))
            extra.append(printable(name) + (f" (there it is {printable(hint)})" if hint is not None else ""))
    if extra:
        raise DataError(
            f"{where} has class folders that {other} does not have: {list_some(extra, most=5)}; names must match "
            "exactly: rename or remove them"
        )
    return matched


def _fold(name: str) -> str:
    """Return what is left of a name without the differences between spellings: case, blanks and other separators."""
    return re.sub(r"[\s_\-.]+", "", unicodedata.normalize("NFKC", name)).casefold()
