"""Find datasets on this machine, and describe how to get those that are missing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from probebench._files import md5_of, own_folder
from probebench._format import human
from probebench.catalog import Archive, DatasetSpec
from probebench.errors import DataError


class NotOnDisk(DataError):
    """A dataset, or a part of it, is not on this machine."""


def data_root() -> Path:
    """The folder that contains all datasets: $PROBEBENCH_DATA, or ~/.cache/probebench/data.

    Raises:
        StoreError: if the user has no home directory
    """
    return own_folder("PROBEBENCH_DATA", "data")


def require(folder: Path, parts: Iterable[str]) -> None:
    """Check that a folder has all of its parts.

    Raises:
        NotOnDisk: if one is missing; the message has the folder, its expected content and the missing parts
    """
    parts = list(parts)
    expected = f"It should contain {', '.join(parts)}."
    if not folder.is_dir():
        raise NotOnDisk(f"folder {folder} does not exist. {expected}")
    missing = [part for part in parts if not (folder / part).exists()]
    if missing:
        raise NotOnDisk(f"{folder} is incomplete: {', '.join(missing)} not found. {expected}")


def missing(spec: DatasetSpec, root: Path | None = None) -> list[Archive]:
    """List the archives of a dataset whose results are not under `root`, by default the data root."""
    root = root or data_root()
    return [archive for archive in spec.archives if not (root / archive.result).exists()]


def on_disk(spec: DatasetSpec) -> bool:
    """Return whether the results of all archives of a dataset are in the data root. Opens no file."""
    return not missing(spec)


def how_to_get(spec: DatasetSpec) -> str:
    """Describe how to get a dataset that is missing or incomplete: commands, addresses, steps by hand."""
    root = data_root()
    # If all results exist but the reader misses a part of one, any archive may be the one to get again.
    archives = missing(spec) or spec.archives
    steps = [_check_downloaded(archive, root) or _manual_step(archive, root) for archive in archives]
    fetched = [archive for archive, step in zip(archives, steps, strict=True) if not step]
    if fetched:
        size = sum(archive.size for archive in fetched)
        urls = ", ".join(archive.url for archive in fetched)
        steps.insert(0, f"Run: probebench fetch {spec.name} ({f'{human(size)}: ' if size else ''}{urls}).")
    if spec.source:
        steps.append(f"Official source: {spec.source}.")
    if spec.archives:
        steps.append(f"Datasets are read from {root}; set PROBEBENCH_DATA to use another folder.")
    return " ".join(step for step in steps if step)


def _check_downloaded(archive: Archive, root: Path) -> str:
    """Describe what to do with an archive that is in the data root already; empty if it is not."""
    path = root / archive.folder / archive.filename
    if not path.is_file():
        return ""
    if archive.md5 and (found := md5_of(path)) != archive.md5:
        return (
            f"{path} is damaged or a different file: its MD5 is {found}, the published one {archive.md5}; "
            f"delete it and download {archive.url} again."
        )
    return f"{path} is complete; unpack it to create {root / archive.result}."


def _manual_step(archive: Archive, root: Path) -> str:
    """Describe how to download an archive by hand; empty for those that `probebench fetch` can download."""
    if not archive.manual:
        return ""
    size = f" ({human(archive.size)})" if archive.size else ""
    return f"Download {archive.url}{size} by hand ({archive.manual}) to create {root / archive.result}."
