"""Measure sweeps in the process of pytest, with a progress bar on a terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from probebench.errors import ProbebenchError, Unreachable

if TYPE_CHECKING:
    from probebench._progress import Progress
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
        """Check the device, and find out which models are described later.

        Raises:
            ProbebenchError: if it does not exist, or cannot compute in the precision of the protocol
        """
        from probebench.catalog.protocols import get_protocol

        session, options = self._session, self._session.options
        precision = get_protocol(options.protocol).precision
        if options.device not in ("auto", "cpu") or precision == "tf32":  # others need no check, which imports torch
            from probebench._hardware import choose_device
            from probebench.models.precision import check_precision

            check_precision(precision, choose_device(options.device))
        session.undescribed = set(self._find_downloads(cases))

    def _find_downloads(self, cases: Iterable[Case]) -> Iterator[str]:
        """The models of the catalog whose weights are not here. Specs from elsewhere are checked before any work."""
        from probebench.catalog import builtin_models

        session = self._session
        for name in {case.sweep.model for case in cases}:
            spec = session.catalog.model(name)
            if builtin_models().get(name) == spec and session.availability.misses_weights(spec):
                yield name

    def outcome(self, sweep: Sweep) -> SweepOutcome | SkippedSweep:
        """Measure a sweep, unless what it needs could not be downloaded for an earlier one."""
        return self._session.measure_or_skip(sweep, self._measure)

    def stop(self, sweep: Sweep, error: str) -> SweepOutcome:
        """Keep the taps that had finished."""
        return self._session.ensure_run().stop(sweep, error)

    def gather(self, run: Run, ended_early: bool) -> None:
        """Nothing was measured elsewhere."""

    def _measure(self, sweep: Sweep, taps: Sequence[Tap]) -> SweepOutcome:
        from probebench.plugin import terminal
        from probebench.plugin.reporter import find_reporter, own_lines

        session, config = self._session, self._session.config
        reporter = find_reporter(config)
        if reporter is None or not reporter.isatty or reporter.verbosity < 0:
            outcome = self._download_and_measure(sweep, taps)
        else:
            from probebench.reporting.terminal.progress import bar

            with own_lines(config, reporter), bar(reporter.file, sweep.id) as progress:
                outcome = self._download_and_measure(sweep, taps, progress)
        if sweep.model in session.undescribed and not outcome.unreachable:
            terminal.show_preparation(session, sweep.model)
        terminal.show_finished(session, outcome)
        return outcome

    def _download_and_measure(
        self, sweep: Sweep, taps: Sequence[Tap], progress: Progress | None = None
    ) -> SweepOutcome:
        """Measure a sweep. Before the first one, find out whether there is a network, which needs no torch."""
        from probebench.measure.outcome import SweepOutcome

        session = self._session
        if session.run is None and not session.options.resume:
            try:
                self._download(sweep, progress)
            except Unreachable as error:
                session.unreachable.append(str(error))
                return SweepOutcome(sweep, unreachable=str(error))
            except ProbebenchError as error:
                failed = SweepOutcome(sweep, error=f"{type(error).__name__}: {error}")
                session.ensure_run().take(failed)
                return failed
        return session.ensure_run().measure(sweep, taps, progress)

    def _download(self, sweep: Sweep, progress: Progress | None) -> None:
        from probebench.catalog.protocols import get_protocol
        from probebench.measure.downloads import download_missing

        catalog = self._session.catalog
        datasets = [catalog.dataset(sweep.dataset)]
        if get_protocol(sweep.protocol).train_on == "clean":
            datasets.insert(0, catalog.clean(datasets[0]))
        own = sweep.model in self._session.options.weights
        download_missing(catalog.model(sweep.model), datasets, own_weights=own, progress=progress)
