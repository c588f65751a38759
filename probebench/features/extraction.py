"""Read the features of views: from the cache if they are stored there, else from the network, and store them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch.utils.data import Subset

from probebench._arrays import Array, allocate, fill, on_host, to_device
from probebench.catalog.taps import Tap
from probebench.datasets.views import Views
from probebench.errors import ProbebenchError, StoreError
from probebench.features.cache.entry import Entry, Rows, Use
from probebench.features.cache.key import Key, addresses, key_of
from probebench.features.cache.store import FeatureCache
from probebench.features.cache.writer import Writer
from probebench.features.forward import extract, forward, refuse_non_finite
from probebench.features.settings import ExtractionSettings
from probebench.models.build import Model

WORTH_SECONDS = 10.0
WORTH_RATE = 20e6
"""Unless all features are to be stored, only those are that take at least `WORTH_SECONDS` to compute and of which the
network makes fewer than `WORTH_RATE` bytes a second: each gigabyte of disk saves at least 50 seconds."""

_MEASURED = 1.0  # seconds of extraction after the first batch, from which the rate is computed


class Features(dict[Tap, Array]):
    """Features by tap, float32 of shape (images, width), or tokens; read-only if they are mapped from the cache.

    Attributes:
        images: number of images that went through the network for them
    """

    images: int = 0


def read_features(
    model: Model,
    views: Views,
    taps: Sequence[Tap],
    settings: ExtractionSettings,
    *,
    cache: FeatureCache | None,
    names: Mapping[str, str],
) -> Features:
    """Read the features that are in the cache, and extract the others in one pass over the views.

    If the cache fails (a full disk, a folder that cannot be written to), all features are extracted without it, and its
    ledger gets a warning.

    Args:
        cache: None to extract without a cache
        names: of the model, the dataset and the part of the dataset, under which the entry is listed

    Raises:
        FeatureError, LayoutError: as `probebench.features.forward.extract`
    """
    work = _Work(model, views, list(taps), settings)
    if cache is None:
        return work.extract_all()
    where = " ".join(names.values())
    try:
        key = key_of(model, views, settings)
    except ProbebenchError as error:
        cache.ledger.warn(f"features of {where} are not cached: {error}")
        return work.extract_all()
    try:
        return _Cached(cache, key, names, work, keep=settings.keep or cache.always).read()
    except (OSError, StoreError) as error:
        cache.ledger.warn(f"features of {where} are not cached: {_reason(error)}")
        return work.extract_all()


class _Work:
    """One extraction and its progress."""

    def __init__(self, model: Model, views: Views, taps: list[Tap], settings: ExtractionSettings) -> None:
        self.model, self.views, self.taps, self.settings = model, views, taps, settings
        self._reported = 0  # images

    @property
    def images(self) -> int:
        return len(self.views)

    def extract_all(self) -> Features:
        """Extract everything by the network alone."""
        found = Features(extract(self.model, self.views, self.taps, self.settings, self._advance))
        found.images = self.images
        return found

    def settle(self) -> None:
        """Wait until features that stay on the device are computed: they are handed over before they are."""
        if self.settings.stay and torch.device(self.settings.device).type == "cuda":
            torch.cuda.synchronize(self.settings.device)

    def place(self, array: Array) -> Array:
        """Copy an array that is mapped from the disk to the device, if features stay there."""
        return to_device(array, self.settings.device) if self.settings.stay else array

    def allocate(self, widths: Mapping[Tap, int]) -> dict[Tap, Array]:
        """Allocate memory for the features of all views: on the device if they stay there, else on the host."""
        return allocate(widths, self.images, self.settings.device if self.settings.stay else None)

    def forward(self, start: int, end: int, taps: list[Tap], put: Callable[[Sequence[Array]], None]) -> None:
        """Send the views from `start` to `end` through the network."""
        part = self.views if (start, end) == (0, self.images) else Subset(self.views, range(start, end))
        forward(self.model, part, taps, put, self.settings)

    def report(self, row: int) -> None:
        """Report that the first `row` images are done, whether they were read or extracted."""
        self._advance(row - self._reported)

    def _advance(self, count: int) -> None:
        # An image that is extracted a second time is not reported again.
        count = min(count, self.images - self._reported)
        if count > 0:
            self._reported += count
            self.settings.progress.advance(count)

    def report_waiting(self) -> None:
        self.settings.progress.start("wait for another process that extracts the same", 0)
        self._reported = 0

    def report_waited(self) -> None:
        self.settings.progress.start("extract", self.images)


class _Cached:
    """One set of features and its entry in the cache.

    Rows from the network are collected in a list until it is decided whether to cache them. Then they go to a `Writer`,
    or to arrays in memory if they are not cached or if writing fails.
    """

    def __init__(self, cache: FeatureCache, key: Key, names: Mapping[str, str], work: _Work, *, keep: bool) -> None:
        self._always = keep
        self._cache, self._name, self._key, self._names, self._work = cache, key.name, key.to_json(), names, work
        self._addresses = addresses(work.model, work.taps, work.settings.pooling)
        self._use: Use | None = None
        self._mapped = False
        self._writer: Writer | None = None
        self._memory: dict[Tap, Array] | None = None
        self._undecided: list[tuple[int, list[Tap], Sequence[Array]]] = []

    def read(self) -> Features:
        images = 0
        try:
            found = self._map_stored(self._work.taps) if self._name in self._cache else {}
            missing = [tap for tap in self._work.taps if tap not in found]
            if missing and (self._always or self._name in self._cache):
                found |= self._open(missing, wait=True)
                missing = [tap for tap in missing if tap not in found]
            if missing:
                images = self._extract(missing)
                found |= self._finish(missing)
        finally:
            if self._writer is not None:
                self._writer.release()
                self._writer = None
            if not self._mapped:
                if self._use is not None:
                    self._use.release()
                self._cache.remove_if_empty(self._name)
        self._work.report(self._work.images)
        result = Features((tap, self._work.place(found[tap])) for tap in self._work.taps)
        result.images = images
        return result

    def _map_stored(self, taps: list[Tap]) -> dict[Tap, Array]:
        """Map the features of those taps that are complete in the cache."""
        self._use = self._use or self._cache.use(self._name)
        wanted = [self._addresses[tap] for tap in taps]
        rows = self._cache.read(self._name, self._key, self._work.images, wanted)
        found = {tap: rows[self._addresses[tap]] for tap in taps if self._addresses[tap] in rows}
        arrays = {tap: self._map(each) for tap, each in found.items()}
        if arrays:
            self._cache.ledger.read += 1
            self._cache.ledger.read_bytes += sum(values.nbytes for values in arrays.values())
        return arrays

    def _map(self, rows: Rows) -> Array:
        path = self._cache.root / self._name / rows.file
        array = np.memmap(path, dtype=rows.dtype, mode="r", shape=(self._work.images, rows.width))
        # The file must exist as long as the array, and processes that are sent its file name, do.
        array.use = self._use  # type: ignore[attr-defined]
        self._mapped = True
        return array

    def _open(self, missing: list[Tap], *, wait: bool) -> dict[Tap, Array]:
        """Become the writer of the entry, unless another process is writing and `wait` is False, or has finished.

        Returns:
            the features that another process finished in the meantime
        """
        self._use = self._use or self._cache.use(self._name)
        waited = False

        def waiting() -> None:
            nonlocal waited
            waited = True
            self._work.report_waiting()

        lock = self._cache.lock(self._name, waiting if wait else None)
        if waited:
            self._work.report_waited()
        if lock is None:
            return {}
        try:
            found = self._map_stored(missing)
        except BaseException:
            lock.release()
            raise
        missing = [tap for tap in missing if tap not in found]
        if not missing:
            lock.release()
            return found
        self._writer = Writer(
            self._cache,
            Entry(self._cache.root / self._name),
            self._use,
            lock,
            key=self._key,
            names=self._names,
            images=self._work.images,
            addresses=[self._addresses[tap] for tap in missing],
            check=self._check,
        )
        return found

    def _check(self, shard: Mapping[str, Array]) -> None:
        tap_at = {address: tap for tap, address in self._addresses.items()}
        refuse_non_finite(self._work.model, {tap_at[address]: values for address, values in shard.items()})

    def _extract(self, missing: list[Tap]) -> int:
        """Send the images whose features are missing through the network; return how many those are."""
        done = dict.fromkeys(missing, 0)
        if self._writer is not None:
            done = {tap: self._writer.done[self._addresses[tap]] for tap in missing}
        first, end = min(done.values()), self._work.images
        self._work.report(first)
        worth = _Worth(end)
        for start, stop in pairwise(sorted({*done.values(), end})):
            taps, row = [tap for tap in missing if done[tap] <= start], start

            def put(batch: Sequence[Array], taps: list[Tap] = taps) -> None:
                nonlocal row
                self._put(row, taps, batch, worth)
                row += len(batch[0])
                self._work.report(row)

            self._work.forward(start, stop, taps, put)
        return end - first

    def _put(self, row: int, taps: list[Tap], batch: Sequence[Array], worth: _Worth) -> None:
        if self._writer is not None or self._memory is not None:
            self._store(row, taps, batch)
            return
        # Copied, because features from a GPU are in pinned memory, of which there is little.
        copied = [values.copy() if isinstance(values, np.ndarray) else values for values in batch]
        self._undecided.append((row, taps, copied))
        self._work.settle()
        worthwhile = worth.decide(len(batch[0]), sum(values.nbytes for values in batch))
        if worthwhile is not None:
            if worthwhile:
                self._begin_writing(taps)
            self._store_undecided()

    def _begin_writing(self, taps: list[Tap]) -> None:
        """Write from here on, unless another process does."""
        try:
            found = self._open(taps, wait=False)
        except (OSError, StoreError) as error:
            self._warn(error)
            return
        if self._writer is not None and (found or any(self._writer.done.values())):
            # Another process has written meanwhile. The rows at hand are all that is needed.
            self._writer.release()
            self._writer = None

    def _store_undecided(self) -> None:
        """Store the rows that were collected before the decision."""
        if self._writer is None:
            self._memory = {}
        for row, taps, batch in self._undecided:
            self._store(row, taps, batch)
        self._undecided.clear()

    def _store(self, row: int, taps: list[Tap], batch: Sequence[Array]) -> None:
        if self._writer is not None:
            try:
                self._writer.put(row, [self._addresses[tap] for tap in taps], [on_host(values) for values in batch])
                return
            except (OSError, StoreError) as error:
                self._go_on_in_memory(error)
        assert self._memory is not None
        new = {tap: values.shape[1] for tap, values in zip(taps, batch, strict=True) if tap not in self._memory}
        self._memory |= self._work.allocate(new)
        for tap, values in zip(taps, batch, strict=True):
            fill(self._memory[tap], row, values)

    def _go_on_in_memory(self, error: Exception) -> None:
        """Stop writing after an error of the disk, and keep all rows in memory."""
        assert self._writer is not None
        self._warn(error)
        rows = self._writer.rescue()
        self._writer.release()
        self._writer = None
        self._memory = {tap: rows[address] for tap, address in self._addresses.items() if address in rows}

    def _warn(self, error: Exception) -> None:
        self._cache.ledger.warn(f"features of {' '.join(self._names.values())} are not cached: {_reason(error)}")

    def _finish(self, missing: list[Tap]) -> dict[Tap, Array]:
        if self._undecided:
            self._store_undecided()
        if self._writer is not None:
            try:
                rows = self._writer.finish()
                arrays = {tap: self._map(rows[self._addresses[tap]]) for tap in missing}
                self._cache.ledger.written += 1
                self._cache.ledger.written_bytes += sum(values.nbytes for values in arrays.values())
                return arrays
            except (OSError, StoreError) as error:
                self._go_on_in_memory(error)
        assert self._memory is not None
        refuse_non_finite(self._work.model, self._memory)
        return self._memory


class _Worth:
    """Decides whether features are worth their disk space, from the time that the first batches take."""

    def __init__(self, images: int) -> None:
        self._images, self._first = images, True
        self._clock, self._rows, self._bytes = time.perf_counter(), 0, 0

    def decide(self, rows: int, size: int) -> bool | None:
        """Decide whether to cache the features; None as long as that is not known.

        Args:
            rows, size: of the latest batch, in images and bytes
        """
        self._rows, self._bytes = self._rows + rows, self._bytes + size
        seconds = time.perf_counter() - self._clock
        if seconds / self._rows * self._images < WORTH_SECONDS:
            return False
        if self._first:  # its time includes waking up the device
            self._first = False
            self._clock, self._rows, self._bytes = time.perf_counter(), 0, 0
            return None
        return None if seconds < _MEASURED else self._bytes / seconds < WORTH_RATE


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    return str(error)
