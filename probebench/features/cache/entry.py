"""The files of one entry of the feature cache: complete taps, unfinished ones, and their checksums.

::

    manifest.json        the key, names for people, and of each finished tap its file, width and shards
    journal              a line for each shard of what is not finished
    L06-act.1f0c9a2b.5e6d77aa.f32   rows of one tap: float32, little-endian, one image behind the other
    L06-act.tokens.90aa1c33.77f0b5d2.bf16   the same of its tokens: bfloat16
    write.lock           held by the process that adds taps
    users/*.lock         one each for those that read, held as long as they do

A *shard* is a run of rows with a SHA-256 of its own. The shards of a tap lie behind one another in one file, so that
the whole can be mapped into memory as one array, larger than memory if need be. A file counts only for what the
manifest or the journal says of it: whatever else a killed process has left is removed by the next that writes. Nothing
but JSON and numbers is ever read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from probebench import _files

FORMAT = 1
"""Version of the file format; part of every key."""

MANIFEST, JOURNAL, WRITE_LOCK, USERS = "manifest.json", "journal", "write.lock", "users"
_CHUNK = 1 << 20

DTYPES = {"f32": "<f4", "bf16": "<u2"}
"""What numpy reads the numbers of a file as, by the last part of its name; of bfloat16 it reads the bits."""


class Shard(NamedTuple):
    """A run of rows of one tap, from the end of the one before.

    Attributes:
        end: the row behind the last
        sha256: of their bytes, hexadecimal
    """

    end: int
    sha256: str


@dataclass(frozen=True)
class Rows:
    """The rows of one tap that a manifest or a journal vouches for.

    Attributes:
        file: its name in the folder of the entry
        width: features of an image
        shards: in the order of the rows
    """

    file: str
    width: int
    shards: tuple[Shard, ...] = ()

    @property
    def count(self) -> int:
        return self.shards[-1].end if self.shards else 0

    @property
    def dtype(self) -> str:
        """The type of the numbers, as numpy writes it."""
        return DTYPES[self.file.rpartition(".")[2]]

    @property
    def row_bytes(self) -> int:
        return int(self.dtype[-1]) * self.width


@dataclass(frozen=True)
class Manifest:
    """The description of an entry and of its complete taps.

    Attributes:
        key: everything that decides the features, as in `probebench.features.cache.key.Key`
        images: rows of every finished tap
        names: of the model, the dataset and the part of it, for people only
        taps: the finished ones by address
    """

    key: Mapping[str, Any]
    images: int
    names: Mapping[str, str]
    taps: Mapping[str, Rows] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        taps = {a: {"file": r.file, "width": r.width, "shards": r.shards} for a, r in self.taps.items()}
        body = {"key": dict(self.key), "images": self.images, "names": dict(self.names), "taps": taps}
        return canonical({**body, "sha256": _digest(body)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Parse what `to_bytes` wrote. Raises ValueError for anything else."""
        try:
            body = json.loads(data)
            said = body.pop("sha256")
            if said != _digest(body):
                raise ValueError("its checksum is wrong")
            taps = {a: _rows(**r) for a, r in body["taps"].items()}
            return cls(body["key"], int(body["images"]), body["names"], taps)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"it is no manifest ({error!r})") from error


def canonical(value: Any) -> bytes:
    """JSON with one spelling for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


def _rows(file: str, width: int, shards: Iterable[tuple[int, str]]) -> Rows:
    """Check the rows of a tap. Raises ValueError for a file outside the folder, or for shards with gaps."""
    if os.path.basename(file) != file or file.rpartition(".")[2] not in DTYPES:
        raise ValueError(f"it names the file {file!r}")
    found = tuple(Shard(int(end), str(sha256)) for end, sha256 in shards)
    if width < 1 or any(a.end >= b.end for a, b in zip((Shard(0, ""), *found), found, strict=False)):
        raise ValueError("its shards do not follow one another")
    return Rows(file, int(width), found)


class Entry:
    """The folder of one entry. Its methods take no locks; see `probebench.features.cache.store` for who may call them
    when."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def name(self) -> str:
        return self.folder.name

    def manifest(self) -> Manifest | None:
        """None where there is none.

        Raises:
            ValueError: if it is damaged
            OSError: if it cannot be read
        """
        try:
            return Manifest.from_bytes((self.folder / MANIFEST).read_bytes())
        except FileNotFoundError:
            return None

    def usable_manifest(self) -> Manifest | None:
        """The manifest; None if it is missing or damaged. Raises OSError if it cannot be read."""
        try:
            return self.manifest()
        except ValueError:
            return None

    def write_manifest(self, manifest: Manifest) -> None:
        """Write the manifest. Raises StoreError if that fails; the old one is kept then."""
        _files.write(self.folder / MANIFEST, manifest.to_bytes())

    def unfinished(self) -> dict[str, Rows]:
        """The rows of each tap by the journal, by address. It is read up to a truncated line; nothing is checked."""
        found: dict[str, Rows] = {}
        try:
            text = (self.folder / JOURNAL).read_bytes()
        except FileNotFoundError:
            return found
        for line in text.split(b"\n")[:-1]:
            try:
                shard = json.loads(line)
                start, end = int(shard["start"]), int(shard["end"])
                for address, (file, width, sha256) in shard["taps"].items():
                    rows = found.get(address) if start else None
                    rows = rows if rows is not None and rows.file == file else Rows(file, width)
                    if rows.count == start:
                        found[address] = _rows(file, width, (*rows.shards, (end, sha256)))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                break
        return found

    def note(self, start: int, end: int, shard: Mapping[str, tuple[str, int, str]]) -> None:
        """Add a shard to the journal: by address the file, its width and the checksum of the rows."""
        line = canonical({"start": start, "end": end, "taps": {a: list(v) for a, v in shard.items()}}) + b"\n"
        with (self.folder / JOURNAL).open("ab") as file:
            file.write(line)

    def write_journal(self, unfinished: Mapping[str, Rows]) -> None:
        """Replace the journal, or remove it if nothing is unfinished. Raises StoreError."""
        lines = [
            canonical({"start": start, "end": end, "taps": {address: [rows.file, rows.width, sha256]}}) + b"\n"
            for address, rows in unfinished.items()
            for start, end, sha256 in _spans(rows)
        ]
        if lines:
            _files.write(self.folder / JOURNAL, b"".join(lines))
        else:
            (self.folder / JOURNAL).unlink(missing_ok=True)

    def whole(self, rows: Rows, told: Callable[[int], None] | None = None) -> Rows:
        """The longest run of rows, from the first, whose checksums are right.

        Args:
            told: called with the number of bytes of each piece that was read
        """
        good: list[Shard] = []
        try:
            with (self.folder / rows.file).open("rb", buffering=0) as file:
                for start, end, sha256 in _spans(rows):
                    if _sha256_of_next(file, (end - start) * rows.row_bytes, told) != sha256:
                        break
                    good.append(Shard(end, sha256))
        except OSError:  # gone, or a disk that cannot read it
            pass
        return replace(rows, shards=tuple(good))

    def is_whole(self, rows: Rows, images: int, told: Callable[[int], None] | None = None) -> bool:
        """Return True if a finished tap has the right size and checksums."""
        try:
            size = (self.folder / rows.file).stat().st_size
        except OSError:
            return False
        right = size == images * rows.row_bytes and rows.count == images
        return right and self.whole(rows, told) == rows

    def vouched(self) -> set[str]:
        """Names of the files that the manifest or the journal vouches for."""
        manifest = self.usable_manifest()
        finished = manifest.taps if manifest is not None else {}
        return {rows.file for rows in (*self.unfinished().values(), *finished.values())}

    def strays(self) -> list[Path]:
        """Files that neither the manifest nor the journal vouches for."""
        known = {MANIFEST, JOURNAL, WRITE_LOCK, USERS} | self.vouched()
        return [path for path in _listed(self.folder) if path.name not in known]

    def is_empty(self) -> bool:
        """Return True if neither the manifest nor the journal has a tap. Raises ValueError for a damaged manifest."""
        manifest = self.manifest()
        return not (manifest is not None and manifest.taps) and not self.unfinished()

    def tidy(self) -> None:
        """Remove strays. Only the holder of the write lock may call it, while no other process reads."""
        for path in self.strays():
            with suppress(OSError):
                path.unlink()

    def size(self) -> tuple[int, int]:
        """Bytes of all files, as long as they are or will be; and what they take on the disk now."""
        length = taken = 0
        for path in _listed(self.folder):
            with suppress(OSError):
                found = path.stat()
                length += found.st_size
                taken += getattr(found, "st_blocks", -(-found.st_size // 512)) * 512
        return length, taken

    def last_used(self) -> float:
        """Time of the last use in seconds since the epoch; 0 if the entry has no manifest yet."""
        try:
            return (self.folder / MANIFEST).stat().st_mtime
        except OSError:
            return 0.0

    def touch(self) -> None:
        """Record that the entry is used now."""
        with suppress(OSError):
            os.utime(self.folder / MANIFEST)

    def lock(self) -> FileLock | None:
        """Take the lock for adding taps; None if another process has it."""
        return _try_lock(self.folder / WRITE_LOCK)

    def mark(self) -> Use:
        """Mark the entry as used by this process. Only inside the gate.

        Raises:
            OSError: if that cannot be done
        """
        users = self.folder / USERS
        users.mkdir(parents=True, exist_ok=True)
        path = users / f"{secrets.token_hex(8)}.lock"
        lock = _try_lock(path)
        if lock is None:  # by somebody without the gate, or a disk that gives no locks
            raise BlockingIOError(errno.EAGAIN, "no lock could be had", str(path))
        return Use(lock, path)

    def read_by(self, besides: Use | None = None) -> bool:
        """Return True if a living process has marked the entry; marks of dead ones are removed.

        Only inside the gate: a mark is a file before it is locked, and would be taken for one of a dead process.

        Args:
            besides: a mark that does not count
        """
        found = False
        for path in _listed(self.folder / USERS):
            if besides is not None and path == besides.path:
                continue
            lock = _try_lock(path)
            if lock is None:
                found = True
            else:
                lock.release()
                path.unlink(missing_ok=True)
        return found

    def in_use(self) -> bool:
        """Return True if a living process reads or writes. Only inside the gate, as `read_by`."""
        if self.read_by():
            return True
        if not (self.folder / WRITE_LOCK).exists():
            return False
        lock = self.lock()
        if lock is not None:
            lock.release()
        return lock is None


class Use:
    """A mark that an entry is used, until it is released or nothing refers to this object."""

    def __init__(self, lock: FileLock, path: Path) -> None:
        self._lock, self.path, self._process = lock, path, os.getpid()

    def release(self) -> None:
        if os.getpid() != self._process:  # a forked child has this object too, and not the lock
            return
        self._lock.release()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def __del__(self) -> None:
        # While the interpreter shuts down modules may be gone; the system then gives the lock back.
        with suppress(Exception):
            self.release()


def _try_lock(path: Path) -> FileLock | None:
    # Garbage may be collected on another thread than the one that took the lock.
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    return lock


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _spans(rows: Rows) -> Iterator[tuple[int, int, str]]:
    start = 0
    for end, sha256 in rows.shards:
        yield start, end, sha256
        start = end


def _sha256_of_next(file: Any, length: int, told: Callable[[int], None] | None) -> str:
    """Compute the checksum of the next bytes of a file; of fewer if it ends."""
    h = hashlib.sha256()
    buffer = memoryview(bytearray(min(length, _CHUNK)))
    while length:
        got = file.readinto(buffer[: min(length, _CHUNK)])
        if not got:
            break
        h.update(buffer[:got])
        length -= got
        if told is not None:
            told(got)
    return h.hexdigest()
