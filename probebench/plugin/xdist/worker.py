"""A worker process of pytest-xdist: measure the sweeps that it is given, and hand them over to the controller."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from probebench._hardware import limit_threads
from probebench.errors import StoreError
from probebench.plugin.time_limit import no_alarm

if TYPE_CHECKING:
    from probebench.catalog.cases import Case, Sweep
    from probebench.catalog.taps import Tap
    from probebench.measure.availability import Here, SkippedSweep
    from probebench.measure.options import Options
    from probebench.measure.outcome import SweepOutcome
    from probebench.measure.run import Run
    from probebench.plugin.session import ProbeSession
    from probebench.plugin.xdist.exchange import ExchangeDirectory

INPUT = "probebench"
"""The key under which the controller puts what a worker needs to know into xdist's `workerinput`."""

ELSEWHERE = (
    "probebench supports local xdist workers (-n) only. To use several machines, run pytest with --probe-shard=I/N on "
    "each."
)


def count_cores(place: int, sharers: int, cores: int) -> int:
    """Count the processor cores that one worker gets.

    Args:
        place: number of the worker, from 0
        sharers: how many workers share the cores
    """
    return max(1, cores // sharers + (place % sharers < cores % sharers))


def count_sharers(workers: int, cases: Collection[Case]) -> int:
    """Count the workers that find a sweep to measure."""
    return max(1, min(workers, len({case.sweep for case in cases})))


def count_threads(place: int, sharers: int) -> int:
    """Count the threads of torch that one worker gets."""
    import torch

    from probebench._hardware import available_cores

    return min(torch.get_num_threads(), count_cores(place, sharers, available_cores()))


def assign_device(place: int, device: str, gpus: int) -> str:
    """The device of one worker: workers take the GPUs in turn, unless the option names one.

    Args:
        place: number of the worker, from 0
        device: the option
        gpus: how many there are
    """
    return f"cuda:{place % gpus}" if device in ("auto", "cuda") and gpus else device


def count_on_one_gpu(sharers: int, device: str, gpus: int) -> int:
    """Count the workers that share one GPU.

    Args:
        sharers: workers that measure
        device: the option
        gpus: how many there are
    """
    return -(-sharers // gpus) if device in ("auto", "cuda") else sharers


def make_worker(session: ProbeSession) -> Worker | RemoteWorker:
    """Make the engine of this worker process."""
    given = session.config.workerinput  # type: ignore[attr-defined]
    return Worker(session, given) if INPUT in given else RemoteWorker()


class RemoteWorker:
    """The engine of a worker on another machine than the controller: it cannot hand over results, so its cases fail."""

    where = ""
    places = 1

    def __init__(self) -> None:
        self.here: Here = ({}, {})

    def begin(self, cases: Collection[Case]) -> None:
        """Nothing is going to be measured."""

    def announce(self, problem: str) -> None:
        """Raises pytest.UsageError if there is a problem."""
        if problem:
            raise pytest.UsageError(problem)

    def outcome(self, sweep: Sweep) -> SweepOutcome:
        """Fail the tests that need the sweep."""
        return self.stop(sweep, ELSEWHERE)

    def stop(self, sweep: Sweep, error: str) -> SweepOutcome:
        """Nothing was measured."""
        from probebench.measure.outcome import SweepOutcome

        return SweepOutcome(sweep, error=error)

    def gather(self, run: Run, ended_early: bool) -> None:
        """Nothing was measured."""


class Worker:
    """The engine of a worker process on the machine of the controller.

    Attributes:
        here: what other workers had found on this machine before anything was downloaded: all must collect the same
    """

    where = ""
    places = 1

    def __init__(self, session: ProbeSession, given: dict[str, Any]) -> None:
        self._session = session
        self._name: str = given["workerid"]  # as in gw0
        self._count: int = given["workercount"]
        self._place: int = given[INPUT]["place"]
        self.here: Here = given[INPUT]["here"] or ({}, {})
        self._folder = Path(os.fsdecode(given[INPUT]["folder"]))
        self._sharers = 1
        self._over: dict[Sweep, SweepOutcome] = {}

    @cached_property
    def _exchange(self) -> ExchangeDirectory:
        from probebench.plugin.xdist.exchange import ExchangeDirectory

        return ExchangeDirectory(self._folder)

    def begin(self, cases: Collection[Case]) -> None:
        """Find out among how many workers the machine is shared.

        Raises:
            ProbebenchError: if there is no such device
        """
        self._sharers = count_sharers(self._count, cases)
        device = self._session.options.device
        if cases and device not in ("auto", "cpu"):
            from probebench._hardware import choose_device

            choose_device(device)

    def announce(self, problem: str) -> None:
        """Report to the controller what was collected, before xdist does.

        Args:
            problem: why the run cannot begin; empty if it can

        Raises:
            pytest.UsageError: if that cannot be written to a file; xdist takes the reason to the controller
        """
        try:
            self._announce(problem)
        except StoreError as error:
            self._session.config.workeroutput[INPUT] = str(error)  # type: ignore[attr-defined]
            raise pytest.UsageError(str(error)) from error

    def _announce(self, problem: str) -> None:
        session, collected = self._session, self._session.collected
        if problem:  # it ends the run, whatever was collected
            self._exchange.announce(self._name, {"error": problem})
            return
        found_any = bool(collected.items or collected.withheld)
        if not found_any and not session.notes and session.pruning is None:
            return
        sweeps = [*collected.first_items, *(each.skipped.sweep for each in collected.withheld)]
        self._exchange.announce(
            self._name,
            {
                "error": None,
                "collected": collected.to_json(),
                "models": sorted({session.catalog.model(sweep.model).typed for sweep in sweeps}),
                "registered": session.conftest_specs.to_json(session.catalog, sweeps),
                "notes": [asdict(note) for note in session.notes],
                "here": session.availability.here if found_any else None,
            },
        )

    def outcome(self, sweep: Sweep) -> SweepOutcome | SkippedSweep:
        """Measure a sweep and hand it over."""
        from probebench.measure.availability import SkippedSweep

        found = self._session.measure_or_skip(sweep, self._measure)
        if isinstance(found, SkippedSweep):
            self._exchange.add_skipped(found)
        return found

    def stop(self, sweep: Sweep, error: str) -> SweepOutcome:
        """Hand over the taps that had finished, and why there are no more."""
        outcome = self._over[sweep] = self._ensure_run().stop(sweep, error)
        with suppress(StoreError):
            self._exchange.begin(sweep, self._name)
            self._exchange.end(outcome)
        return outcome

    def gather(self, run: Run, ended_early: bool) -> None:
        """Hand over the finished taps of a sweep that was interrupted, and what the feature cache did."""
        for outcome in run.unfinished():
            with suppress(StoreError):
                self._exchange.end(outcome)
        if run.cache is not None:
            with suppress(StoreError):
                self._exchange.add_ledger(self._name, run.cache.ledger)

    def _measure(self, sweep: Sweep, taps: Sequence[Tap]) -> SweepOutcome:
        """Measure a sweep, unless another worker has begun it: xdist gives it to this one because that one died.

        It is begun before anything slow, such as the import of torch: a worker that dies of that must not be replaced
        by one that dies of it, too.
        """
        from probebench.measure.outcome import SweepOutcome

        if (known := self._over.get(sweep)) is not None:
            return known
        try:
            before = self._exchange.begin(sweep, self._name)
            if before is None:
                outcome = self._ensure_run().measure(sweep, taps)
                self._exchange.end(outcome)
            else:  # it may have died after this sweep, of something else
                outcome = self._exchange.ended(sweep) or describe_death(sweep, before)
        except StoreError as error:
            outcome = SweepOutcome(sweep, error=f"StoreError: {error}")
        self._over[sweep] = outcome
        return outcome

    def _ensure_run(self) -> Run:
        """Make the run when it is first needed, so that a worker without sweeps never loads torch."""
        if self._session.run is None:
            with no_alarm():
                options = self._share(self._session.options)
            self._session.run = self._session.make_run(options)
        return self._session.run

    def _share(self, options: Options) -> Options:
        """Limit this process to its part of the machine, and return options that do the same.

        Memory and cores are divided among the workers, or the sweeps if there are fewer, and those of a GPU among the
        workers on it; torch and the libraries under numpy use as many threads, if they do not use fewer already.
        """
        import torch

        from probebench._hardware import available_cores, usable_memory

        limit_threads(count_threads(self._place, self._sharers))
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        device = assign_device(self._place, options.device, gpus)
        if device != options.device:
            torch.cuda.set_device(device)  # for code that names none
        jobs = count_cores(self._place, self._sharers, options.jobs or available_cores())
        memory = (options.memory or usable_memory("cpu")) // self._sharers
        device_memory = options.device_memory
        if gpus and device != "cpu":
            on_it = count_on_one_gpu(self._sharers, options.device, gpus)
            device_memory = (options.device_memory or usable_memory(device)) // on_it
        return replace(options, device=device, jobs=jobs, memory=memory, device_memory=device_memory)


def describe_death(sweep: Sweep, worker: str) -> SweepOutcome:
    """The outcome of a sweep whose worker died while it measured it."""
    from probebench.measure.outcome import SweepOutcome

    error = f"WorkerDied: the process of worker {worker} ended while it measured this sweep"
    return SweepOutcome(sweep, error=error, stopped=True, explained_by=f"the crash of worker {worker!r}")
