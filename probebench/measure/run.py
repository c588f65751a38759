"""One run: measure sweeps as they are asked for, judge their cases, write the record and the baselines.

This is what the pytest plugin does, less pytest.
"""

from __future__ import annotations

import copy
import secrets
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from probebench import _files
from probebench._files import relative
from probebench._format import counted, signed
from probebench._hardware import choose_device, usable_memory
from probebench._progress import Progress
from probebench.catalog import Catalog
from probebench.catalog.cases import Case, Sweep
from probebench.catalog.protocols import get_protocol
from probebench.catalog.taps import Tap, all_taps
from probebench.errors import ProbebenchError, StoreError, Unreachable
from probebench.features.batching import out_of_memory
from probebench.features.cache import FeatureCache
from probebench.measure import prefetch
from probebench.measure.entries import baseline_of, case_record, sweep_record
from probebench.measure.environment import hardware
from probebench.measure.options import Options
from probebench.measure.outcome import SweepOutcome
from probebench.measure.plan import SweepPlan
from probebench.measure.prepare import prepare
from probebench.measure.result import SweepResult
from probebench.measure.resume import ResumeStore
from probebench.measure.shift import References
from probebench.measure.sweep import PrefetchedSweep, begin_sweep, run_sweep
from probebench.records import baselines, run_record
from probebench.records.baselines import Baseline
from probebench.records.tap_selection import select_tap
from probebench.records.types import HardwareRecord, Record, WithheldRecord
from probebench.records.verdicts import Judgement, judge
from probebench.reporting import export, html

Following = Callable[[], tuple[Sweep, Sequence[Tap]] | None]


@dataclass
class _Measuring:
    """A sweep as it is measured.

    Attributes:
        sweep: which one
        result: None until its first tap is about to be probed
        baseline: what it is compared with
        judgements: per tap of `result`
        wall_seconds: from start to finish
    """

    sweep: Sweep
    result: SweepResult | None = None
    baseline: Baseline | None = None
    judgements: dict[Tap, Judgement] | None = None
    wall_seconds: float = 0.0


def feature_cache(options: Options) -> FeatureCache | None:
    """The cache that a run uses; None if it does without."""
    if options.cache == "off":
        return None
    return FeatureCache(options.cache_root, options.cache_size, always=options.cache == "on")


class Run:
    """Everything that one pytest session measures.

    Args:
        family: number of cases that share the error level of the verdicts
        hardware: what the record says of the hardware that differs from this process; may be added to
        stored: baselines by sweep, where they are not read from the files
        journal: where sweeps are kept that are over

    Attributes:
        cache: of features; None if this run does without
    """

    def __init__(
        self,
        options: Options,
        catalog: Catalog,
        family: int,
        hardware: Mapping[str, Any] | None = None,
        stored: Mapping[Sweep, Baseline | None] | None = None,
        journal: ResumeStore | None = None,
    ) -> None:
        self.options = options
        self.catalog = catalog
        self.hardware = dict(hardware or {})
        self._family, self._stored, self._journal = family, stored, journal
        self._over: dict[Sweep, SweepOutcome] = {}
        self._measuring: dict[Sweep, _Measuring] = {}
        self.cache = feature_cache(options)
        self._references = References(self.cache)
        self._ahead = prefetch.Ahead()
        self._started = datetime.now(UTC)
        self._clock = time.perf_counter()

    def measure(
        self,
        sweep: Sweep,
        taps: Sequence[Tap],
        progress: Progress | None = None,
        following: Following | None = None,
    ) -> SweepOutcome:
        """Run one sweep and judge its cases. Failures end up in the outcome; interruptions pass through.

        Args:
            following: finds the sweep that comes next and its taps, which may be read while this one is fitted
        """
        if (done := self._over.get(sweep)) is not None:
            return done  # pytest comes back to a sweep when items were reordered, as --ff does
        if (before := self.recall(sweep)) is not None:
            return before
        measured = self._measuring[sweep] = _Measuring(sweep)
        ended = SweepOutcome(sweep)
        start = time.perf_counter()

        def keep(result: SweepResult) -> None:
            measured.result = result

        try:
            measured.baseline = self.baseline(sweep, taps)
            if not self._fitted(sweep, taps, progress, keep, following, self.options.device_memory):
                self._fitted(sweep, taps, progress, keep, None, 0)
            self._judge(measured)
            ended.complete = True
        except Unreachable as error:
            ended.unreachable = str(error)
        except ProbebenchError as error:
            ended.error = f"{type(error).__name__}: {error}"
        except Exception as error:
            # Not one of ours: out of memory, or a bug. The explanation needs its traceback, once.
            ended.error = f"{type(error).__name__}: {error}"
            ended.traceback = traceback.format_exc()
        finally:
            measured.wall_seconds = time.perf_counter() - start
        self.take(self._described(ended, measured))
        del self._measuring[sweep]
        return ended

    def _fitted(
        self,
        sweep: Sweep,
        taps: Sequence[Tap],
        progress: Progress | None,
        keep: Callable[[SweepResult], None],
        following: Following | None,
        device_memory: int | None,
    ) -> bool:
        """Run a sweep; False if memory ran out beside features on the device, or fits did beside another sweep."""
        options, settings = self.options, self._settings(sweep, taps)
        plans: list[SweepPlan] = []
        try:
            run_sweep(
                **settings,
                reference=self.catalog.reference(settings["model"]),
                references=self._references,
                cache=self.cache,
                memory=options.memory,
                device_memory=device_memory,
                device=options.device,
                batch_size=options.batch_size,
                jobs=options.jobs,
                progress=progress,
                on_plan=plans.append,
                on_start=keep,
                begun=self._ahead.take(sweep),
                on_read=None if following is None else lambda plan: self._read_ahead(following, plan),
            )
        except RuntimeError as error:
            staying = any(plan.mode == "device" for plan in plans)
            if not (out_of_memory(error) and (staying or self._ahead.busy)):
                raise
        else:
            return True
        self._ahead.drop()
        return False

    def _settings(self, sweep: Sweep, taps: Sequence[Tap]) -> dict[str, Any]:
        """What a sweep is prepared from, in its turn or before."""
        return {
            "model": self.catalog.model(sweep.model),
            "dataset": self.catalog.dataset(sweep.dataset),
            "clean": self.catalog.clean(self.catalog.dataset(sweep.dataset)),
            "protocol": get_protocol(sweep.protocol),
            "taps": taps,
            "weights": self.options.weights.get(sweep.model),
        }

    def _read_ahead(self, following: Following, plan: SweepPlan) -> None:
        """Begin with a sweep where a device would be idle and memory allows, beside another one and its plan."""
        options, device = self.options, choose_device(self.options.device)
        if not prefetch.worthwhile(device, get_protocol(options.protocol)) or (found := following()) is None:
            return
        sweep, taps = found
        if sweep in self._over or self.recall(sweep) is not None:
            return
        settings = self._settings(sweep, taps)
        free = options.memory if options.memory is not None else usable_memory("cpu")

        def begin(progress: Progress) -> PrefetchedSweep | None:
            return begin_sweep(
                prepare(**settings, download=False, device=device, progress=progress),
                cache=self.cache,
                memory=free - plan.memory,
                device=device,
                batch_size=options.batch_size,
                jobs=options.jobs,
                progress=progress,
            )

        self._ahead.start(sweep, begin)

    def stop_reading(self) -> None:
        """Give up what was read ahead."""
        self._ahead.drop()

    def take(self, outcome: SweepOutcome) -> None:
        """Add a sweep that is over, wherever it was measured."""
        self._over[outcome.sweep] = outcome
        if self._journal is not None:
            self._journal.keep(outcome)

    def recall(self, sweep: Sweep) -> SweepOutcome | None:
        """A sweep that an earlier run has finished, if this one goes on with what that has left."""
        found = self._journal.recall(sweep) if self._journal is not None else None
        if found is not None:
            self.take(found)
        return found

    def over(self, sweep: Sweep) -> SweepOutcome | None:
        """A sweep that is over; None if it is not."""
        return self._over.get(sweep)

    def outcomes(self) -> list[SweepOutcome]:
        """Of all sweeps so far, the unfinished included, which may have finished some taps."""
        return [*self._over.values(), *self.unfinished()]

    def unfinished(self) -> list[SweepOutcome]:
        """Of sweeps that were interrupted."""
        return [self._described(SweepOutcome(sweep), measured) for sweep, measured in self._measuring.items()]

    def sort(self, order: Iterable[Sweep]) -> None:
        """Bring the sweeps that are over into an order."""
        self._over = {sweep: self._over.pop(sweep) for sweep in order if sweep in self._over} | self._over

    def baseline(self, sweep: Sweep, taps: Sequence[Tap]) -> Baseline | None:
        """What a sweep is compared with; None if nothing is stored.

        Raises:
            StoreError: if it is damaged, and not about to be replaced
        """
        if self._stored is not None:
            return self._stored[sweep]
        # A damaged baseline is replaced when all of it is measured anew on request, and only then.
        whole = set(taps) == set(all_taps(self.catalog.model(sweep.model).depth))
        return baselines.read(self.options.baselines, sweep, damaged_is_none=whole and self.options.update == "all")

    def _judge(self, measured: _Measuring) -> None:
        assert measured.result is not None
        measured.judgements = judge(
            baseline_of(measured.sweep, measured.result),
            measured.baseline,
            alpha=self.options.alpha,
            min_drop=self.options.min_drop,
            family=max(self._family, len(measured.result.taps)),
        )

    def _described(self, outcome: SweepOutcome, measured: _Measuring) -> SweepOutcome:
        """Fill in what was measured."""
        result = measured.result
        if result is None or not result.taps:
            return outcome
        if measured.judgements is None:
            self._judge(measured)
        assert measured.judgements is not None
        sweep = outcome.sweep
        outcome.record = sweep_record(sweep, result, measured.wall_seconds)
        for tap in sorted(result.taps):
            entry = case_record(sweep, result, tap, measured.judgements[tap])
            outcome.cases.append(entry)
            outcome.correct[entry["id"]] = result.taps[tap].correct
            if (complaint := self._complaint(Case(sweep, tap), result, measured.judgements[tap])) is not None:
                outcome.complaints[entry["id"]] = complaint
        outcome.record["selection"] = select_tap(outcome.cases, outcome.correct)
        outcome.notes += result.weights_notes
        reasons = [each.reason for each in measured.judgements.values() if each.verdict == "not comparable"]
        if reasons and self.options.update is None and not self.options.strict:  # which fails each case with it
            command = baselines.update_command(sweep, result.model, "all", self.options.tests)
            outcome.notes.append(
                f"WARNING: {counted(len(reasons), 'case')} of {sweep.id} checked against nothing: {reasons[0]}. To "
                f"store a new one: {command}"
            )
        if measured.baseline is not None:
            known = set(all_taps(result.model.depth))
            outcome.stale = [f"{sweep.id}-{tap.id}" for tap in sorted(measured.baseline.correct) if tap not in known]
        return outcome

    def _complaint(self, case: Case, result: SweepResult, judgement: Judgement) -> str | None:
        """Why a measured case fails, or None if it passes."""
        accuracy, accepted = result.taps[case.tap].accuracy, self.options.update == "all"
        if judgement.verdict == "regressed" and not accepted:
            assert judgement.baseline_accuracy is not None
            change = signed(accuracy - judgement.baseline_accuracy)
            return (
                f"regressed: {case.sweep.model} on {case.sweep.dataset} at {case.tap.id}: accuracy "
                f"{100 * accuracy:.1f}%, baseline {100 * judgement.baseline_accuracy:.1f}% ({change} points; "
                f"{judgement.lost} test images lost, {judgement.gained} gained, p = {judgement.p_value:.1e})"
            )
        if self.options.strict and self.options.update is None and judgement.verdict in ("new", "not comparable"):
            how = "new" if judgement.verdict == "new" else "all"
            why = f" ({judgement.reason})" if judgement.reason else ""
            return (
                f"{judgement.verdict}: {case.id} has no baseline to be checked against{why}. To store one: "
                f"{baselines.update_command(case.sweep, result.model, how, self.options.tests)}"
            )
        return None

    def complaints(self) -> list[str]:
        """Everything that fails the run's cases, beside sweeps that could not be measured."""
        outcomes = self.outcomes()
        found = [complaint for outcome in outcomes for complaint in outcome.complaints.values()]
        if self.options.strict and not self.options.prune:
            found += [f"stale: baseline {name} has no case" for outcome in outcomes for name in outcome.stale]
        return found

    def record(self, interrupted: bool, withheld: Sequence[WithheldRecord] = ()) -> Record:
        """The run record of all that was measured so far, unfinished sweeps included.

        Args:
            withheld: what was not measured because it is not on this machine, see
            `probebench.reporting.availability.skipped_entries`
        """
        outcomes = self.outcomes()
        sweeps = [outcome.record for outcome in outcomes if outcome.record is not None]
        record = run_record.run_record(
            hardware=hardware(sorted({sweep["device"] for sweep in sweeps})),
            started=self._started,
            duration=time.perf_counter() - self._clock,
            command=list(sys.argv),
            sweeps=sweeps,
            cases=[case for outcome in outcomes for case in outcome.cases],
            failures=[
                {"sweep": outcome.sweep.id, "error": f"{outcome.error}\n{outcome.traceback}".rstrip()}
                for outcome in outcomes
                if outcome.error is not None
            ],
            stale=[name for outcome in outcomes for name in outcome.stale],
            interrupted=interrupted,
            alpha=self.options.alpha,
            min_drop=self.options.min_drop,
        )
        record["hardware"] = cast(HardwareRecord, record["hardware"] | self.hardware)
        if self.options.shard is not None:
            record["shard"] = list(self.options.shard)
        if withheld:
            record["withheld"] = list(withheld)
        return copy.deepcopy(record)  # plugins may change it

    def check_writable(self) -> None:
        """Before any work: can everything that this run was asked to write be written?

        Raises:
            ProbebenchError: naming the option to change
        """
        options = self.options
        if options.json is not None:
            _files.check_writable(options.json, "--probe-json")
        for path in options.leaderboard_files:
            _files.check_writable(path, "--probe-leaderboard-file")
        if self.cache is not None and options.cache == "on":
            self.cache.check("--probe-cache")
        if options.report is not None:
            html.check(options.report, "--probe-report")
        if options.update is not None or options.prune:
            option = "--probe-prune" if options.update is None else "--probe-update"
            _files.check_writable(options.baselines / options.protocol / "any", f"{option} (see --probe-baselines)")

    def save_record(self, record: Record) -> tuple[Path | None, list[str], list[str]]:
        """Write the record, and which test examples were right, to .probebench/runs/ and where it was asked for.

        Returns:
            where it was written to; what could not be written though nobody asked for it by name; what could not be
            written where it was asked for
        """
        home = self.options.root / ".probebench"
        name = f"{self._started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}.json"
        warnings, problems, saved = [], [], None
        correct = {name: bits for outcome in self.outcomes() for name, bits in outcome.correct.items()}
        try:
            _files.keep_out_of_git(home)
            run_record.save(record, home / "runs" / name, correct)
            saved = home / "runs" / name
        except StoreError as error:
            elsewhere = ", so that this run has no record; --probe-json=FILE writes one"
            warnings.append(f"{error}{'' if self.options.json is not None else elsewhere}")
        if self.options.json is not None:
            try:
                run_record.save(record, self.options.json, correct)
                saved = self.options.json
            except StoreError as error:
                problems.append(str(error))
        return saved, warnings, problems

    def save_leaderboards(self, record: Record) -> list[str]:
        """Write the leaderboard files that were asked for; returns what could not be written."""
        problems = []
        for path in self.options.leaderboard_files:
            try:
                _files.write(path, export.to_text(record, path.suffix.removeprefix(".")))
            except StoreError as error:
                problems.append(str(error))
        return problems

    def cache_notes(self) -> list[str]:
        """What the feature cache did, for people."""
        return self.cache.notes() if self.cache is not None else []

    def save_report(self, record: Record, saved: Path | None) -> list[str]:
        """Write the HTML report if one was asked for; returns what could not be written.

        Args:
            saved: the file of the record, where it was written
        """
        if self.options.report is None:
            return []
        try:
            html.write(record, self.options.report, relative(saved) if saved is not None else "")
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
        for outcome in self._over.values():
            if not outcome.complete:
                continue
            sweep = outcome.sweep
            try:
                model = self.catalog.model(sweep.model)
                directory, how, tests = self.options.baselines, self.options.update, self.options.tests
                if baselines.update(directory, outcome.baseline(), model, how, tests):
                    written.append(baselines.paths(directory, sweep)[0])
            except StoreError as error:
                problems.append(str(error))
        return written, problems
