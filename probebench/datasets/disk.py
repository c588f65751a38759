"""Where datasets lie on this machine, and what to say when one does not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

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
    """The archives of a dataset whose results are not in the data root, or in another one."""
    root = root or data_root()
    return [archive for archive in spec.archives if not (root / archive.result).exists()]


def how_to_get(spec: DatasetSpec) -> str:
    """What a user can do about a dataset that is not on this machine."""
    root = data_root()
    steps = [_step(archive, root) for archive in spec.archives]
    if spec.source:
        steps.append(f"Official source: {spec.source}.")
    steps.append(f"Datasets are looked for under {root}; PROBEBENCH_DATA names another folder.")
    return " ".join(steps)


def _step(archive: Archive, root: Path) -> str:
    path = root / archive.filename
    if not path.is_file():
        size = f" ({human(archive.size)})" if archive.size else ""
        return f"Get {archive.url}{size}."
    if archive.md5 and (found := _md5(path)) != archive.md5:
        return (
            f"{path} is damaged or another file: its MD5 is {found}, the published one {archive.md5}; "
            f"delete it and get {archive.url} again."
        )
    return f"{path} is here and whole; unpack it if you have not."


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def human(size: int) -> str:
    """A number of bytes as people write it: 502 B, 170 MB, 2.9 GB."""
    number, unit = float(size), "B"
    for larger in ("kB", "MB", "GB"):
        if number < 1000:
            break
        number, unit = number / 1000, larger
    return f"{number:.1f} {unit}" if number < 10 and unit != "B" else f"{number:.0f} {unit}"
