"""``--probe-engine=ray`` as a pytest plugin: submit sweeps before the first test, let go of the cluster at the end."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING

import pytest

from probebench.measure.ray.engine import RayEngine
from probebench.plugin import terminal
from probebench.plugin.collected import ends_after_collection

if TYPE_CHECKING:
    from probebench.catalog.cases import Case, Sweep
    from probebench.measure.availability import SkippedSweep
    from probebench.measure.outcome import SweepOutcome
    from probebench.measure.run import Run
    from probebench.plugin.session import ProbeSession


class RayPlugin:
    """Drives a `RayEngine` from the hooks of pytest."""

    def __init__(self, session: ProbeSession) -> None:
        self._session = session
        self._engine: RayEngine | None = None  # in a run without cases

    @property
    def where(self) -> str:
        """The place of measurement, such as `` on 4 Ray nodes``."""
        return f" {self._engine.where}" if self._engine is not None else ""

    @property
    def places(self) -> int:
        return self._engine.places if self._engine is not None else 1

    def begin(self, cases: Collection[Case]) -> None:
        """Connect to the cluster.

        Raises:
            EngineError: if it cannot be reached, or has no node for a sweep
        """
        if not cases:
            return
        session = self._session
        self._engine = RayEngine(
            options=session.options,
            catalog=session.catalog,
            taps=session.collected.taps,
            family=session.collected.family,
            requested=session.requested,
            directory=session.config.invocation_params.dir,
            finished=partial(terminal.show_finished, session),
        )
        self._engine.connect()
        session.ensure_run()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Submit the sweeps, unless pytest is about to end the session."""
        if self._engine is not None and self._session.run is not None and not ends_after_collection(session):
            self._engine.submit(self._session.run)

    def outcome(self, sweep: Sweep) -> SweepOutcome | SkippedSweep:
        """Wait until a sweep has been measured."""
        assert self._engine is not None
        assert self._session.run is not None
        outcome = self._engine.outcome(self._session.run, sweep)
        return self._session.skip_unreachable(sweep) if outcome.unreachable else outcome

    def stop(self, sweep: Sweep, error: str) -> SweepOutcome:
        """Wait no longer. If the cluster has measured the sweep by the end of the run, `gather` takes it over."""
        return self._session.ensure_run().stop(sweep, error)

    def gather(self, run: Run, ended_early: bool) -> None:
        """Take over what has finished, and cancel the rest."""
        if self._engine is not None:
            self._engine.gather(run)

    def pytest_unconfigure(self) -> None:
        """Close the connection, also when the run did not begin."""
        if self._engine is not None:
            self._engine.close()
