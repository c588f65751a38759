"""Get what datasets are published in, and unpack it where their readers look."""

from __future__ import annotations

import os
from pathlib import Path

from probebench._progress import Progress
from probebench.catalog import Archive, DatasetSpec
from probebench.errors import FetchError, Unreachable
from probebench.fetch.archives import Damaged, is_archive, unpack
from probebench.fetch.http import TIMEOUT, Refused, check_md5, check_room, locked, offline, storing, transfer
from probebench.fetch.local import missing

# Inside the folder of a dataset, so that it is on the same disk where that folder is a link to another one.
_DOWNLOADS = ".downloads"


def fetch_dataset(
    spec: DatasetSpec,
    root: Path,
    progress: Progress | None = None,
    keep_archives: bool = False,
    no_network: bool | None = None,
) -> None:
    """Fetch and unpack whatever of a dataset is not under `root` yet.

    Args:
        root: the data root
        keep_archives: leave downloaded archives beside what they make
        no_network: do without the network, which still unpacks archives put by hand; by default what `offline` says

    Raises:
        Unreachable: if there is no network
        FetchError: after all archives were tried, if there are some that could not be fetched: why, and what to do
    """
    errors: list[FetchError] = []
    for archive in missing(spec, root):
        try:
            fetch_archive(archive, root, progress, keep_archives, no_network)
        except Unreachable as error:
            errors.append(error)
            break  # the others would each wait for the same network
        except FetchError as error:
            errors.append(error)
    if errors:
        kind = Unreachable if isinstance(errors[-1], Unreachable) else FetchError
        raise kind(f"dataset {spec.name!r} could not be fetched: {'. '.join(map(str, errors))}.") from errors[0]


def fetch_archive(
    archive: Archive,
    root: Path,
    progress: Progress | None = None,
    keep: bool = False,
    no_network: bool | None = None,
) -> None:
    """Fetch and unpack one archive, unless what it makes is there.

    An archive that somebody has put into its folder is used, and left there. Other processes that want the same one
    wait.

    Raises:
        FetchError: see `download` and `unpack`; and for an archive that only a person can get
    """
    result, folder = root / archive.result, root / archive.folder
    by_hand = folder / archive.filename
    if result.exists():
        return
    if not by_hand.exists():  # which is another path than the result: that is not there
        if archive.manual:
            raise FetchError(
                f"{archive.url} cannot be fetched by a program: {archive.manual}. {_by_hand(archive, root)}"
            )
        if offline() if no_network is None else no_network:
            raise FetchError(f"{archive.url} is not on this machine, and the network is not to be used")
    waiting = folder / _DOWNLOADS / archive.filename
    with locked(waiting, progress):
        if result.exists():  # by the process that had the lock
            return
        if by_hand.exists():
            _unpack_by_hand(archive, by_hand, result, progress)
            return
        _get(archive, root, waiting, progress)
        if not archive.makes:
            with storing(folder):
                os.replace(waiting, result)
            return
        try:
            unpack(waiting, folder, result, progress)
        except Damaged as error:
            waiting.unlink(missing_ok=True)
            raise FetchError(f"{error}; it is deleted, fetch it again") from error
        with storing(folder):
            if keep:
                os.replace(waiting, by_hand)
            else:
                waiting.unlink()


def _unpack_by_hand(archive: Archive, path: Path, result: Path, progress: Progress | None) -> None:
    if progress is not None:
        progress.start(f"check {path.name}", 0)
    with storing(path.parent):
        check_md5(path, archive.md5)
    try:
        unpack(path, path.parent, result, progress)
    except Damaged as error:
        more = f" ({archive.manual})" if archive.manual else ""
        raise FetchError(f"{error}{more}; unpack it by hand, so that {result} is there, or get it again") from error


def _get(archive: Archive, root: Path, waiting: Path, progress: Progress | None) -> None:
    if not waiting.exists():
        part = waiting.with_name(f"{waiting.name}.part")
        arrived = part.stat().st_size if part.exists() else 0
        # Images hardly compress: unpacked, an archive takes about its own size again.
        check_room(waiting.parent, max(0, archive.size - arrived) + (archive.size if archive.makes else 0))
    try:
        transfer(archive.url, waiting, md5=archive.md5, size=archive.size, progress=progress, timeout=TIMEOUT)
    except Refused as error:
        raise FetchError(f"{error}. {_by_hand(archive, root)}") from error


def _by_hand(archive: Archive, root: Path) -> str:
    place, result = root / archive.folder / archive.filename, root / archive.result
    if not archive.makes:
        return f"Get it by hand and put it at {place}"
    if not is_archive(place):
        return f"Get it by hand, so that {result} is there"
    return f"Get it by hand, put it at {place} and fetch again, or unpack it so that {result} is there"
