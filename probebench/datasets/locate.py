"""Find the files of listed images: in which folder they are, and with which ending."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from probebench._format import counted, list_some
from probebench.datasets.folder import ENDINGS
from probebench.errors import DataError


def is_image(name: str) -> bool:
    """Return whether a file is named like an image."""
    return name.lower().endswith(tuple(ENDINGS))


def locate(table: Path, names: Sequence[str], images: str | Path | None) -> tuple[Path, list[str]]:
    """Return a folder, and the path of each listed image relative to it, with forward slashes.

    Args:
        table: the file that lists them
        names: paths as written; they may lack the ending
        images: the folder that they are relative to; by default that of the table, a folder beside it, or one above

    Raises:
        DataError: if some are missing; the message has their number
    """
    names = [name.replace("\\", "/").removeprefix("./") for name in names]
    if images is not None:
        folder = Path(images).expanduser()
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; correct images")
        folders = iter([folder])
    else:
        folders = _candidates(table)
    tried: list[Path] = []
    for folder in folders:
        listing = _Listing(folder)
        if listing.find(names[0]) is not None:
            return _all(table, listing, names)
        tried.append(folder)
    for folder in tried:  # paths of another machine
        listing = _Listing(folder)
        for shorter in _shortened(names):
            if listing.find(shorter[0]) is not None:
                return _all(table, listing, shorter)
    remedy = "name the folder that it is in with images = '...'" if images is None else "correct the folder or the list"
    raise DataError(f"{table} lists {names[0]}, which is not in {list_some(tried)}; {remedy}")


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
    """The files below a folder. Each folder is listed once: tables are long, and disks may be remote."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files: dict[str, dict[str, list[str]]] = {}

    def find(self, name: str) -> str | None:
        """Return the path of an image as written, with an ending, with its ending in another case, or with its accents
        encoded otherwise; else None.

        Raises:
            DataError: if there are several
        """
        folder, file = os.path.split(name)
        if folder not in self._files:
            self._files[folder] = self._list(folder)
        known = self._files[folder]
        found = known.get(file) or known.get(_plain(file)) or known.get(_composed(file))
        if found is None:
            return None
        if len(found) > 1:
            raise DataError(f"{self.root / folder} has {list_some(found)}: write the ending of {name!r} in the table")
        return PurePosixPath(folder, found[0]).as_posix()

    def _list(self, folder: str) -> dict[str, list[str]]:
        """Return the files of a folder by name, and images also by the other ways of writing it."""
        try:
            files = sorted(entry.name for entry in os.scandir(self.root / folder) if not entry.is_dir())
        except OSError:
            return {}
        found: dict[str, list[str]] = {file: [file] for file in files}
        images = [file for file in files if is_image(file)]
        for key in (_plain, _composed, lambda file: os.path.splitext(file)[0]):
            own: dict[str, list[str]] = {}
            for file in images:
                own.setdefault(key(file), []).append(file)
            found = own | found
        return found


def _plain(file: str) -> str:
    """``IMG_1.jpg`` of ``IMG_1.JPG``."""
    stem, ending = os.path.splitext(file)
    return stem + ending.lower()


def _composed(file: str) -> str:
    """The name with accented letters as one character each (NFC); macOS writes them as two (NFD)."""
    return unicodedata.normalize("NFC", file)
