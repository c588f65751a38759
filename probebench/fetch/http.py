"""Download one file: resumed where it was cut off, checked, and put in place whole or not at all."""

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
"""Seconds to reach a server: without a network, this is how long it takes to say so."""
TIMEOUT = 30.0
"""Seconds in which a server must send something."""
TRIES = 3
"""How often in a row a server may send nothing new."""
ALL_TRIES = 20
PATIENCE = 60.0
"""The longest wait, in seconds, that is granted to a server that asks for one."""

KEPT = "what has arrived is kept, and the next fetch goes on from there"


class Refused(FetchError):
    """A server that answers, and does not give the file: 401, 403, 404 and the like."""


def download(
    url: str,
    target: Path,
    *,
    md5: str = "",
    size: int = 0,
    progress: Progress | None = None,
    timeout: float = TIMEOUT,
) -> None:
    """Fetch a file, unless it is there already.

    Bytes go to ``NAME.part`` beside the target, which is renamed when it is whole and checked. A part that an earlier
    call has left is continued if the server still has the same file. Other processes that want the same target wait.

    Args:
        url: http or https
        target: where the file is put; its folder is made
        md5: in hexadecimal digits; checked unless empty
        size: in bytes, as published, perhaps rounded; 0 if unknown
        timeout: seconds in which the server must send something

    Raises:
        Unreachable: if there is no network, or no such host
        Refused: if the server does not give the file
        FetchError: for everything else: a time-out, a body that is cut off, another checksum, a disk that is full or
            cannot be written to
    """
    with locked(target, progress):
        transfer(url, target, md5=md5, size=size, progress=progress, timeout=timeout)


@contextmanager
def locked(target: Path, progress: Progress | None = None) -> Iterator[None]:
    """Makes the target's folder, and keeps other processes from the target."""
    with storing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f"{target.name}.lock"))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            if progress is not None:
                progress.start(f"{target.name}: another process is fetching it; waiting", 0)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def transfer(url: str, target: Path, *, md5: str, size: int, progress: Progress | None, timeout: float) -> None:
    """`download`, for a caller that has locked the target."""
    if target.exists():
        with storing(target.parent):
            check_md5(target, md5)
        return
    part = _Part(target, url)
    if not part.whole:
        _fetch(part, size, progress, timeout)
    with storing(target.parent):
        if md5 and (found := md5_of(part.path)) != md5:
            part.discard()
            raise FetchError(
                f"{url} arrived with the MD5 {found}, the published one is {md5}; the file is deleted. Fetch it again; "
                "if that does not help, its publisher has changed it"
            )
        part.finish()


def check_md5(path: Path, md5: str) -> None:
    """Raises FetchError if a file, which is not ours to delete, has another MD5 than the published one, if any."""
    if md5 and (found := md5_of(path)) != md5:
        raise FetchError(
            f"{path} is damaged or another file: its MD5 is {found}, the published one {md5}; delete it and fetch again"
        )


def check_room(folder: Path, needed: int) -> None:
    """Raises FetchError if the disk of a folder, which need not exist yet, has fewer than `needed` bytes free."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    with storing(folder):
        free = shutil.disk_usage(place).free
    if free < needed:
        raise FetchError(
            f"{human(needed)} are needed on the disk of {folder}, and {human(free)} are free; {_ELSEWHERE}"
        )


_ELSEWHERE = "make room, or name a folder on another disk with PROBEBENCH_DATA"


@contextmanager
def storing(folder: Path, needed: Callable[[], int] = int) -> Iterator[None]:
    """Turns what the file system says into FetchError: a full disk, and one that cannot be written to.

    Args:
        needed: tells how many bytes are still to be written; 0 if that is unknown
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            more = f", {human(count)} more are needed" if (count := needed()) else ""
            raise FetchError(f"the disk of {folder} is full{more}; {_ELSEWHERE}; {KEPT}") from error
        raise FetchError(
            f"{folder} cannot be used ({error.strerror or error}): "
            "make it writable, or name another folder with PROBEBENCH_DATA"
        ) from error


class _Part:
    """A file on its way: its bytes so far, and beside them what tells whether a server still has the same file."""

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
    def whole(self) -> bool:
        """Whether all has arrived, and only the checking and renaming was cut off."""
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


class _Passing(Exception):
    """Something that may pass.

    Attributes:
        error: what to say if it does not
        wait: seconds that the server asks for; None for the usual growing wait
    """

    def __init__(self, error: FetchError, wait: float | None = None) -> None:
        self.error, self.wait = error, wait


def _fetch(part: _Part, size: int, progress: Progress | None, timeout: float) -> None:
    idle, reached = 0, False
    limits = httpx2.Timeout(timeout, connect=min(CONNECT, timeout))
    headers = {"User-Agent": f"probebench/{__version__}", "Accept-Encoding": "identity"}
    with httpx2.Client(timeout=limits, follow_redirects=True, headers=headers) as client:
        for tried in range(1, ALL_TRIES + 1):
            before = part.size
            try:
                return _attempt(client, part, size, progress, timeout)
            except Unreachable as error:
                # A network that was there a moment ago may come back; one that was not is reported at once.
                if not reached:
                    raise
                passing = _Passing(error)
            except _Passing as error:
                passing, reached = error, True
            idle = 0 if part.size > before else idle + 1
            wait = 2.0**idle / 2 if passing.wait is None else passing.wait
            if idle >= TRIES or tried == ALL_TRIES or wait > PATIENCE:
                raise passing.error
            sleep(wait)


def _attempt(client: httpx2.Client, part: _Part, size: int, progress: Progress | None, timeout: float) -> None:
    url, have = part.url, part.size
    # Without a validator nothing tells whether the server still has the file that the part is of.
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
            with storing(part.path.parent, lambda: max(0, total - part.size)):
                if not have:
                    part.begin(_validator(response), total)
                _receive(response, part, total, have, progress)
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
        raise Unreachable(
            f"{url} cannot be reached ({error}): there is no network here, or {_host(url)} is down; "
            "try again later, or put the file here by other means"
        ) from error
    except httpx2.TimeoutException as error:
        raise _Passing(FetchError(f"{url}: time-out, nothing came for {timeout:g} s; {KEPT}")) from error
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.TooManyRedirects) as error:
        raise FetchError(f"{url} cannot be fetched ({error})") from error
    except httpx2.TransportError as error:
        arrived = f"{human(part.size)} of {human(part.total)}" if part.total else human(part.size)
        raise _Passing(FetchError(f"{url} was cut off after {arrived} ({error}); {KEPT}")) from error
    _check_size(url, part.size, size, part)


def _receive(response: httpx2.Response, part: _Part, total: int, have: int, progress: Progress | None) -> None:
    if progress is not None:
        progress.start(part.target.name, total)
        progress.advance(have)
    with part.path.open("ab") as file:
        # Raw: some servers call the compression of a .tar.gz an encoding, and undoing it would change the checksum.
        for chunk in response.iter_raw():
            file.write(chunk)
            if progress is not None:
                progress.advance(len(chunk))


def _continues(response: httpx2.Response, part: _Part, have: int) -> bool:
    """Whether a partial answer starts where the part ends, and is of the same file: not every server heeds If-Range."""
    start = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return have > 0 and start == str(have) and _validator(response) in ("", part.validator)


def _validator(response: httpx2.Response) -> str:
    """What names this version of the file in If-Range: a strong ETag, else the date of its last change."""
    etag = str(response.headers.get("ETag", ""))
    return etag if etag.startswith('"') else str(response.headers.get("Last-Modified", ""))


def _check_size(url: str, found: int, size: int, part: _Part | None = None) -> None:
    """A page that asks to log in is not the archive; 5%, for published sizes are rounded."""
    if found and size and abs(found - size) > size / 20:
        if part is not None:
            part.discard()
        raise FetchError(
            f"{url} has {human(found)}, and {human(size)} are published: this is another file, "
            "or a page that asks for something; open it in a browser"
        )


def _start_again(part: _Part) -> None:
    with storing(part.path.parent):
        part.discard()
    raise _Passing(FetchError(f"{part.url}: the server has another file than it had, and sends parts of it"), wait=0)


def _check_status(response: httpx2.Response, url: str) -> None:
    code = response.status_code
    said = f"HTTP {code} {response.reason_phrase}".rstrip()
    if code in (200, 206, 416):
        return
    if code in (401, 403, 407, 451):
        raise Refused(f"{url} is not given to everyone ({said}): it may need an account, or terms to agree to")
    if code in (404, 410):
        raise Refused(f"{url} is not there ({said}): its publisher has moved or removed it")
    if code == 429:
        wait = _retry_after(response)
        when = f"in {wait:.0f} s" if wait else "in some minutes"
        raise _Passing(FetchError(f"{_host(url)} has had too many requests ({said}): fetch again {when}; {KEPT}"), wait)
    if code in (408, 500, 502, 503, 504):
        raise _Passing(
            FetchError(f"{url}: the server is in trouble ({said}); fetch again later; {KEPT}"), _retry_after(response)
        )
    raise Refused(f"{url} is answered with {said}")


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
    """Whether HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids the network, read as the hub's client reads them."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in ("1", "ON", "YES", "TRUE")
