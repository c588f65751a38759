"""Find the files of listed images: in which folder they are, and with which ending."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from probebench._format import counted, list_some
from probebench.datasets.walk import ENDINGS
from probebench.errors import DataError


def is_image(name: str) -> bool:
    """Return whether a file is named like an image."""
    return os.path.splitext(name)[1].lower() in ENDINGS


class Locator:
    """Finds listed images. Each folder is listed once: tables are long, and disks may be remote.

    Args:
        images: the folder that paths are relative to; by default that of the table, a folder beside it, or one above
    """

    def __init__(self, images: str | Path | None = None) -> None:
        self._images = None if images is None else Path(images).expanduser()
        self._listings: dict[Path, _Listing] = {}

    def locate(self, table: Path, names: Sequence[str]) -> tuple[Path, list[str]]:
        """Return a folder, and the path of each listed image relative to it, with forward slashes.

        Args:
            table: the file that lists them
            names: paths as written; they may lack the ending, or begin with folders of another machine

        Raises:
            DataError: if some are missing; the message has their number
        """
        names = [name.replace("\\", "/").removeprefix("./") for name in names]
        if self._images is not None and not self._images.is_dir():
            raise DataError(f"{self._images} is not a folder; correct images")
        tried: list[Path] = []
        for folder in _candidates(table) if self._images is None else [self._images]:
            if self._listing(folder).find(names[0]) is not None:
                return _all(table, self._listing(folder), names)
            tried.append(folder)
        for folder in tried:
            for shorter in _shortened(names):
                if self._listing(folder).find(shorter[0]) is not None:
                    return _all(table, self._listing(folder), shorter)
        remedy = "correct the folder or the list" if self._images else "name its folder with images = '...'"
        raise DataError(f"{table} lists {names[0]}, which is not in {list_some(tried)}; {remedy}")

    def _listing(self, folder: Path) -> _Listing:
        return self._listings.setdefault(folder, _Listing(folder))


def _shortened(names: list[str]) -> Iterator[list[str]]:
    """Yield the paths without the first, then without the first two folders, and so on, as far as all have the same."""
    first = names[0].split("/")[:-1]
    for depth in range(1, len(first) + 1):
        above = "/".join(first[:depth]) + "/"
        if not all(name.startswith(above) for name in names):
            return
        yield [name.removeprefix(above) for name in names]


def _candidates(table: Path) -> Iterator[Path]:
    """Yield the folders that paths in a table may be relative to, the likelier first."""
    for place in (table.parent, table.absolute().parent.parent):
        yield place
        try:
            below = sorted(entry.name for entry in os.scandir(place) if entry.is_dir() and entry.name[0] != ".")
        except OSError:  # a folder above that this user may not list
            continue
        for name in sorted(below, key=lambda name: name != table.stem):  # train/ is likelier for train.csv
            yield place / name


def _all(table: Path, listing: _Listing, names: list[str]) -> tuple[Path, list[str]]:
    found = [listing.find(name) for name in names]
    if missing := [name for name, path in zip(names, found, strict=True) if path is None]:
        raise DataError(
            f"{counted(len(missing), 'image')} of {len(names):,} in {table} {'is' if len(missing) == 1 else 'are'} not "
            f"in {listing.root}, the first {missing[0]}; copy them there, or remove their rows"
        )
    paths = [path for path in found if path is not None]
    if not any(path.startswith("/") for path in paths):
        return listing.root, paths
    root = os.path.commonpath([os.path.dirname(path) for path in paths])
    return Path(root), [os.path.relpath(path, root) for path in paths]


class _Listing:
    """The files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files: dict[str, set[str]] = {}
        self._variants: dict[str, dict[str, list[str]]] = {}

    def find(self, name: str) -> str | None:
        """Return the path of an image as written, with an ending, with its ending in another case, or with its accents
        encoded otherwise; else None.

        Raises:
            DataError: if there are several
        """
        folder, file = os.path.split(name)
        if folder not in self._files:
            self._files[folder] = self._list(folder)
        if file in self._files[folder]:
            return name
        if folder not in self._variants:
            self._variants[folder] = _variants(self._files[folder])
        variants = self._variants[folder]
        found = variants.get(file) or variants.get(_plain(file)) or variants.get(_composed(file))
        if found is None:
            return None
        if len(found) > 1:
            raise DataError(f"{self.root / folder} has {list_some(found)}: write the ending of {name!r} in the table")
        return os.path.join(folder, found[0])

    def _list(self, folder: str) -> set[str]:
        try:
            return {entry.name for entry in os.scandir(self.root / folder) if not entry.is_dir()}
        except OSError:
            return set()


def _variants(files: Iterable[str]) -> dict[str, list[str]]:
    """Return images by the other ways of writing their names."""
    found: dict[str, list[str]] = {}
    for file in sorted(files):
        if is_image(file):
            for name in {_plain(file), _composed(file), os.path.splitext(file)[0]}:
                found.setdefault(name, []).append(file)
    return found


def _plain(file: str) -> str:
    """``IMG_1.jpg`` of ``IMG_1.JPG``."""
    stem, ending = os.path.splitext(file)
    return stem + ending.lower()


def _composed(file: str) -> str:
    """The name with accented letters as one character each (NFC); macOS writes them as two (NFD)."""
    return unicodedata.normalize("NFC", file)
