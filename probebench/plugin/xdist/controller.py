"""The controller of pytest-xdist: let worker processes measure sweeps, and bring their results together.

Every worker collects all tests, measures the sweeps that it is given and compares them with their baselines, because
their cases are reported while the run goes on. The controller collects nothing: it reads what a worker has collected,
and writes all files of the run. They exchange files in a `probebench.plugin.xdist.exchange.ExchangeDirectory`.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from probebench import _files
from probebench._format import counted
from probebench.errors import Note, ProbebenchError, StoreError
from probebench.plugin import terminal
from probebench.plugin.reporter import find_reporter
from probebench.plugin.xdist.worker import INPUT, count_sharers, count_threads, describe_death

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.workermanage import WorkerController

    from probebench.catalog.cases import Case, Sweep
    from probebench.measure.availability import Here
    from probebench.measure.outcome import SweepOutcome
    from probebench.measure.run import Run
    from probebench.plugin.session import ProbeSession
    from probebench.plugin.xdist.exchange import ExchangeDirectory


class Controller:
    """The engine of a run with ``-n``, and the pytest plugin that talks to xdist."""

    def __init__(self, session: ProbeSession) -> None:
        specs = session.config.getoption("tx")
        self._session = session
        self._workers = len(specs)
        self._local = all("popen" in spec for spec in specs)
        self._folder: Path | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._exchange: ExchangeDirectory | None = None
        self._places: dict[WorkerController, int] = {}
        self._here: Here | None = None
        self._usual: Any = None
        self._hardware: dict[str, int] = {}
        self._shown: set[Sweep] = set()
        self.places = 1

    @property
    def where(self) -> str:
        """The place of measurement, such as `` on 4 workers``."""
        return f" on {counted(self._workers, 'worker')}"

    def pytest_configure_node(self, node: WorkerController) -> None:
        """Called before a worker starts, also before one that replaces a dead one."""
        if not self._local:
            return
        taken = set(self._places.values())
        self._places[node] = next(place for place in range(len(taken) + 1) if place not in taken)
        # As bytes: a name that the locale cannot express is no text that could be sent.
        given = {"folder": os.fsencode(self._make_folder()), "place": self._places[node], "here": self._here}
        node.workerinput[INPUT] = given

    def pytest_testnodedown(self, node: WorkerController) -> None:
        """Raises pytest.UsageError for a worker that could not even write down what it had collected."""
        self._places.pop(node, None)
        if problem := getattr(node, "workeroutput", {}).get(INPUT):
            raise pytest.UsageError(problem)

    def _make_folder(self) -> Path:
        """Choose the exchange directory. The first worker that has cases makes it, so that other runs leave nothing."""
        if self._folder is None:
            name = f"{os.getpid()}-{secrets.token_hex(4)}"
            self._folder = self._session.options.root / ".probebench" / "workers" / name
            try:
                _files.check_writable(self._folder / "any", "-n")
            except StoreError as error:
                try:
                    self._temporary = tempfile.TemporaryDirectory(prefix="probebench-")
                except OSError as other:
                    text = f"{error}; nor has {tempfile.gettempdir()} room for what workers exchange ({other.strerror})"
                    raise pytest.UsageError(text) from None
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
        """Begin the run when the first worker has collected; stop it if any worker reports a problem."""
        from probebench.plugin.xdist.scheduler import SweepScheduling, replace_scheduler

        found = None
        if self._folder is not None and (self._folder / "collected" / f"{node.gateway.id}.json").exists():
            from probebench.plugin.xdist.exchange import ExchangeDirectory

            self._exchange = self._exchange or ExchangeDirectory(self._folder)
            found = self._exchange.announced(node.gateway.id)
        if found and found["error"]:
            raise pytest.UsageError(found["error"])
        if self._usual is None:
            return
        config, scheduler, self._usual = self._session.config, self._usual, None
        if found:
            self._begin(found)
            collected = self._session.collected
            if collected.cases:
                sweeps = {nodeid: item.sweep.id for nodeid, item in collected.items.items()}
                scheduler = SweepScheduling(
                    config, self._log, sweeps, scheduler, lambda node: self._places.get(node, 0), self._note_death
                )
        replace_scheduler(config, scheduler)

    def _note_death(self, nodeid: str, node: WorkerController) -> None:
        """Count a sweep as begun by the worker that died of its test, however early: no other is to die of it, too."""
        assert self._exchange is not None
        with suppress(StoreError):
            self._exchange.begin(self._session.collected.items[nodeid].sweep, node.gateway.id)

    def _begin(self, found: Mapping[str, Any]) -> None:
        """Begin the run with what a worker has collected."""
        from probebench.plugin.collected import Collected
        from probebench.plugin.registry import specs_from_json

        assert self._exchange is not None
        session = self._session
        # The specs of conftest files that this process, which collects nothing, has not loaded.
        models, datasets = specs_from_json(found["registered"])
        catalog = session.catalog
        session.extend(
            [spec for spec in models if spec.name not in catalog.models],
            [spec for spec in datasets if spec.name not in catalog.datasets],
        )
        for typed in found["models"]:
            session.catalog.model(typed)  # makes a model of timm that only a mark names known by its own name
        collected = Collected.from_json(found["collected"])
        if collected.cases and session.config.getoption("dist") == "each":
            raise pytest.UsageError("--dist=each is not supported: each sweep must run on exactly one worker.")
        if session.pruning is not None:
            # Files that were not collected were reported to this process, too.
            left_out = dict.fromkeys([*session.pruning.left_out, *collected.left_out])
            collected = replace(collected, left_out=list(left_out))
        session.notes += [Note(**note) for note in found["notes"]]
        self._here = found["here"]
        try:
            self._exchange.own()
            if self._temporary is None:
                _files.keep_out_of_git(session.options.root / ".probebench")
            session.begin(collected)
        except ProbebenchError as error:
            raise pytest.UsageError(str(error)) from error
        reporter = find_reporter(session.config)
        if reporter is not None and (lines := terminal.header(session)):
            reporter.ensure_newline()
            for line in lines:
                reporter.write_line(line)

    def begin(self, cases: Collection[Case]) -> None:
        """Find out how the workers share the machine, for the run record."""
        self.places = count_sharers(self._workers, cases)
        threads = count_threads(0, self.places)
        self._hardware = {"workers": self._workers, "threads": threads}
        if cases:
            self._session.ensure_run()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Show the line of a sweep when the first test that has needed it is reported."""
        session = self._session
        item = session.collected.items.get(report.nodeid)
        if self._exchange is None or item is None or item.sweep in self._shown:
            return
        with suppress(StoreError):  # reported at the end
            if (outcome := self._exchange.ended(item.sweep)) is not None:
                self._shown.add(item.sweep)
                terminal.show_finished(session, outcome)

    def outcome(self, sweep: Sweep) -> SweepOutcome:
        """Never called: the workers run all tests."""
        raise NotImplementedError

    def stop(self, sweep: Sweep, error: str) -> SweepOutcome:
        """Never called, as `outcome`."""
        raise NotImplementedError

    def gather(self, run: Run, ended_early: bool) -> None:
        """Take over what the workers have measured."""
        from probebench.measure.outcome import SweepOutcome
        from probebench.plugin.xdist.scheduler import end_workers

        assert self._exchange is not None
        if ended_early:
            # Workers hand over what they had finished when they end. A second Ctrl-C ends the wait for them.
            with suppress(KeyboardInterrupt):
                end_workers(self._session.config)
        self._session.skipped |= {each.sweep: each for each in self._exchange.skipped()}
        for sweep, worker in self._exchange.begun().items():
            try:
                outcome = self._exchange.ended(sweep)
            except StoreError as error:
                outcome = SweepOutcome(sweep, error=f"StoreError: {error}")
            if outcome is None and not ended_early and sweep not in self._session.skipped:
                outcome = describe_death(sweep, worker)
            if outcome is not None:
                run.take(outcome)
        run.sort(self._session.collected.first_items)
        run.hardware |= self._hardware
        if run.cache is not None:
            for ledger in self._exchange.ledgers():
                run.cache.ledger.add(ledger)

    def pytest_unconfigure(self) -> None:
        """The workers have ended by now."""
        if self._folder is not None and self._folder.exists():
            from probebench.plugin.xdist.exchange import ExchangeDirectory

            (self._exchange or ExchangeDirectory(self._folder)).remove()
        if self._temporary is not None:
            self._temporary.cleanup()
