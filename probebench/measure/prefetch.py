"""Reading the features of the sweep that comes next while the probes of this one are fitted.

On a GPU the images of the next sweep are decoded and sent through its network by another thread of this process. On a
CPU that thread would take the cores that the fits are on, and nothing is read ahead.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING

import torch

from probebench._progress import Progress
from probebench.catalog.cases import Sweep
from probebench.catalog.protocols import Protocol

if TYPE_CHECKING:
    from probebench.measure.sweep import PrefetchedSweep


def worthwhile(device: str, protocol: Protocol) -> bool:
    """Whether there is a device to use beside the fits. Torch's switch for tf32 is the process's, and the fits need it
    off."""
    return torch.device(device).type != "cpu" and protocol.precision != "tf32"


def _take_threads(count: int) -> None:
    """Let this thread have as many threads of torch, whatever others set for themselves.

    Each has a number of its own, which it takes from the process when it first asks: fits have set that to one by then.
    """
    torch.get_num_threads()
    torch.set_num_threads(count)


class _Stopped(Exception):
    """Nobody wants it any more."""


class _Stoppable:
    """Progress that ends the work when it is next told of it."""

    def __init__(self, stop: Event) -> None:
        self._stop = stop

    def start(self, stage: str, total: int) -> None:
        self.advance(0)

    def advance(self, count: int) -> None:
        if self._stop.is_set():
            raise _Stopped


class Ahead:
    """At most one sweep that has begun before its turn."""

    def __init__(self) -> None:
        self._sweep: Sweep | None = None
        self._future: Future[PrefetchedSweep | None] | None = None
        self._stop = Event()

    @property
    def busy(self) -> bool:
        """Whether something is being read."""
        return self._future is not None and not self._future.done()

    def start(self, sweep: Sweep, begin: Callable[[Progress], PrefetchedSweep | None]) -> None:
        """Begin with a sweep in another thread, unless one has begun.

        Args:
            begin: reads its features, or finds that they would not fit into memory
        """
        if self._future is not None:
            return
        self._sweep, self._stop = sweep, Event()
        pool = ThreadPoolExecutor(1, "ahead", initializer=_take_threads, initargs=(torch.get_num_threads(),))
        self._future = pool.submit(begin, _Stoppable(self._stop))
        pool.shutdown(wait=False)

    def take(self, sweep: Sweep) -> PrefetchedSweep | None:
        """What has begun of a sweep, once it is read; None if nothing has, or if it failed.

        A failure is not told: the sweep fails again in its turn, where it is explained.
        """
        if self._future is None:
            return None
        if sweep != self._sweep:
            self.drop()
            return None
        future, self._future, self._sweep = self._future, None, None
        try:
            return future.result()
        except Exception:
            return None

    def drop(self) -> None:
        """Stop, and forget what has begun."""
        self._stop.set()
        future, self._future, self._sweep = self._future, None, None
        if future is not None:
            future.exception()  # waits
