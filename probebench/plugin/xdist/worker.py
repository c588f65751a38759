"""A worker process of pytest-xdist: what it measures, and what it hands over."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from probebench._hardware import limit_threads
from probebench.errors import StoreError
from probebench.plugin.items import case_of, param_of, withheld_of

if TYPE_CHECKING:
    from probebench.catalog.cases import Case, Sweep
    from probebench.catalog.taps import Tap
    from probebench.measure.availability import Here, SkippedSweep
    from probebench.measure.options import Options
    from probebench.measure.outcome import SweepOutcome
    from probebench.measure.run import Run
    from probebench.plugin.session import ProbeSession
    from probebench.plugin.xdist.exchange import ExchangeDirectory


def cores_of(place: int, sharers: int, cores: int) -> int:
    """How many of the processor cores are one worker's.

    Args:
        place: the worker's, from 0
        sharers: how many workers share the cores
    """
    return max(1, cores // sharers + (place % sharers < cores % sharers))


def sharers(workers: int, cases: Collection[Case]) -> int:
    """Workers that find a sweep to measure."""
    return max(1, min(workers, len({case.sweep for case in cases})))


def threads_of(place: int, sharers: int) -> int:
    """How many threads of torch are one worker's."""
    import torch

    from probebench._hardware import available_cores

    return min(torch.get_num_threads(), cores_of(place, sharers, available_cores()))


def device_of(place: int, device: str, gpus: int) -> str:
    """Which device is one worker's: GPUs go round, unless one is named.

    Args:
        place: the worker's, from 0
        device: the option
        gpus: how many there are
    """
    return f"cuda:{place % gpus}" if device in ("auto", "cuda") and gpus else device


def on_one_gpu(sharers: int, device: str, gpus: int) -> int:
    """How many workers have the same GPU.

    Args:
        sharers: workers that measure
        device: the option
        gpus: how many there are
    """
    return -(-sharers // gpus) if device in ("auto", "cuda") else sharers


class Worker:
    """One of the processes that measure.

    Attributes:
        name: as in ``gw0``
        here: for one that replaces another, what the others had found on this machine before anything was downloaded:
            all must collect the same
    """

    def __init__(self, config: pytest.Config) -> None:
        given: dict[str, Any] = config.workerinput  # type: ignore[attr-defined]
        self.name: str = given["workerid"]
        self._count: int = given["workercount"]
        self._place: int = given[INPUT]["place"]
        self.here: Here | None = given[INPUT]["here"]
        self._folder = Path(given[INPUT]["folder"])
        self._sharers = 1

    @classmethod
    def of(cls, config: pytest.Config) -> Worker | None:
        """None for a worker on another machine than the controller."""
        return cls(config) if INPUT in config.workerinput else None  # type: ignore[attr-defined]

    @cached_property
    def _handover(self) -> ExchangeDirectory:
        from probebench.plugin.xdist.exchange import ExchangeDirectory

        return ExchangeDirectory(self._folder)

    def check(self, options: Options, cases: Collection[Case]) -> None:
        """Take notice of what was collected.

        Raises:
            ProbebenchError: if there is no such device
        """
        self._sharers = sharers(self._count, cases)
        if cases and options.device not in ("auto", "cpu"):
            from probebench._hardware import choose_device

            choose_device(options.device)

    def share(self, options: Options) -> Options:
        """Keep to this worker's part of the machine; the options with it.

        Memory and cores are divided among the workers, or the sweeps if there are fewer, and that of a GPU among those
        on it; torch and the libraries under numpy take as many threads, if they do not take fewer already.
        """
        import torch

        from probebench._hardware import available_cores, usable_memory

        limit_threads(threads_of(self._place, self._sharers))
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        device = device_of(self._place, options.device, gpus)
        if device != options.device:
            torch.cuda.set_device(device)  # for code that names none
        jobs = cores_of(self._place, self._sharers, options.jobs or available_cores())
        memory = (options.memory or usable_memory("cpu")) // self._sharers
        device_memory = options.device_memory
        if gpus and device != "cpu":
            beside = on_one_gpu(self._sharers, options.device, gpus)
            device_memory = (options.device_memory or usable_memory(device)) // beside
        return replace(options, device=device, jobs=jobs, memory=memory, device_memory=device_memory)

    def announce(self, state: ProbeSession, items: Sequence[pytest.Item], error: str | None) -> None:
        """Tell the controller what was collected, before it learns from xdist that something was.

        Args:
            error: why the run cannot begin, if it cannot
        """
        if error:  # which ends the run, whatever was collected beside it
            self._handover.announce(self.name, {"error": error})
            return
        sweeps: dict[Sweep, int] = {}
        entries: list[tuple[str, int, str | None]] = []
        withheld = {}
        for item in items:
            if (param := param_of(item)) is None:
                continue
            place = sweeps.setdefault(param.sweep, len(sweeps))
            if (case := case_of(item)) is not None:
                entries.append((item.nodeid, place, case.tap.id))
            elif (each := withheld_of(item)) is not None:
                entries.append((item.nodeid, place, None))
                withheld[place] = asdict(each)
        if not entries and not state.notes and state.pruning is None:
            return
        self._handover.announce(
            self.name,
            {
                "error": None,
                "sweeps": [asdict(sweep) for sweep in sweeps],
                "models": sorted({state.catalog.model(sweep.model).typed for sweep in sweeps}),
                "specs": state.specs,
                "registered": state.registered.told(state.catalog, sweeps),
                "items": entries,
                "withheld": list(withheld.values()),
                "notes": [asdict(note) for note in state.notes],
                "family": state.family,
                "sharded": state.sharding.sweeps if state.sharding is not None else None,
                "here": state.preflight.here if entries else None,
                "overlooked": [str(folder) for folder in state.overlooked],
                "left_out": state.pruning.left_out if state.pruning is not None else [],
            },
        )

    def measure(self, run: Run, sweep: Sweep, taps: Sequence[Tap]) -> SweepOutcome:
        """Measure a sweep and hand it over, unless another worker had begun with it: that one is dead by now."""
        from probebench.measure.outcome import SweepOutcome

        if (done := run.over(sweep)) is not None:
            return done
        try:
            before = self._handover.begin(sweep, self.name)
            if before is None:
                outcome = run.measure(sweep, taps)
                self._handover.end(outcome)
                return outcome
            # It may have died later, of something else.
            outcome = self._handover.ended(sweep) or describe_death(sweep, before)
        except StoreError as error:
            outcome = SweepOutcome(sweep, error=f"StoreError: {error}")
        run.take(outcome)
        return outcome

    def withhold(self, withheld: SkippedSweep) -> None:
        """Tell the controller of a sweep that turned out not to be possible."""
        self._handover.withhold(withheld)

    def finish(self, run: Run) -> None:
        """Hand over what had finished of a sweep that was interrupted, and what the feature cache did."""
        for outcome in run.unfinished():
            with suppress(StoreError):
                self._handover.end(outcome)
        if run.cache is not None:
            with suppress(StoreError):
                self._handover.account(self.name, run.cache.ledger)


def describe_death(sweep: Sweep, worker: str) -> SweepOutcome:
    from probebench.measure.outcome import SweepOutcome

    error = f"WorkerDied: the process of worker {worker} ended while it measured this sweep"
    return SweepOutcome(sweep, error=error, explained_by=f"the crash of worker {worker!r}")


INPUT = "probebench"  # the key of what the controller gives to a worker
