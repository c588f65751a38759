"""One run: measure sweeps as they are asked for, judge their cases, write the record and the baselines.

This is what the pytest plugin does, less pytest.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from probebench import atomic, baselines, leaderboard_text, report, results
from probebench.baselines import Baseline, Judgement
from probebench.cache import FeatureCache
from probebench.cases import Case, Sweep
from probebench.catalog import Catalog
from probebench.errors import ProbebenchError, StoreError, Unreachable
from probebench.fetch import Progress
from probebench.options import Options
from probebench.protocols import get_protocol
from probebench.selection import select
from probebench.shift import References
from probebench.sites import Tap, all_taps
from probebench.sweep import SweepResult, run_sweep


@dataclass
class Measured:
    """One sweep of the run.

    Attributes:
        result: None if it failed before its first tap
        baseline: what it was compared with
        unreachable: the explanation if something had to be downloaded and there is no network
        judgements: per tap of `result`
        error: the explanation if it failed, one line
        traceback: of a failure that is not one of probebench's own errors
        complete: whether every selected tap was measured
        explained_by: where the explanation of a failure was given
        wall_seconds: from start to finish
    """

    sweep: Sweep
    result: SweepResult | None = None
    baseline: Baseline | None = None
    unreachable: str = ""
    judgements: dict[Tap, Judgement] | None = None
    error: str | None = None
    traceback: str = ""
    complete: bool = False
    explained_by: str | None = None
    wall_seconds: float = 0.0


class Run:
    """Everything that one pytest session measures."""

    def __init__(self, options: Options, catalog: Catalog) -> None:
        self.options = options
        self.catalog = catalog
        self.family = 0  # cases in the run; set once collection has finished
        self.measured: dict[Sweep, Measured] = {}
        self._cache = None
        if options.cache != "off":
            self._cache = FeatureCache(options.cache_root, options.cache_size, always=options.cache == "on")
        self._references = References(self._cache)
        self._started = datetime.now(UTC)
        self._clock = time.perf_counter()

    def measure(self, sweep: Sweep, taps: Sequence[Tap], progress: Progress | None = None) -> Measured:
        """Run one sweep and judge its cases. Failures end up in the result; interruptions pass through."""
        done = self.measured.get(sweep)
        if done is not None and (done.complete or done.unreachable or done.error is not None):
            return done  # pytest comes back to a sweep when items were reordered, as --ff does
        measured = self.measured[sweep] = Measured(sweep)
        options = self.options
        start = time.perf_counter()

        def keep(result: SweepResult) -> None:
            measured.result = result

        try:
            measured.baseline = self._read_baseline(sweep, taps)
            model, dataset = self.catalog.model(sweep.model), self.catalog.dataset(sweep.dataset)
            run_sweep(
                model,
                dataset,
                clean=self.catalog.clean(dataset),
                reference=self.catalog.reference(model),
                references=self._references,
                protocol=get_protocol(sweep.protocol),
                taps=taps,
                weights=options.weights.get(sweep.model),
                cache=self._cache,
                device=options.device,
                batch_size=options.batch_size,
                jobs=options.jobs,
                progress=progress,
                on_start=keep,
            )
            self._judge(measured)
            measured.complete = True
        except Unreachable as error:
            measured.unreachable = str(error)
        except ProbebenchError as error:
            measured.error = f"{type(error).__name__}: {error}"
        except Exception as error:
            # Not one of ours: out of memory, or a bug. The explanation needs its traceback, once.
            measured.error = f"{type(error).__name__}: {error}"
            measured.traceback = traceback.format_exc()
        finally:
            measured.wall_seconds = time.perf_counter() - start
        return measured

    def _read_baseline(self, sweep: Sweep, taps: Sequence[Tap]) -> Baseline | None:
        # A damaged baseline is replaced when all of it is measured anew on request, and only then.
        whole = set(taps) == set(all_taps(self.catalog.model(sweep.model).depth))
        return baselines.read(self.options.baselines, sweep, damaged_is_none=whole and self.options.update == "all")

    def _judge(self, measured: Measured) -> None:
        assert measured.result is not None
        measured.judgements = baselines.judge(
            measured.result.taps,
            measured.result,
            measured.baseline,
            alpha=self.options.alpha,
            min_drop=self.options.min_drop,
            family=max(self.family, len(measured.result.taps)),
        )

    def complaint(self, case: Case) -> str | None:
        """Why a measured case fails, or None if it passes."""
        measured = self.measured[case.sweep]
        assert measured.result is not None
        assert measured.judgements is not None
        judgement, result = measured.judgements[case.tap], measured.result.taps[case.tap]
        accepted = self.options.update == "all"
        if judgement.verdict == "regressed" and not accepted:
            assert judgement.baseline_accuracy is not None
            drop = 100 * (judgement.baseline_accuracy - result.accuracy)
            return (
                f"regressed: {case.sweep.model} on {case.sweep.dataset} at {case.tap.id}: accuracy "
                f"{100 * result.accuracy:.1f}%, baseline {100 * judgement.baseline_accuracy:.1f}% (-{drop:.1f} points; "
                f"{judgement.lost} test images lost, {judgement.gained} gained, p = {judgement.p_value:.1e})"
            )
        if self.options.strict and self.options.update is None and judgement.verdict in ("new", "not comparable"):
            how = "new" if judgement.verdict == "new" else "all"
            why = f" ({judgement.reason})" if judgement.reason else ""
            return (
                f"{judgement.verdict}: {case.id} has no baseline to be checked against{why}. To store one: "
                f"{baselines.update_command(case.sweep, measured.result.model, how)}"
            )
        return None

    def complaints(self) -> list[str]:
        """Everything that fails the run's cases, beside sweeps that could not be measured."""
        found = [
            complaint
            for sweep, measured in self.measured.items()
            for tap in measured.judgements or ()
            if (complaint := self.complaint(Case(sweep, tap))) is not None
        ]
        return found + (
            [f"stale: baseline {name} has no case" for name in self.stale()]
            if self.options.strict and not self.options.prune
            else []
        )

    def stale(self) -> list[str]:
        """Ids of baseline entries whose tap the model does not have."""
        found = []
        for measured in self.measured.values():
            if measured.baseline is not None and measured.result is not None:
                known = set(all_taps(measured.result.model.depth))
                found += [
                    f"{measured.sweep.id}-{tap.id}" for tap in sorted(measured.baseline.correct) if tap not in known
                ]
        return found

    def record(self, interrupted: bool, withheld: Sequence[results.Record] = ()) -> results.Record:
        """The run record of all that was measured so far, unfinished sweeps included.

        Args:
            withheld: what was not measured because it is not on this machine, see `probebench.preflight.entries`
        """
        sweeps, cases, failures = [], [], []
        for measured in self.measured.values():
            if measured.error is not None:
                error = f"{measured.error}\n{measured.traceback}".rstrip()
                failures.append({"sweep": measured.sweep.id, "error": error})
            if measured.result is None or not measured.result.taps:
                continue
            if measured.judgements is None:
                self._judge(measured)
            assert measured.judgements is not None
            own = [
                results.case_record(measured.sweep, measured.result, tap, measured.judgements[tap])
                for tap in sorted(measured.result.taps)
            ]
            sweep = results.sweep_record(measured.sweep, measured.result, measured.wall_seconds)
            sweeps.append(sweep | {"selection": select(own, _correct(measured))})
            cases += own
        record = results.run_record(
            started=self._started,
            duration=time.perf_counter() - self._clock,
            command=list(sys.argv),
            sweeps=sweeps,
            cases=cases,
            failures=failures,
            stale=self.stale(),
            interrupted=interrupted,
            alpha=self.options.alpha,
            min_drop=self.options.min_drop,
        )
        return record | {"withheld": list(withheld)} if withheld else record

    def check_writable(self) -> None:
        """Before any work: can everything that this run was asked to write be written?

        Raises:
            ProbebenchError: naming the option to change
        """
        options = self.options
        if options.json is not None:
            atomic.check_writable(options.json, "--probe-json")
        for path in options.leaderboard_files:
            atomic.check_writable(path, "--probe-leaderboard-file")
        if self._cache is not None and options.cache == "on":
            self._cache.check("--probe-cache")
        if options.report is not None:
            report.check(options.report, "--probe-report")
        if options.update is not None or options.prune:
            option = "--probe-prune" if options.update is None else "--probe-update"
            atomic.check_writable(options.baselines / options.protocol / "any", f"{option} (see --probe-baselines)")

    def save_record(self, record: results.Record) -> tuple[Path | None, list[str], list[str]]:
        """Write the record, and which test examples were right, to .probebench/runs/ and where it was asked for.

        Returns:
            where it was written to; what could not be written though nobody asked for it by name; what could not be
            written where it was asked for
        """
        home = self.options.root / ".probebench"
        name = f"{self._started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}.json"
        warnings, problems, saved = [], [], None
        correct = {name: bits for measured in self.measured.values() for name, bits in _correct(measured).items()}
        try:
            if not (home / ".gitignore").exists():
                atomic.write(home / ".gitignore", "# made by probebench\n*\n")
            results.save(record, home / "runs" / name, correct)
            saved = home / "runs" / name
        except StoreError as error:
            warnings.append(str(error))
        if self.options.json is not None:
            try:
                results.save(record, self.options.json, correct)
                saved = self.options.json
            except StoreError as error:
                problems.append(str(error))
        return saved, warnings, problems

    def save_leaderboards(self, record: results.Record) -> list[str]:
        """Write the leaderboard files that were asked for; returns what could not be written."""
        problems = []
        for path in self.options.leaderboard_files:
            try:
                atomic.write(path, leaderboard_text.to_text(record, path.suffix.removeprefix(".")))
            except StoreError as error:
                problems.append(str(error))
        return problems

    def cache_notes(self) -> list[str]:
        """What the feature cache did, for people."""
        return self._cache.notes() if self._cache is not None else []

    def save_report(self, record: results.Record, saved: Path | None) -> list[str]:
        """Write the HTML report if one was asked for; returns what could not be written.

        Args:
            saved: the file of the record, where it was written
        """
        if self.options.report is None:
            return []
        try:
            report.write(record, self.options.report, relative(saved) if saved is not None else "")
        except StoreError as error:
            return [str(error)]
        except Exception as error:
            # The record may hold what a plugin made of it. It is saved, and the report can be made of it later.
            return [f"{self.options.report} could not be made ({type(error).__name__}: {error})"]
        return []

    def update_baselines(self) -> tuple[list[Path], list[str]]:
        """Store what complete sweeps measured, as --probe-update asks.

        Returns:
            the files written, and what could not be updated
        """
        written, problems = [], []
        assert self.options.update is not None
        for measured in self.measured.values():
            if not measured.complete or measured.result is None:
                continue
            try:
                if baselines.update(self.options.baselines, measured.sweep, measured.result, self.options.update):
                    written.append(baselines.paths(self.options.baselines, measured.sweep)[0])
            except StoreError as error:
                problems.append(str(error))
        return written, problems


def _correct(measured: Measured) -> results.Correct:
    found = {} if measured.result is None else measured.result.taps
    return {f"{measured.sweep.id}-{tap.id}": result.correct for tap, result in found.items()}


def relative(path: Path) -> str:
    """A path as a user would type it from here."""
    try:
        return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
    except OSError:
        return str(path)
