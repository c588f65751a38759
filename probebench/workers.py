"""Sweeps in several processes: pytest-xdist's controller and its workers.

Every worker collects all tests, and measures the sweeps that it is given. It compares them with their baselines, too,
as their cases are reported while the run goes on. The controller collects nothing: it learns from the workers what
there is, and writes everything that a run leaves. What passes between them lies in a `probebench.handover.Handover`.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from probebench import _files, telling
from probebench._hardware import limit_threads
from probebench.errors import ProbebenchError, StoreError
from probebench.items import case_of, param_of, withheld_of

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.workermanage import WorkerController

    from probebench.catalog.cases import Case, Sweep
    from probebench.catalog.taps import Tap
    from probebench.handover import Handover
    from probebench.measure.availability import Here, SkippedSweep
    from probebench.measure.options import Options
    from probebench.measure.outcome import SweepOutcome
    from probebench.measure.run import Run
    from probebench.state import State

_INPUT = "probebench"  # the key of what the controller gives to a worker
ELSEWHERE = (
    "probebench measures in worker processes of one machine: run it with -n, and on every machine with --probe-shard"
)


def cores_of(place: int, sharers: int, cores: int) -> int:
    """How many of the processor cores are one worker's.

    Args:
        place: the worker's, from 0
        sharers: how many workers share the cores
    """
    return max(1, cores // sharers + (place % sharers < cores % sharers))


def _sharers(workers: int, cases: Collection[Case]) -> int:
    """Workers that find a sweep to measure."""
    return max(1, min(workers, len({case.sweep for case in cases})))


def _threads(place: int, sharers: int) -> int:
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
        self._place: int = given[_INPUT]["place"]
        self.here: Here | None = given[_INPUT]["here"]
        self._folder = Path(given[_INPUT]["folder"])
        self._sharers = 1

    @classmethod
    def of(cls, config: pytest.Config) -> Worker | None:
        """None for a worker on another machine than the controller."""
        return cls(config) if _INPUT in config.workerinput else None  # type: ignore[attr-defined]

    @cached_property
    def _handover(self) -> Handover:
        from probebench.handover import Handover

        return Handover(self._folder)

    def check(self, options: Options, cases: Collection[Case]) -> None:
        """Take notice of what was collected.

        Raises:
            ProbebenchError: if there is no such device
        """
        self._sharers = _sharers(self._count, cases)
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

        limit_threads(_threads(self._place, self._sharers))
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

    def announce(self, state: State, items: Sequence[pytest.Item], error: str | None) -> None:
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
                "notes": state.notes,
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
            outcome = self._handover.ended(sweep) or _died(sweep, before)
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


def _died(sweep: Sweep, worker: str) -> SweepOutcome:
    from probebench.measure.outcome import SweepOutcome

    error = f"WorkerDied: the process of worker {worker} ended while it measured this sweep"
    return SweepOutcome(sweep, error=error, explained_by=f"the crash of worker {worker!r}")


class Controller:
    """A pytest plugin, registered in the process that gives tests to workers.

    Attributes:
        workers: how many there are
    """

    def __init__(self, state: State) -> None:
        specs = state.config.getoption("tx")
        self.workers = len(specs)
        self._state = state
        self._here = all("popen" in spec for spec in specs)
        self._folder: Path | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._handover: Handover | None = None
        self._places: dict[WorkerController, int] = {}
        self._found_here: Here | None = None
        self._order: list[Sweep] = []
        self._usual: Any = None
        self._enough_failures = False

    def pytest_configure_node(self, node: WorkerController) -> None:
        """Before a worker starts, one that replaces a dead one included."""
        if not self._here:
            return
        taken = set(self._places.values())
        self._places[node] = next(place for place in range(len(taken) + 1) if place not in taken)
        given = {"folder": str(self._make_folder()), "place": self._places[node], "here": self._found_here}
        node.workerinput[_INPUT] = given

    def pytest_testnodedown(self, node: WorkerController) -> None:
        self._places.pop(node, None)

    def _make_folder(self) -> Path:
        """Where workers hand over. Made by the first that has cases, so that a run without leaves nothing."""
        if self._folder is None:
            name = f"{os.getpid()}-{secrets.token_hex(4)}"
            self._folder = self._state.options.root / ".probebench" / "workers" / name
            try:
                _files.check_writable(self._folder / "any", "-n")
            except StoreError:
                self._temporary = tempfile.TemporaryDirectory(prefix="probebench-")
                self._folder = Path(self._temporary.name) / name
        return self._folder

    @pytest.hookimpl(tryfirst=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Producer) -> Any:
        """Called before anything is collected."""
        from probebench.scheduling import Undecided

        others = config.pluginmanager.subset_hook_caller("pytest_xdist_make_scheduler", remove_plugins=[self])
        self._usual = others(config=config, log=log)
        self._log = log
        return Undecided()

    def pytest_xdist_node_collection_finished(self, node: WorkerController) -> None:
        """Decide, when the first worker has collected; take notice of what keeps another from its work."""
        session = self._state.config.pluginmanager.getplugin("dsession")
        worker = node.gateway.id
        found = None
        if self._folder is not None and (self._folder / "collected" / f"{worker}.json").exists():
            from probebench.handover import Handover

            self._handover = self._handover or Handover(self._folder)
            found = self._handover.announced(worker)
        if found and found["error"]:
            raise pytest.UsageError(found["error"])
        if self._usual is None:
            return
        scheduler, self._usual = self._usual, None
        if found:
            sweeps = self._begin(found)
            if sweeps:
                from probebench.scheduling import SweepScheduling

                scheduler = SweepScheduling(
                    self._state.config, self._log, sweeps, scheduler, lambda node: self._places.get(node, 0)
                )
        for waiting in session.sched.nodes:
            scheduler.add_node(waiting)
        session.sched = scheduler

    def _begin(self, found: Mapping[str, Any]) -> dict[str, str]:
        """What the process of a run does when it has collected; the id of the sweep of every node id of a case."""
        from probebench.catalog.cases import Case, Sweep
        from probebench.catalog.taps import Tap
        from probebench.handover import recalled
        from probebench.registered import told_of

        assert self._handover is not None
        state = self._state
        self._order = [Sweep(**table) for table in found["sweeps"]]
        state.specs = found["specs"]
        # What conftest files gave that this process, which collects nothing, has not loaded.
        models, datasets = told_of(found["registered"])
        catalog = state.catalog
        state.extend(
            [spec for spec in models if spec.name not in catalog.models],
            [spec for spec in datasets if spec.name not in catalog.datasets],
        )
        for typed in found["models"]:
            state.catalog.model(typed)  # one of timm that only a mark names is known by its own name from now on
        of = {nodeid: self._order[place] for nodeid, place, _ in found["items"]}
        cases = list(dict.fromkeys(Case(of[nodeid], Tap.parse(tap)) for nodeid, _, tap in found["items"] if tap))
        if cases and state.config.getoption("dist") == "each":
            raise pytest.UsageError("--dist=each gives every case to every worker: leave it out, a sweep is one's")
        withheld = [recalled(table) for table in found["withheld"]]
        state.notes += found["notes"]
        state.overlooked = [Path(folder) for folder in found["overlooked"]]
        state.family, self._found_here = found["family"], found["here"]
        if state.sharding is not None:
            state.sharding.sweeps = found["sharded"]
        if state.pruning is not None:
            # Files that were not collected were reported to this process, too.
            state.pruning.left_out += [each for each in found["left_out"] if each not in state.pruning.left_out]
            state.pruning.begin(cases, withheld)
        try:
            self._handover.own()
            if self._temporary is None:
                _files.keep_out_of_git(state.options.root / ".probebench")
            state.begin(cases, withheld)
        except ProbebenchError as error:
            raise pytest.UsageError(str(error)) from error
        reporter = state.config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None and (lines := telling.header(state, cases)):
            reporter.ensure_newline()
            for line in lines:
                reporter.write_line(line)
        return {nodeid: sweep.id for nodeid, sweep in of.items()} if cases else {}

    def hardware(self, cases: Collection[Case]) -> dict[str, int]:
        """What the run record says of the workers."""
        return {"workers": self.workers, "threads": _threads(0, _sharers(self.workers, cases))}

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Enough failures are an interruption to xdist, and the regular end of a run to pytest."""
        self._enough_failures = str(excinfo.value).startswith("stopping after")

    def gather(self, run: Run, interrupted: bool) -> bool:
        """Take over what workers have measured.

        Returns:
            whether the run was interrupted
        """
        from probebench.measure.outcome import SweepOutcome

        assert self._handover is not None
        interrupted = interrupted and not self._enough_failures
        if interrupted:
            # As it would when this hook's turn comes: what they had finished is handed over when they have ended. Who
            # is tired of waiting gets what there is.
            with suppress(KeyboardInterrupt):
                self._state.config.pluginmanager.getplugin("dsession").pytest_sessionfinish()
        for sweep, worker in self._handover.begun().items():
            try:
                outcome = self._handover.ended(sweep)
            except StoreError as error:
                outcome = SweepOutcome(sweep, error=f"StoreError: {error}")
            if outcome is None and not interrupted:
                outcome = _died(sweep, worker)
            if outcome is not None:
                run.take(outcome)
        run.sort(self._order)
        if run.cache is not None:
            for ledger in self._handover.accounts():
                run.cache.ledger.add(ledger)
        for withheld in self._handover.withheld():
            self._state.withheld[withheld.sweep.id] = withheld
        told = [outcome.unreachable for outcome in run.outcomes() if outcome.unreachable]
        self._state.notes += [f"WARNING: {each}" for each in dict.fromkeys(told)]
        return interrupted

    def pytest_unconfigure(self) -> None:
        """The workers have ended by now."""
        if self._folder is not None and self._folder.exists():
            from probebench.handover import Handover

            (self._handover or Handover(self._folder)).remove()
        if self._temporary is not None:
            self._temporary.cleanup()
