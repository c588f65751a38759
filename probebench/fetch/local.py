"""Where datasets lie on this machine, and what to say when one does not."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from probebench._files import md5_of
from probebench._format import human
from probebench.catalog import Archive, DatasetSpec
from probebench.errors import DataError


class NotOnDisk(DataError):
    """A dataset, or a part of it, that is not on this machine."""


def data_root() -> Path:
    """The folder that readers look in: $PROBEBENCH_DATA, or ~/.cache/probebench/data."""
    return Path(os.environ.get("PROBEBENCH_DATA") or "~/.cache/probebench/data").expanduser()


def require(folder: Path, parts: Iterable[str]) -> None:
    """Check that a folder has all of its parts.

    Raises:
        NotOnDisk: with the folder, what is expected in it and what is missing
    """
    parts = list(parts)
    expected = f"It should hold {', '.join(parts)}."
    if not folder.is_dir():
        raise NotOnDisk(f"there is no folder {folder}. {expected}")
    missing = [part for part in parts if not (folder / part).exists()]
    if missing:
        raise NotOnDisk(f"{folder} lacks {', '.join(missing)}. {expected}")


def missing(spec: DatasetSpec, root: Path | None = None) -> list[Archive]:
    """The archives of a dataset whose results are not under `root`, the data root by default."""
    root = root or data_root()
    return [archive for archive in spec.archives if not (root / archive.result).exists()]


def on_disk(spec: DatasetSpec) -> bool:
    """Whether all that the archives of a dataset make is in the data root; nothing is opened."""
    return not missing(spec)


def lacking(spec: DatasetSpec) -> str:
    """One line for a dataset that is not on this machine: its name, what is to be got, and how; empty if it is here.

    ``dataset cifar10: 170 MB, probebench fetch cifar10``
    """
    archives = missing(spec)
    if not archives:
        return ""
    size = sum(archive.size for archive in archives)
    parts = [human(size)] if size else []
    parts += dict.fromkeys(archive.manual for archive in archives if archive.manual)
    if not all(archive.manual for archive in archives):
        parts.append(f"probebench fetch {spec.name}")
    return f"dataset {spec.name}: {', '.join(parts)}"


def how_to_get(spec: DatasetSpec) -> str:
    """What a user can do about a dataset that is not on this machine, or not whole."""
    root = data_root()
    # Where all results are there and the reader misses a part of them, each archive may be the one to get again.
    archives = missing(spec) or spec.archives
    steps = [_here(archive, root) or _by_hand(archive, root) for archive in archives]
    fetched = [archive for archive, step in zip(archives, steps, strict=True) if not step]
    if fetched:
        size = sum(archive.size for archive in fetched)
        urls = ", ".join(archive.url for archive in fetched)
        steps.insert(0, f"Run: probebench fetch {spec.name} ({f'{human(size)}: ' if size else ''}{urls}).")
    if spec.source:
        steps.append(f"Official source: {spec.source}.")
    if spec.archives:
        steps.append(f"Datasets are looked for under {root}; PROBEBENCH_DATA names another folder.")
    return " ".join(step for step in steps if step)


def _here(archive: Archive, root: Path) -> str:
    """What is to be done with an archive that lies in the data root; empty if none does."""
    path = root / archive.folder / archive.filename
    if not path.is_file():
        return ""
    if archive.md5 and (found := md5_of(path)) != archive.md5:
        return (
            f"{path} is damaged or another file: its MD5 is {found}, the published one {archive.md5}; "
            f"delete it and get {archive.url} again."
        )
    return f"{path} is here and whole; unpack it if you have not, so that {root / archive.result} is there."


def _by_hand(archive: Archive, root: Path) -> str:
    """How to get an archive that no program can fetch; empty for the others."""
    if not archive.manual:
        return ""
    size = f" ({human(archive.size)})" if archive.size else ""
    return f"Get {archive.url}{size} by hand: {archive.manual}; {root / archive.result} should be there afterwards."
