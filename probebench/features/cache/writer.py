"""Fill an entry of the feature cache while images go through a network, and go on where a killed process stopped."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from probebench.errors import StoreError
from probebench.features.cache.entry import DTYPES, Entry, Manifest, Rows, Shard, Use
from probebench.features.cache.store import FeatureCache

SHARD_BYTES = 64_000_000
SHARD_SECONDS = 20.0
"""A shard is written once the buffer has so many bytes, or so many seconds after the last shard. A killed run loses no
more than that, or one batch if a batch takes longer."""

Features = npt.NDArray[np.float32]
"""Pooled features; or tokens in bfloat16, as uint16, see `probebench.features.tokens`."""


class Writer:
    """Adds taps to an entry, shard by shard, with the entry's write lock held.

    Rows come by `put` in their order, for some taps at a time; those of a tap begin at `done`. When all are there,
    `finish` enters the taps into the manifest. If the disk refuses, `rescue` hands back what was written. Whatever
    happens, `release` comes last.

    Args:
        use: a mark of this process on the entry
        lock: the entry's, held
        key, names, images: of its manifest
        addresses: the taps that are to be added
        check: called with the rows of each shard, one array a tap, before they are written

    Attributes:
        done: by address, how many rows are there from an earlier process; they have been checked

    Raises:
        OSError, StoreError: if the folder cannot be written to; the lock is then released
    """

    def __init__(
        self,
        cache: FeatureCache,
        entry: Entry,
        use: Use,
        lock: FileLock,
        *,
        key: Mapping[str, Any],
        names: Mapping[str, str],
        images: int,
        addresses: Sequence[str],
        check: Callable[[Mapping[str, Features]], None],
    ) -> None:
        self._cache, self._entry, self._use, self._lock = cache, entry, use, lock
        self._images, self._addresses, self._check = images, list(addresses), check
        self._buffer: list[Sequence[Features]] = []
        self._buffered: tuple[str, ...] = ()  # whose rows are in the buffer, from `_first` to `_next`
        self._first = self._next = 0
        self._clock = time.monotonic()
        try:
            self._manifest = self._prepared(Manifest(dict(key), images, dict(names)))
            self._rows = self._resumed()
        except BaseException:
            self.release()
            raise
        self.done = {a: self._rows[a].count if a in self._rows else 0 for a in self._addresses}

    def _prepared(self, new: Manifest) -> Manifest:
        """The manifest without the taps that will be written, which are missing or damaged."""
        old = self._entry.usable_manifest()
        if old is not None and (dict(old.key) != dict(new.key) or old.images != new.images):
            old = None
        if old is None:
            self._entry.write_manifest(new)
            return new
        taps = {address: rows for address, rows in old.taps.items() if address not in self._addresses}
        kept = replace(old, taps=taps)
        if len(taps) < len(old.taps):
            self._entry.write_manifest(kept)
        return kept

    def _resumed(self) -> dict[str, Rows]:
        """The undamaged rows that an earlier process has left of the taps that will be added."""
        left = {a: rows for a, rows in self._entry.unfinished().items() if a not in self._manifest.taps}
        for address in left.keys() & set(self._addresses):
            left[address] = self._entry.whole(left[address])
            if not 0 < left[address].count <= self._images:
                del left[address]
        self._keep_only(left)
        return left

    def _keep_only(self, unfinished: Mapping[str, Rows]) -> None:
        self._entry.write_journal(unfinished)
        # Who marked the entry before this may still have a file that was found damaged since; who does so from here on
        # finds it in neither manifest nor journal.
        if not self._cache.read_by_others(self._entry, self._use):
            self._entry.tidy()

    def put(self, row: int, addresses: Sequence[str], features: Sequence[Features]) -> None:
        """Add a batch: its rows, from `row` on, of some taps, shape (batch, width) each.

        Raises:
            NoRoom: before anything is written, if all of it is more than the cache may hold
            OSError, StoreError: if it cannot be written
        """
        if self._buffer and (self._buffered != tuple(addresses) or self._next != row):
            self._flush()
        if not self._buffer:
            self._buffered, self._first = tuple(addresses), row
        self._buffer.append(features)
        self._next = row + len(features[0])
        held = sum(values.nbytes for batch in self._buffer for values in batch)
        if held >= SHARD_BYTES or time.monotonic() - self._clock >= SHARD_SECONDS:
            self._flush()

    def _flush(self) -> None:
        """Write the buffer as a shard. It is emptied only after all of it is written."""
        shard = self._joined()
        if not shard:
            return
        self._check(shard)
        self._allot(shard)
        noted = {}
        for address, values in shard.items():
            rows = self._rows[address]
            data = values.astype(rows.dtype, copy=False).data.cast("B")
            with (self._entry.folder / rows.file).open("r+b", buffering=0) as file:
                file.seek(self._first * rows.row_bytes)
                written = 0
                while written < len(data):
                    written += file.write(data[written:])
            noted[address] = (rows.file, rows.width, hashlib.sha256(data).hexdigest())
        self._entry.note(self._first, self._next, noted)
        for address, (_, _, sha256) in noted.items():
            rows = self._rows[address]
            self._rows[address] = replace(rows, shards=(*rows.shards, Shard(self._next, sha256)))
        self._buffer.clear()
        self._clock = time.monotonic()

    def _joined(self) -> dict[str, Features]:
        columns = zip(*self._buffer, strict=True)
        return (
            {
                address: np.ascontiguousarray(np.concatenate(batches))
                for address, batches in zip(self._buffered, columns, strict=True)
            }
            if self._buffer
            else {}
        )

    def _allot(self, shard: Mapping[str, Features]) -> None:
        """Files as long as they will be, for taps that have none: others see what is still to come."""
        new = {
            address: Rows(f"{address}.{secrets.token_hex(4)}.{_ending(values)}", values.shape[1])
            for address, values in shard.items()
            if address not in self._rows
        }
        if not new:
            return

        def take() -> None:
            for address, rows in new.items():
                with (self._entry.folder / rows.file).open("xb") as file:
                    file.truncate(self._images * rows.row_bytes)
                self._rows[address] = rows

        self._cache.make_room(sum(rows.row_bytes * self._images for rows in new.values()), take)

    def finish(self) -> dict[str, Rows]:
        """Enter the taps into the manifest once all rows are written, and return them by address.

        Raises:
            OSError, StoreError: if that cannot be written
        """
        self._flush()
        added = {address: self._rows[address] for address in self._addresses}
        assert all(rows.count == self._images for rows in added.values())
        self._manifest = replace(self._manifest, taps={**self._manifest.taps, **added})
        self._entry.write_manifest(self._manifest)
        # Of taps that are in the manifest the journal is not asked, should this be cut off here.
        with suppress(OSError, StoreError):
            self._entry.write_journal({a: rows for a, rows in self._rows.items() if a not in self._addresses})
        return added

    def rescue(self) -> dict[str, Features]:
        """The rows that are there by address, shape (images, width) with the others undefined; the files are removed.

        Raises:
            OSError: if they cannot be read back
        """
        shard, found = self._joined(), {}
        for address in self._addresses:
            rows = self._rows.get(address)
            if rows is None and address not in shard:
                continue
            width = rows.width if rows is not None else shard[address].shape[1]
            kind = rows.dtype if rows is not None else shard[address].dtype
            values = found[address] = np.empty((self._images, width), dtype=kind)
            if rows is not None and rows.count:
                with (self._entry.folder / rows.file).open("rb", buffering=0) as file:
                    target, read = values[: rows.count].data.cast("B"), 0
                    while read < len(target):
                        got = file.readinto(target[read:])
                        if not got:
                            raise OSError(f"{rows.file} ends too early")
                        read += got
            if address in shard:
                values[self._first : self._next] = shard[address]
        with suppress(OSError, StoreError):
            self._keep_only({a: rows for a, rows in self._rows.items() if a not in self._addresses})
        return found

    def release(self) -> None:
        """Release the lock. Unfinished taps are kept for the next writer."""
        self._lock.release()


def _ending(values: Features) -> str:
    """The last part of the name of a file of such values."""
    return next(ending for ending, dtype in DTYPES.items() if values.dtype == np.dtype(dtype))
