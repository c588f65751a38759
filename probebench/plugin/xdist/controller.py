"""Sweeps in several processes: pytest-xdist's controller and its workers.

Every worker collects all tests, and measures the sweeps that it is given. It compares them with their baselines, too,
as their cases are reported while the run goes on. The controller collects nothing: it learns from the workers what
there is, and writes everything that a run leaves. What passes between them lies in a
`probebench.plugin.xdist.exchange.ExchangeDirectory`.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from probebench import _files
from probebench.errors import Note, ProbebenchError, StoreError
from probebench.plugin import terminal
from probebench.plugin.xdist.worker import INPUT, describe_death, sharers, threads_of

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.workermanage import WorkerController

    from probebench.catalog.cases import Case, Sweep
    from probebench.measure.availability import Here
    from probebench.measure.run import Run
    from probebench.plugin.session import ProbeSession
    from probebench.plugin.xdist.exchange import ExchangeDirectory

ELSEWHERE = (
    "probebench measures in worker processes of one machine: run it with -n, and on every machine with --probe-shard"
)


class Controller:
    """A pytest plugin, registered in the process that gives tests to workers.

    Attributes:
        workers: how many there are
    """

    def __init__(self, state: ProbeSession) -> None:
        specs = state.config.getoption("tx")
        self.workers = len(specs)
        self._state = state
        self._here = all("popen" in spec for spec in specs)
        self._folder: Path | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._handover: ExchangeDirectory | None = None
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
        node.workerinput[INPUT] = given

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
        from probebench.plugin.xdist.scheduler import DeferredScheduler

        others = config.pluginmanager.subset_hook_caller("pytest_xdist_make_scheduler", remove_plugins=[self])
        self._usual = others(config=config, log=log)
        self._log = log
        return DeferredScheduler()

    def pytest_xdist_node_collection_finished(self, node: WorkerController) -> None:
        """Decide, when the first worker has collected; take notice of what keeps another from its work."""
        session = self._state.config.pluginmanager.getplugin("dsession")
        worker = node.gateway.id
        found = None
        if self._folder is not None and (self._folder / "collected" / f"{worker}.json").exists():
            from probebench.plugin.xdist.exchange import ExchangeDirectory

            self._handover = self._handover or ExchangeDirectory(self._folder)
            found = self._handover.announced(worker)
        if found and found["error"]:
            raise pytest.UsageError(found["error"])
        if self._usual is None:
            return
        scheduler, self._usual = self._usual, None
        if found:
            sweeps = self._begin(found)
            if sweeps:
                from probebench.plugin.xdist.scheduler import SweepScheduling

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
        from probebench.plugin.registry import told_of
        from probebench.plugin.xdist.exchange import recalled

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
        state.notes += [Note(**note) for note in found["notes"]]
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
        if reporter is not None and (lines := terminal.header(state, cases)):
            reporter.ensure_newline()
            for line in lines:
                reporter.write_line(line)
        return {nodeid: sweep.id for nodeid, sweep in of.items()} if cases else {}

    def hardware(self, cases: Collection[Case]) -> dict[str, int]:
        """What the run record says of the workers."""
        return {"workers": self.workers, "threads": threads_of(0, sharers(self.workers, cases))}

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
                outcome = describe_death(sweep, worker)
            if outcome is not None:
                run.take(outcome)
        run.sort(self._order)
        if run.cache is not None:
            for ledger in self._handover.accounts():
                run.cache.ledger.add(ledger)
        for withheld in self._handover.withheld():
            self._state.withheld[withheld.sweep.id] = withheld
        told = [outcome.unreachable for outcome in run.outcomes() if outcome.unreachable]
        self._state.notes += [Note("warning", each) for each in dict.fromkeys(told)]
        return interrupted

    def pytest_unconfigure(self) -> None:
        """The workers have ended by now."""
        if self._folder is not None and self._folder.exists():
            from probebench.plugin.xdist.exchange import ExchangeDirectory

            (self._handover or ExchangeDirectory(self._folder)).remove()
        if self._temporary is not None:
            self._temporary.cleanup()
