"""Measure sweeps in the process of pytest, with a progress bar on a terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probebench.catalog.cases import Case, Sweep
    from probebench.catalog.taps import Tap
    from probebench.measure.availability import SkippedSweep
    from probebench.measure.outcome import SweepOutcome
    from probebench.measure.run import Run
    from probebench.plugin.session import ProbeSession


class LocalEngine:
    """The engine of a run without ``-n`` and without ``--probe-engine``."""

    where = ""
    places = 1

    def __init__(self, session: ProbeSession) -> None:
        self._session = session

    def begin(self, cases: Collection[Case]) -> None:
        """Check the device.

        Raises:
            ProbebenchError: if it does not exist, or cannot compute in the precision of the protocol
        """
        from probebench._hardware import choose_device
        from probebench.catalog.protocols import get_protocol
        from probebench.models.precision import check_precision

        options = self._session.options
        check_precision(get_protocol(options.protocol).precision, choose_device(options.device))

    def outcome(self, sweep: Sweep) -> SweepOutcome | SkippedSweep:
        """Measure a sweep, unless what it needs could not be downloaded for an earlier one."""
        return self._session.measure_or_skip(sweep, self._measure)

    def gather(self, run: Run, interrupted: bool) -> bool:
        """Nothing was measured elsewhere."""
        return interrupted

    def _measure(self, sweep: Sweep, taps: Sequence[Tap]) -> SweepOutcome:
        run, plugins = self._session.run, self._session.config.pluginmanager
        assert run is not None

        reporter: Any = plugins.get_plugin("terminalreporter")
        if reporter is None or not reporter.isatty or reporter.verbosity < 0:
            outcome = run.measure(sweep, taps)
        else:
            from probebench.plugin import terminal
            from probebench.reporting.terminal.progress import bar

            own = terminal.own_lines(self._session.config, reporter)
            with own, bar(terminal.output_file(reporter), sweep.id) as progress:
                outcome = run.measure(sweep, taps, progress)
        self._session.show_finished(outcome)
        return outcome
