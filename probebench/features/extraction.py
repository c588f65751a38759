"""The features of views under a network: from the cache where it has them, else from the network, and kept."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.utils.data import Subset

from probebench._arrays import Array, allocate, fill, on_host, to_device
from probebench._progress import Progress
from probebench.catalog.taps import Tap
from probebench.datasets.views import Views
from probebench.errors import ProbebenchError, StoreError
from probebench.features.batching import BatchSize
from probebench.features.cache.entry import Entry, Rows, Use
from probebench.features.cache.key import Key, addresses, key_of
from probebench.features.cache.store import FeatureCache
from probebench.features.cache.writer import Writer
from probebench.features.forward import extract, forward, refuse_non_finite
from probebench.models.build import Model

WORTH_SECONDS = 10.0
WORTH_RATE = 20e6
"""Unless all features are to be kept, those are that take so many seconds or longer to compute, and of which fewer
bytes than this come out of the network a second: 50 seconds of waiting, at least, for each gigabyte of disk."""

_MEASURED = 1.0  # seconds of extraction, behind the first batch, that the rate is taken from


class Features(dict[Tap, Array]):
    """Features by tap, float32 of shape (images, width); read-only where they lie in the cache.

    Attributes:
        images: how many images went through the network for them
    """

    images: int = 0


def features_of(
    model: Model,
    views: Views,
    taps: Sequence[Tap],
    *,
    cache: FeatureCache | None,
    names: Mapping[str, str],
    pooling: str,
    mean: torch.Tensor,
    std: torch.Tensor,
    batch_size: BatchSize,
    device: str,
    progress: Progress | None = None,
    keep: bool = False,
    stay: bool = False,
) -> Features:
    """What `probebench.features.forward.extract` gives, of which only what the cache lacks is extracted, in one pass.

    Where the cache fails (a full disk, a folder that cannot be written to), features are extracted without it, and its
    ledger has a warning.

    Args:
        cache: None to do without
        names: of the model, the dataset and the part of it, to be listed by
        progress: advanced by the number of images; told when another process is waited for
        keep: in the cache, also what it would not keep by itself
        stay: leave features on the device, and send those there that are in the cache

    Raises:
        FeatureError, LayoutError: as `probebench.features.forward.extract`
    """
    settings: dict[str, Any] = {"pooling": pooling, "mean": mean, "std": std, "device": device}
    work = _Work(model, views, list(taps), settings, batch_size, progress, stay)
    if cache is None:
        return work.without()
    where = " ".join(names.values())
    try:
        key = key_of(model, views, **settings)
    except ProbebenchError as error:
        cache.ledger.warn(f"features of {where} are not kept: {error}")
        return work.without()
    try:
        return _Cached(cache, key, names, work, keep=keep or cache.always).features()
    except (OSError, StoreError) as error:
        cache.ledger.warn(f"features of {where} are not kept: {_reason(error)}")
        return work.without()


class _Work:
    """What is to be extracted, and how far that is."""

    def __init__(
        self,
        model: Model,
        views: Views,
        taps: list[Tap],
        settings: dict[str, Any],
        batch_size: BatchSize,
        progress: Progress | None,
        stay: bool,
    ) -> None:
        self.model, self.views, self.taps, self.settings = model, views, taps, settings
        self.batch_size, self._stay, self._progress, self._told = batch_size, stay, progress, 0

    @property
    def images(self) -> int:
        return len(self.views)

    def without(self) -> Features:
        """All of it, by the network alone."""
        settings = self.settings | {"batch_size": self.batch_size, "stay": self._stay, "progress": self._tell}
        found = Features(extract(self.model, self.views, self.taps, **settings))
        found.images = self.images
        return found

    def settle(self) -> None:
        """Wait for what stays on the device, which is handed over before it is computed."""
        if self._stay and torch.device(self.settings["device"]).type == "cuda":
            torch.cuda.synchronize(self.settings["device"])

    def place(self, array: Array) -> Array:
        """An array that is mapped from the disk, where features are wanted."""
        return to_device(array, self.settings["device"]) if self._stay else array

    def allocate(self, widths: Mapping[Tap, int]) -> dict[Tap, Array]:
        """Memory for all views, where features are wanted."""
        return allocate(widths, self.images, self.settings["device"] if self._stay else None)

    def forward(self, start: int, end: int, taps: list[Tap], put: Any) -> None:
        """Send the views from `start` to `end` through the network."""
        part = self.views if (start, end) == (0, self.images) else Subset(self.views, range(start, end))
        forward(self.model, part, taps, put, batch_size=self.batch_size, stay=self._stay, **self.settings)

    def reached(self, row: int) -> None:
        """Progress: so many images are done, in one way or another."""
        self._tell(row - self._told)

    def _tell(self, count: int) -> None:
        # What is done a second time is not told again.
        count = min(count, self.images - self._told)
        if self._progress is not None and count > 0:
            self._told += count
            self._progress.advance(count)

    def waiting(self) -> None:
        if self._progress is not None:
            self._progress.start("wait for another process that extracts the same", 0)
            self._told = 0

    def waited(self) -> None:
        if self._progress is not None:
            self._progress.start("extract", self.images)


class _Cached:
    """One set of features and its entry in the cache.

    Rows go from the network to a list until it is decided whether to keep them, then to a `Writer`; or to arrays in
    memory, where they are not kept or once the disk has refused them.
    """

    def __init__(self, cache: FeatureCache, key: Key, names: Mapping[str, str], work: _Work, *, keep: bool) -> None:
        self._always = keep
        self._cache, self._name, self._key, self._names, self._work = cache, key.name, key.to_json(), names, work
        self._addresses = addresses(work.model, work.taps, work.settings["pooling"])
        self._use: Use | None = None
        self._mapped = False
        self._writer: Writer | None = None
        self._memory: dict[Tap, Array] | None = None
        self._undecided: list[tuple[int, list[Tap], Sequence[Array]]] = []

    def features(self) -> Features:
        images = 0
        try:
            found = self._read(self._work.taps) if self._name in self._cache else {}
            missing = [tap for tap in self._work.taps if tap not in found]
            if missing and (self._always or self._name in self._cache):
                found |= self._open(missing, wait=True)
                missing = [tap for tap in missing if tap not in found]
            if missing:
                images = self._extract(missing)
                found |= self._finished(missing)
        finally:
            if self._writer is not None:
                self._writer.release()
                self._writer = None
            if not self._mapped:
                if self._use is not None:
                    self._use.release()
                self._cache.remove_if_empty(self._name)
        self._work.reached(self._work.images)
        result = Features((tap, self._work.place(found[tap])) for tap in self._work.taps)
        result.images = images
        return result

    def _read(self, taps: list[Tap]) -> dict[Tap, Array]:
        """Those that are in the cache, whole."""
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
        array = np.memmap(path, dtype="<f4", mode="r", shape=(self._work.images, rows.width))
        # As long as the array lives, and processes that are sent its file name, the file must be there.
        array.use = self._use  # type: ignore[attr-defined]
        self._mapped = True
        return array

    def _open(self, missing: list[Tap], *, wait: bool) -> dict[Tap, Array]:
        """Become the one that writes, unless another process does and is not to be waited for, or has done it all.

        Returns:
            what was finished meanwhile
        """
        self._use = self._use or self._cache.use(self._name)
        waited = False

        def waiting() -> None:
            nonlocal waited
            waited = True
            self._work.waiting()

        lock = self._cache.lock(self._name, waiting if wait else None)
        if waited:
            self._work.waited()
        if lock is None:
            return {}
        try:
            found = self._read(missing)
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
        """Send through the network what is not there yet; how many images that is."""
        done = dict.fromkeys(missing, 0)
        if self._writer is not None:
            done = {tap: self._writer.done[self._addresses[tap]] for tap in missing}
        first, end = min(done.values()), self._work.images
        self._work.reached(first)
        decide = _Worth(end)
        for start, stop in pairwise(sorted({*done.values(), end})):
            taps, row = [tap for tap in missing if done[tap] <= start], start

            def put(batch: Sequence[Array], taps: list[Tap] = taps) -> None:
                nonlocal row
                self._put(row, taps, batch, decide)
                row += len(batch[0])
                self._work.reached(row)

            self._work.forward(start, stop, taps, put)
        return end - first

    def _put(self, row: int, taps: list[Tap], batch: Sequence[Array], worth: _Worth) -> None:
        if self._writer is not None or self._memory is not None:
            self._keep(row, taps, batch)
            return
        # Copied, for what comes from a GPU lies in memory that cannot be paged out, of which there is little.
        copied = [values.copy() if isinstance(values, np.ndarray) else values for values in batch]
        self._undecided.append((row, taps, copied))
        self._work.settle()
        yes = worth.it(len(batch[0]), sum(values.nbytes for values in batch))
        if yes is not None:
            if yes:
                self._begin(taps)
            self._decided()

    def _begin(self, taps: list[Tap]) -> None:
        """Write from here on, if nobody else does."""
        try:
            found = self._open(taps, wait=False)
        except (OSError, StoreError) as error:
            self._warn(error)
            return
        if self._writer is not None and (found or any(self._writer.done.values())):
            # Another process has been here since this one looked. The rows at hand are all that is needed.
            self._writer.release()
            self._writer = None

    def _decided(self) -> None:
        """Send on what has been waiting for the decision."""
        if self._writer is None:
            self._memory = {}
        for row, taps, batch in self._undecided:
            self._keep(row, taps, batch)
        self._undecided.clear()

    def _keep(self, row: int, taps: list[Tap], batch: Sequence[Array]) -> None:
        if self._writer is not None:
            try:
                self._writer.put(row, [self._addresses[tap] for tap in taps], [on_host(values) for values in batch])
                return
            except (OSError, StoreError) as error:
                self._rescue(error)
        assert self._memory is not None
        new = {tap: values.shape[1] for tap, values in zip(taps, batch, strict=True) if tap not in self._memory}
        self._memory |= self._work.allocate(new)
        for tap, values in zip(taps, batch, strict=True):
            fill(self._memory[tap], row, values)

    def _rescue(self, error: Exception) -> None:
        """Go on in memory."""
        assert self._writer is not None
        self._warn(error)
        rows = self._writer.rescue()
        self._writer.release()
        self._writer = None
        self._memory = {tap: rows[address] for tap, address in self._addresses.items() if address in rows}

    def _warn(self, error: Exception) -> None:
        self._cache.ledger.warn(f"features of {' '.join(self._names.values())} are not kept: {_reason(error)}")

    def _finished(self, missing: list[Tap]) -> dict[Tap, Array]:
        if self._undecided:
            self._decided()
        if self._writer is not None:
            try:
                rows = self._writer.finish()
                arrays = {tap: self._map(rows[self._addresses[tap]]) for tap in missing}
                self._cache.ledger.written += 1
                self._cache.ledger.written_bytes += sum(values.nbytes for values in arrays.values())
                return arrays
            except (OSError, StoreError) as error:
                self._rescue(error)
        assert self._memory is not None
        refuse_non_finite(self._work.model, self._memory)
        return self._memory


class _Worth:
    """Whether features are worth their disk, judged by how long the first of them took."""

    def __init__(self, images: int) -> None:
        self._images, self._first = images, True
        self._clock, self._rows, self._bytes = time.perf_counter(), 0, 0

    def it(self, rows: int, size: int) -> bool | None:
        """None as long as that is not known.

        Args:
            rows, size: of the batch that has just come, in images and bytes
        """
        self._rows, self._bytes = self._rows + rows, self._bytes + size
        seconds = time.perf_counter() - self._clock
        if seconds / self._rows * self._images < WORTH_SECONDS:
            return False
        if self._first:  # it has a device to wake up, and says no more than this
            self._first = False
            self._clock, self._rows, self._bytes = time.perf_counter(), 0, 0
            return None
        return None if seconds < _MEASURED else self._bytes / seconds < WORTH_RATE


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    return str(error)
