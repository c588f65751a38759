"""Download one file: resume after interruptions, check it, and put it in place only when it is complete."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import sleep

import httpx2
from filelock import FileLock, Timeout

from probebench._files import md5_of
from probebench._format import human
from probebench._progress import Progress
from probebench._version import __version__
from probebench.errors import FetchError, Unreachable

CONNECT = 5.0
"""Seconds to connect to a server; without a network, the time until the error."""
TIMEOUT = 30.0
"""Seconds without data after which a transfer is retried."""
TRIES = 3
"""Consecutive attempts without new data before giving up."""
ALL_TRIES = 20
"""Attempts in total."""
PATIENCE = 60.0
"""The longest wait in seconds that a server may request."""

RESUMES = "the next fetch resumes the download"


class Refused(FetchError):
    """The server answers but does not serve the file: 401, 403, 404 and the like."""


def download(
    url: str,
    target: Path,
    *,
    md5: str = "",
    size: int = 0,
    progress: Progress | None = None,
    timeout: float = TIMEOUT,
) -> None:
    """Download a file, unless it exists.

    Data is written to ``NAME.part`` next to the target and renamed when it is complete and checked. A part left by an
    earlier call is resumed if the server still has the same file. Other processes that need the same target wait.

    Args:
        url: http or https
        target: path of the file; its folder is created
        md5: checksum in hexadecimal digits; not checked if empty
        size: published size in bytes, perhaps rounded; 0 if unknown
        timeout: seconds without data after which the transfer is retried

    Raises:
        Unreachable: if there is no network or no such host
        Refused: if the server does not serve the file
        FetchError: for all other failures: a timeout, a truncated body, a wrong checksum, or a disk that is full or
            not writable
    """
    with lock_target(target, progress):
        transfer(url, target, md5=md5, size=size, progress=progress, timeout=timeout)


@contextmanager
def lock_target(target: Path, progress: Progress | None = None) -> Iterator[None]:
    """Create the folder of a target and lock the target against other processes."""
    with translate_os_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f"{target.name}.lock"))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            if progress is not None:
                progress.start(f"{target.name}: waiting for another process that downloads it", 0)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def transfer(url: str, target: Path, *, md5: str, size: int, progress: Progress | None, timeout: float) -> None:
    """`download` for a caller that has locked the target."""
    if target.exists():
        with translate_os_errors(target.parent):
            check_md5(target, md5)
        return
    part = _PartialFile(target, url)
    if not part.complete:
        _fetch(part, size, progress, timeout)
    with translate_os_errors(target.parent):
        if md5 and (found := md5_of(part.path)) != md5:
            part.discard()
            raise FetchError(
                f"{url}: the MD5 of the downloaded file is {found}, but the published one is {md5}; the file was "
                "deleted. Fetch it again; if the error persists, the publisher has changed the file"
            )
        part.finish()


def check_md5(path: Path, md5: str) -> None:
    """Raise FetchError if the MD5 of a user's file, which is not deleted, is not the published one, if any."""
    if md5 and (found := md5_of(path)) != md5:
        raise FetchError(
            f"{path} is damaged or a different file: its MD5 is {found}, the published one {md5}; delete it and fetch "
            "again"
        )


def check_room(folder: Path, needed: int) -> None:
    """Raise FetchError if the disk of a folder, which need not exist yet, has fewer than `needed` bytes free."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    with translate_os_errors(folder):
        free = shutil.disk_usage(place).free
    if free < needed:
        raise FetchError(
            f"{human(needed)} are needed on the disk of {folder}, but only {human(free)} are free; {_ELSEWHERE}"
        )


_ELSEWHERE = "free some space, or set PROBEBENCH_DATA to a folder on another disk"


@contextmanager
def translate_os_errors(folder: Path, needed: Callable[[], int] = int) -> Iterator[None]:
    """Turn OSError into FetchError: the disk is full, or the folder is not usable.

    Args:
        needed: returns the number of bytes still to be written; 0 if unknown
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            more = f", {human(count)} more are needed" if (count := needed()) else ""
            raise FetchError(f"the disk of {folder} is full{more}; {_ELSEWHERE}; {RESUMES}") from error
        raise FetchError(
            f"{folder} cannot be used ({error.strerror or error}): "
            "make it writable, or set PROBEBENCH_DATA to another folder"
        ) from error


class _PartialFile:
    """The part of a file downloaded so far, with the ETag or date that identifies its version on the server."""

    def __init__(self, target: Path, url: str) -> None:
        self.target, self.url = target, url
        self.path = target.with_name(f"{target.name}.part")
        self._about = target.with_name(f"{target.name}.part.json")
        self.validator, self.total = "", 0
        with suppress(OSError, ValueError, KeyError, TypeError):
            about = json.loads(self._about.read_text(encoding="utf-8"))
            if about["url"] == url:
                self.validator, self.total = str(about["validator"]), int(about["total"])

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def complete(self) -> bool:
        """All data is here; only checking and renaming was interrupted."""
        return self.total > 0 and self.size == self.total

    def begin(self, validator: str, total: int) -> None:
        self.discard()
        self.validator, self.total = validator, total
        about = {"url": self.url, "validator": validator, "total": total}
        self._about.write_text(json.dumps(about), encoding="utf-8")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)
        self.validator, self.total = "", 0

    def finish(self) -> None:
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(self.path, self.target)
        self._about.unlink(missing_ok=True)


class _TransientError(Exception):
    """A failure that is worth a retry.

    Attributes:
        error: raised if retries fail
        wait: seconds to wait as requested by the server; None for the usual growing wait
    """

    def __init__(self, error: FetchError, wait: float | None = None) -> None:
        self.error, self.wait = error, wait


def _fetch(part: _PartialFile, size: int, progress: Progress | None, timeout: float) -> None:
    idle, reached = 0, False
    limits = httpx2.Timeout(timeout, connect=min(CONNECT, timeout))
    headers = {"User-Agent": f"probebench/{__version__}", "Accept-Encoding": "identity"}
    with httpx2.Client(timeout=limits, follow_redirects=True, headers=headers) as client:
        for tried in range(1, ALL_TRIES + 1):
            before = part.size
            try:
                return _attempt(client, part, size, progress, timeout)
            except Unreachable as error:
                # Retry only if the server was reached before; otherwise report a missing network at once.
                if not reached:
                    raise
                passing = _TransientError(error)
            except _TransientError as error:
                passing, reached = error, True
            idle = 0 if part.size > before else idle + 1
            wait = 2.0**idle / 2 if passing.wait is None else passing.wait
            if idle >= TRIES or tried == ALL_TRIES or wait > PATIENCE:
                raise passing.error
            sleep(wait)


def _attempt(client: httpx2.Client, part: _PartialFile, size: int, progress: Progress | None, timeout: float) -> None:
    url, have = part.url, part.size
    # Without a validator the server may have another file by now, so start again.
    ask = {"Range": f"bytes={have}-", "If-Range": part.validator} if have and part.validator else {}
    try:
        with client.stream("GET", url, headers=ask) as response:
            _check_status(response, url)
            partial = response.status_code == 206
            if response.status_code == 416 or (partial and not _continues(response, part, have)):
                _start_again(part)
            have = have if partial else 0
            length = response.headers.get("Content-Length", "")
            total = have + int(length) if length.isdecimal() else 0
            _check_size(url, total, size)
            if total:
                check_room(part.path.parent, total - have)
            with translate_os_errors(part.path.parent, lambda: max(0, total - part.size)):
                if not have:
                    part.begin(_validator(response), total)
                _receive(response, part, total, have, progress)
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
        raise Unreachable(
            f"{url} cannot be reached ({error}): this machine has no network, or {_host(url)} is down; "
            "try again later, or copy the file here by other means"
        ) from error
    except httpx2.TimeoutException as error:
        raise _TransientError(FetchError(f"{url}: timeout, no data for {timeout:g} s; {RESUMES}")) from error
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.TooManyRedirects) as error:
        raise FetchError(f"{url} cannot be fetched ({error})") from error
    except httpx2.TransportError as error:
        received = f"{human(part.size)} of {human(part.total)}" if part.total else human(part.size)
        raise _TransientError(FetchError(f"{url}: connection lost after {received} ({error}); {RESUMES}")) from error
    _check_size(url, part.size, size, part)


def _receive(response: httpx2.Response, part: _PartialFile, total: int, have: int, progress: Progress | None) -> None:
    if progress is not None:
        progress.start(part.target.name, total)
        progress.advance(have)
    with part.path.open("ab") as file:
        # Raw: some servers declare the compression of a .tar.gz as an encoding; decoding it would change the checksum.
        for chunk in response.iter_raw():
            file.write(chunk)
            if progress is not None:
                progress.advance(len(chunk))


def _continues(response: httpx2.Response, part: _PartialFile, have: int) -> bool:
    """Check that a partial response continues the part, of the same file: not every server respects If-Range."""
    start = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return have > 0 and start == str(have) and _validator(response) in ("", part.validator)


def _validator(response: httpx2.Response) -> str:
    """The value for If-Range that identifies this version of the file: a strong ETag, else Last-Modified."""
    etag = str(response.headers.get("ETag", ""))
    return etag if etag.startswith('"') else str(response.headers.get("Last-Modified", ""))


def _check_size(url: str, found: int, size: int, part: _PartialFile | None = None) -> None:
    """Reject a login page in place of the file. 5% tolerance, because published sizes are rounded."""
    if found and size and abs(found - size) > size / 20:
        if part is not None:
            part.discard()
        raise FetchError(
            f"{url} has {human(found)}, but the published size is {human(size)}: this is a different file, "
            "or a page that asks to log in; open it in a browser"
        )


def _start_again(part: _PartialFile) -> None:
    with translate_os_errors(part.path.parent):
        part.discard()
    raise _TransientError(FetchError(f"{part.url}: the file on the server has changed during the download"), wait=0)


def _check_status(response: httpx2.Response, url: str) -> None:
    code = response.status_code
    status = f"HTTP {code} {response.reason_phrase}".rstrip()
    if code in (200, 206, 416):
        return
    if code in (401, 403, 407, 451):
        raise Refused(f"{url}: access denied ({status}): it may need an account, or terms to be accepted")
    if code in (404, 410):
        raise Refused(f"{url} not found ({status}): the publisher has moved or removed it")
    if code == 429:
        wait = _retry_after(response)
        when = f"in {wait:.0f} s" if wait else "in a few minutes"
        raise _TransientError(
            FetchError(f"{_host(url)}: too many requests ({status}); fetch again {when}; {RESUMES}"), wait
        )
    if code in (408, 500, 502, 503, 504):
        raise _TransientError(
            FetchError(f"{url}: server error ({status}); fetch again later; {RESUMES}"), _retry_after(response)
        )
    raise Refused(f"{url}: unexpected response {status}")


def _retry_after(response: httpx2.Response) -> float | None:
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    return None


def _host(url: str) -> str:
    return httpx2.URL(url).host


def offline() -> bool:
    """Return whether HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE disables the network, parsed as huggingface_hub does."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in ("1", "ON", "YES", "TRUE")
