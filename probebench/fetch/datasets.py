"""Download the archives of datasets, and unpack them where the readers expect them."""

from __future__ import annotations

import os
from pathlib import Path

from probebench._progress import Progress
from probebench.catalog import Archive, DatasetSpec
from probebench.errors import FetchError, Unreachable
from probebench.fetch.archives import Damaged, is_archive, unpack
from probebench.fetch.http import (
    TIMEOUT,
    Refused,
    check_md5,
    check_room,
    lock_target,
    offline,
    transfer,
    translate_os_errors,
)
from probebench.fetch.local import missing

# Inside the folder of a dataset, to be on the same disk even if that folder is a link to another one.
_DOWNLOADS = ".downloads"


def fetch_dataset(
    spec: DatasetSpec,
    root: Path,
    progress: Progress | None = None,
    keep_archives: bool = False,
    no_network: bool | None = None,
) -> None:
    """Download and unpack the archives of a dataset whose results are not under `root` yet.

    Args:
        root: the data root
        keep_archives: keep downloaded archives after unpacking them
        no_network: only unpack archives that were downloaded by hand; by default the value of `offline`

    Raises:
        Unreachable: if there is no network
        FetchError: after all archives were tried, if some could not be fetched; the message has causes and remedies
    """
    errors: list[FetchError] = []
    for archive in missing(spec, root):
        try:
            fetch_archive(archive, root, progress, keep_archives, no_network)
        except Unreachable as error:
            errors.append(error)
            break  # each of the others would wait for the same network
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
    """Download and unpack one archive, unless its result exists.

    An archive that was downloaded by hand into its folder is used and kept. Other processes that need the same archive
    wait.

    Raises:
        FetchError: as in `download` and `unpack`, and for an archive that must be downloaded by hand
    """
    result, folder = root / archive.result, root / archive.folder
    by_hand = folder / archive.filename
    if result.exists():
        return
    if not by_hand.exists():
        if archive.manual:
            raise FetchError(
                f"{archive.url} cannot be downloaded automatically: {archive.manual}. {_manual_steps(archive, root)}"
            )
        if offline() if no_network is None else no_network:
            raise FetchError(f"{archive.url} is not on this machine, and downloads are disabled")
    waiting = folder / _DOWNLOADS / archive.filename
    with lock_target(waiting, progress):
        if result.exists():  # by the process that had the lock
            return
        if by_hand.exists():
            _unpack_by_hand(archive, by_hand, result, progress)
            return
        _download(archive, root, waiting, progress)
        if not archive.makes:
            with translate_os_errors(folder):
                os.replace(waiting, result)
            return
        try:
            unpack(waiting, folder, result, progress)
        except Damaged as error:
            waiting.unlink(missing_ok=True)
            raise FetchError(f"{error}; it was deleted, fetch it again") from error
        with translate_os_errors(folder):
            if keep:
                os.replace(waiting, by_hand)
            else:
                waiting.unlink()


def _unpack_by_hand(archive: Archive, path: Path, result: Path, progress: Progress | None) -> None:
    if progress is not None:
        progress.start(f"check {path.name}", 0)
    with translate_os_errors(path.parent):
        check_md5(path, archive.md5)
    try:
        unpack(path, path.parent, result, progress)
    except Damaged as error:
        more = f" ({archive.manual})" if archive.manual else ""
        raise FetchError(f"{error}{more}; unpack it by hand to create {result}, or download it again") from error


def _download(archive: Archive, root: Path, waiting: Path, progress: Progress | None) -> None:
    if not waiting.exists():
        part = waiting.with_name(f"{waiting.name}.part")
        arrived = part.stat().st_size if part.exists() else 0
        # Images hardly compress: the unpacked files take about the size of the archive again.
        check_room(waiting.parent, max(0, archive.size - arrived) + (archive.size if archive.makes else 0))
    try:
        transfer(archive.url, waiting, md5=archive.md5, size=archive.size, progress=progress, timeout=TIMEOUT)
    except Refused as error:
        raise FetchError(f"{error}. {_manual_steps(archive, root)}") from error


def _manual_steps(archive: Archive, root: Path) -> str:
    place, result = root / archive.folder / archive.filename, root / archive.result
    if not archive.makes:
        return f"Download it by hand and save it as {place}"
    if not is_archive(place):
        return f"Download it by hand and create {result} from it"
    return f"Download it by hand, save it as {place} and fetch again, or unpack it yourself to create {result}"
