"""The seam between a pytest session and whatever measures its sweeps.

Behind it are this process (`probebench.plugin.local_engine`), the workers of pytest-xdist (`probebench.plugin.xdist`)
and the tasks of a Ray cluster (`probebench.plugin.ray_engine`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from probebench.catalog.cases import Case, Sweep
    from probebench.measure.availability import Here, SkippedSweep
    from probebench.measure.outcome import SweepOutcome
    from probebench.measure.run import Run


class Engine(Protocol):
    """Measures the sweeps of a session."""

    @property
    def places(self) -> int:
        """The number of sweeps that are measured at a time. Known when the engine has begun."""

    @property
    def where(self) -> str:
        """The place where sweeps are measured, for the first line of a run: `` on 4 workers``; empty for this
        process."""

    def begin(self, cases: Collection[Case]) -> None:
        """Get ready to measure. Called once, when collection is over and before any work.

        Raises:
            ProbebenchError: if these cases cannot be measured here
        """

    def outcome(self, sweep: Sweep) -> SweepOutcome | SkippedSweep:
        """Measure a sweep, or wait for whoever measures it; called again for a sweep, return the same outcome."""

    def stop(self, sweep: Sweep, error: str) -> SweepOutcome:
        """Count a sweep as failed, because something outside has stopped `outcome`, such as a time limit.

        Args:
            error: why, in one line
        """

    def gather(self, run: Run, ended_early: bool) -> None:
        """Bring what was measured elsewhere into the run. Called once, when the tests are over.

        Args:
            ended_early: True if something has ended them, such as Ctrl-C or -x; sweeps may then be unfinished
        """


class WorkerEngine(Engine, Protocol):
    """The engine of a worker process of pytest-xdist.

    Attributes:
        here: what other workers had found on this machine before anything was downloaded: all must collect the same
    """

    here: Here

    def announce(self, problem: str) -> None:
        """Report to the controller what was collected, or why the run cannot begin."""
