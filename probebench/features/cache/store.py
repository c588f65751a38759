"""The feature cache as a folder of entries: its place and size, eviction, and which processes use which entry.

Processes exclude each other by file locks, which the system releases when a process dies. The
gate (``.lock`` of the folder) is held for moments only: to mark an entry as used, to ask who uses it, to take the lock
for writing, to find room and take it, to decide that an entry goes and move it out of the way. Whatever is removed is
first renamed, so that no entry is ever seen in part.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from probebench import _files
from probebench._format import human
from probebench.errors import Note, StoreError
from probebench.features.cache.entry import Entry, Manifest, Rows, Use

DEFAULT_SIZE = 50_000_000_000
"""Default limit in bytes. One ViT-B at all taps on 60,000 images takes 31 GB."""

FREE_SHARE = 0.5
"""Largest share that the cache takes of the disk space that is free or used by the cache."""

_GATE, _TRASH = ".lock", ".trash-"
_WAIT = 0.1  # seconds between two looks at a lock


def cache_root() -> Path:
    """The folder of the feature cache: $PROBEBENCH_CACHE, or ~/.cache/probebench/features.

    Raises:
        StoreError: if the user has no home directory
    """
    return _files.own_folder("PROBEBENCH_CACHE", "features")


class NoRoom(OSError):
    """The features are larger than the limit of the cache."""


@dataclass
class Ledger:
    """A count of what the cache did for this process.

    Attributes:
        read, written: sets of features that came from the cache and went into it, and their bytes
        seconds: that checking what was read took
        damaged: files that were refused, to be extracted again
        warnings: what a user should know, each once
    """

    read: int = 0
    read_bytes: int = 0
    written: int = 0
    written_bytes: int = 0
    seconds: float = 0.0
    damaged: set[Path] = field(default_factory=set)
    warnings: dict[str, None] = field(default_factory=dict)

    def warn(self, text: str) -> None:
        self.warnings[text] = None

    def add(self, other: Ledger) -> None:
        """Add the counts of another process of the same run."""
        self.read += other.read
        self.read_bytes += other.read_bytes
        self.written += other.written
        self.written_bytes += other.written_bytes
        self.seconds += other.seconds
        self.damaged |= other.damaged
        self.warnings |= other.warnings


@dataclass(frozen=True)
class About:
    """A summary of an entry, for listings.

    Attributes:
        entry: its folder
        manifest: None where it is missing or damaged
        problem: why there is none; empty if there is
        finished, unfinished: taps
        bytes: of its files
        used: when it was last used, seconds since the epoch
    """

    entry: Entry
    manifest: Manifest | None
    problem: str
    finished: int
    unfinished: int
    bytes: int
    used: float

    @property
    def names(self) -> Mapping[str, str]:
        return self.manifest.names if self.manifest is not None else {}


class FeatureCache:
    """Features on disk, shared by all processes that name the same folder.

    Args:
        root: the folder; made when something is kept. By default `cache_root`
        size: most bytes of it; the least recently used entries give way
        always: keep all features. Without, only those that take long to compute for their size

    Attributes:
        ledger: what it did for this process
    """

    def __init__(self, root: Path | None = None, size: int = DEFAULT_SIZE, *, always: bool = True) -> None:
        self.root, self.size, self.always = root or cache_root(), size, always
        self.ledger = Ledger()
        self._checked: dict[Path, tuple[int, ...]] = {}

    def __contains__(self, name: object) -> bool:
        return (self.root / str(name)).is_dir()

    def entries(self) -> list[Entry]:
        """All entries, in no particular order."""
        try:
            return [Entry(path) for path in self.root.iterdir() if path.is_dir() and not path.name.startswith(".")]
        except FileNotFoundError:
            return []

    def about(self, entry: Entry) -> About:
        """Summarise an entry without reading its features."""
        manifest, problem = None, ""
        try:
            manifest = entry.manifest()
            problem = "" if manifest is not None else "no manifest"
        except (OSError, ValueError) as error:
            problem = f"a manifest that cannot be used: {error}"
        finished = manifest.taps if manifest is not None else {}
        unfinished = [address for address in entry.unfinished() if address not in finished]
        return About(entry, manifest, problem, len(finished), len(unfinished), entry.size()[0], entry.last_used())

    # Reading.

    def use(self, name: str) -> Use:
        """Mark an entry as used, and make it if it does not exist. Raises OSError."""
        with self._gate():
            return Entry(self.root / name).mark()

    def in_use(self, entry: Entry) -> bool:
        """Return True if a living process reads or writes an entry. Raises OSError."""
        with self._gate():
            return entry.in_use()

    def read_by_others(self, entry: Entry, use: Use) -> bool:
        """Return True if another living process has marked an entry. Raises OSError."""
        with self._gate():
            return entry.read_by(besides=use)

    def read(
        self,
        name: str,
        key: Mapping[str, Any],
        images: int,
        addresses: Iterable[str],
        told: Callable[[int], None] | None = None,
    ) -> dict[str, Rows]:
        """Read which taps of an entry, by address, are finished and have the right checksums.

        A file is read and checked when a process first asks for it, and again if it has changed since. For a process
        that has marked the entry as used.

        Args:
            told: called with the number of bytes of each piece that was checked

        Raises:
            OSError: if the manifest cannot be read
        """
        entry = Entry(self.root / name)
        try:
            manifest = entry.manifest()
        except ValueError:
            self.ledger.damaged.add(entry.folder)
            return {}
        if manifest is None or dict(manifest.key) != dict(key) or manifest.images != images:
            return {}
        start = time.perf_counter()
        found = {}
        for address in addresses:
            rows = manifest.taps.get(address)
            if rows is None:
                continue
            if self._is_whole(entry, rows, images, told):
                found[address] = rows
            else:
                self.ledger.damaged.add(entry.folder / rows.file)
        self.ledger.seconds += time.perf_counter() - start
        entry.touch()
        return found

    def _is_whole(self, entry: Entry, rows: Rows, images: int, told: Callable[[int], None] | None) -> bool:
        path = entry.folder / rows.file
        try:
            found = path.stat()
        except OSError:
            return False
        state = (found.st_ino, found.st_size, found.st_mtime_ns)
        if self._checked.get(path) == state:
            if told is not None:
                told(found.st_size)
            return True
        if not entry.is_whole(rows, images, told):
            return False
        self._checked[path] = state
        return True

    # Writing.

    def lock(self, name: str, waiting: Callable[[], None] | None) -> FileLock | None:
        """Take the lock for adding taps to an entry that this process has marked.

        Args:
            waiting: called once if another process has it, which is then waited for; None to do without it

        Raises:
            OSError: if there can be no lock in this folder
        """
        entry, told = Entry(self.root / name), False
        while True:
            # Inside the gate no lock file can be on its way to the trash.
            with self._gate():
                lock = entry.lock()
            if lock is not None or waiting is None:
                return lock
            if not told:
                waiting()
                told = True
            time.sleep(_WAIT)

    def make_room(self, needed: int, take: Callable[[], None] | None = None) -> None:
        """Evict the least recently used entries until so many bytes more may be written.

        Args:
            take: makes files of so many bytes; called before another process can find the same room

        Raises:
            NoRoom: if all that may be evicted is not enough; nothing is then evicted
            OSError: if the folder cannot be read, or what `take` raises
        """
        trash = []
        try:
            with self._gate():
                sizes = {entry.folder: entry.size() for entry in self.entries()}
                used = sum(length for length, _ in sizes.values())
                most = self._most(sum(taken for _, taken in sizes.values()))
                if used + needed > most:
                    free = [entry for entry in self.entries() if not entry.in_use()]
                    if used + needed - sum(sizes.get(entry.folder, (0, 0))[0] for entry in free) > most:
                        share = f", half of what the disk has for it (of {human(self.size)} allowed)"
                        raise NoRoom(
                            f"{human(needed)} more would be needed, and the feature cache may hold {human(most)}"
                            f"{share if most < self.size else ''}"
                        )
                    for entry in sorted(free, key=Entry.last_used):
                        if used + needed <= most:
                            break
                        used -= sizes.get(entry.folder, (0, 0))[0]
                        trash.append(self._to_trash(entry))
                if take is not None:
                    take()
        finally:
            self._empty(trash)

    def room(self) -> int:
        """Bytes that the cache may take in all, if no entry is in use. Nothing is written. Raises OSError."""
        return self._most(sum(entry.size()[1] for entry in self.entries()))

    def _most(self, taken: int) -> int:
        there = next(path for path in (self.root, *self.root.parents) if path.exists())
        return min(self.size, int(FREE_SHARE * (shutil.disk_usage(there).free + taken)))

    # Verifying.

    def verify(self, entry: Entry) -> list[str]:
        """Read all files of an entry, and list the damaged ones. An extraction under way is checked by its journal."""
        try:
            manifest = entry.manifest()
        except (OSError, ValueError) as error:
            return [f"the manifest cannot be used: {error}"]
        if manifest is None:
            there = entry.folder.is_dir()  # it may have given way since it was listed
            return ["there is no manifest"] if there and not self.in_use(entry) else []
        damaged = [
            (address, rows, "") for address, rows in manifest.taps.items() if not entry.is_whole(rows, manifest.images)
        ]
        damaged += [
            (address, rows, ", unfinished,")
            for address, rows in entry.unfinished().items()
            if address not in manifest.taps and entry.whole(rows) != rows
        ]
        # What has given way meanwhile, or was found damaged and is extracted again, is vouched for no more.
        vouched = entry.vouched() if damaged else set()
        return [
            f"{address.partition('.')[0]}: {rows.file}{unfinished} is not what was written"
            for address, rows, unfinished in damaged
            if rows.file in vouched
        ]

    def repair(self, entry: Entry) -> bool:
        """Remove what is damaged of an entry, or left by killed processes; False if a living one uses it.

        Raises:
            OSError, StoreError: if that cannot be done
        """
        if self._remove(entry, lambda: entry.usable_manifest() is None):
            return True
        with self._gate():
            if entry.in_use():
                return False
            use = entry.mark()
            lock = entry.lock()
        if lock is None:
            use.release()
            return False
        try:
            manifest = entry.usable_manifest()
            if manifest is not None:
                images = manifest.images
                taps = {address: rows for address, rows in manifest.taps.items() if entry.is_whole(rows, images)}
                if len(taps) < len(manifest.taps):
                    entry.write_manifest(replace(manifest, taps=taps))
                left = {address: entry.whole(rows) for address, rows in entry.unfinished().items()}
                entry.write_journal({a: rows for a, rows in left.items() if rows.count and a not in taps})
                entry.tidy()
        finally:
            lock.release()
            use.release()
        self.remove_if_empty(entry.name)
        return True

    # Removing.

    def remove(self, entry: Entry) -> bool:
        """Remove an entry unless a living process uses it; return True if it is gone. Raises OSError."""
        return self._remove(entry, lambda: True)

    def remove_if_empty(self, name: str) -> None:
        """Remove an entry that has no features, unless a process uses it."""
        entry = Entry(self.root / name)
        with suppress(OSError, ValueError):
            if entry.folder.is_dir():
                self._remove(entry, entry.is_empty)

    def _remove(self, entry: Entry, wanted: Callable[[], bool]) -> bool:
        """Remove an entry that nobody uses.

        Args:
            wanted: asked when nobody can begin to use it any more

        Returns:
            whether it is gone
        """
        with self._gate():
            if not entry.folder.is_dir():  # another process was here first
                return True
            if entry.in_use() or not wanted():
                return False
            trash = self._to_trash(entry)
        self._empty([trash])
        return True

    def _to_trash(self, entry: Entry) -> Path:
        trash = self.root / f"{_TRASH}{secrets.token_hex(8)}"
        entry.folder.rename(trash)
        return trash

    def _empty(self, trash: list[Path]) -> None:
        """Empty the trash, including what a killed process has left there."""
        for path in {*trash, *self.root.glob(f"{_TRASH}*")}:
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _gate(self) -> Iterator[None]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(error.errno, "is a file", str(self.root)) from error
        with FileLock(self.root / _GATE, thread_local=False):
            yield

    def check(self, option: str) -> None:
        """Check before any work that features can be stored.

        Raises:
            StoreError: naming the option to change
        """
        try:
            with self._gate():
                pass
        except OSError as error:
            raise StoreError(
                f"{option}: no feature cache can be kept in {self.root} ({error.strerror or error})"
            ) from error

    def notes(self) -> list[Note]:
        """A line about what the cache did for this process, if anything, and the warnings."""
        from probebench._format import counted  # which knows tables and statistics

        done, notes = self.ledger, list[Note]()
        parts = []
        if done.read:
            sets = f"{counted(done.read, 'set')} of features"
            parts.append(f"{sets} read ({human(done.read_bytes)}, checked in {done.seconds:.1f} s)")
        if done.written:
            parts.append(f"{done.written} written ({human(done.written_bytes)})")
        if parts:
            held = sum(entry.size()[0] for entry in self.entries())
            used = f"{human(held)} of at most {human(self.size)} in {self.root}"
            notes.append(Note("info", f"feature cache: {', '.join(parts)}; {used}"))
        if done.damaged:
            some = ", ".join(str(path) for path in sorted(done.damaged)[:3]) + (
                ", ..." if len(done.damaged) > 3 else ""
            )
            notes.append(Note("warning", f"feature cache: {len(done.damaged)} damaged, so extracted again: {some}"))
        return notes + [Note("warning", f"feature cache: {warning}") for warning in done.warnings]
