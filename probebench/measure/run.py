"""One run: measure sweeps in the order in which they are requested, judge their cases, and make the run record.

Nothing here knows pytest or writes files: `probebench.plugin.finish` does.
"""

from __future__ import annotations

import copy
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from probebench._format import counted
from probebench._progress import Progress
from probebench.catalog import Catalog, DatasetSpec
from probebench.catalog.cases import Case, Sweep
from probebench.catalog.protocols import get_protocol
from probebench.catalog.taps import Tap, all_taps
from probebench.catalog.tasks import TASKS
from probebench.datasets.duplicates import Duplicates
from probebench.errors import DataError, Note, ProbebenchError, StoreError, Unreachable
from probebench.features.batching import out_of_memory
from probebench.features.cache import FeatureCache, cache_root
from probebench.measure.combine import combine
from probebench.measure.duplicates import find_equal_pixels
from probebench.measure.entries import baseline_of, case_record, sweep_record
from probebench.measure.environment import hardware
from probebench.measure.extract import extract
from probebench.measure.near_duplicates import find_near_duplicates
from probebench.measure.options import Options
from probebench.measure.outcome import SweepOutcome
from probebench.measure.plan import SweepPlan
from probebench.measure.prepare import PreparedSweep, prepare
from probebench.measure.probe import probe
from probebench.measure.result import SweepResult
from probebench.measure.resume import ResumeStore
from probebench.measure.shift import References, measure_shift
from probebench.records import baselines, run_record
from probebench.records.baselines import Baseline
from probebench.records.contrasts import compare_places
from probebench.records.poolings import compare_poolings
from probebench.records.tap_selection import select_tap
from probebench.records.types import HardwareRecord, Record, WithheldRecord
from probebench.records.verdicts import Judgement, judge


@dataclass
class _Measuring:
    """A sweep that is being measured.

    Attributes:
        result: None until its first features are extracted
        baseline: that it is compared with; None if nothing is stored
        judgements: of the taps of `result`; None until it is complete or interrupted
        wall_seconds: from start to finish
    """

    sweep: Sweep
    result: SweepResult | None = None
    baseline: Baseline | None = None
    judgements: dict[Tap, Judgement] | None = None
    wall_seconds: float = 0.0


def feature_cache(options: Options) -> FeatureCache | None:
    """The feature cache of a run; None if it is off, or nobody asked for it and the user has no home directory.

    Raises:
        StoreError: if there is no home directory and --probe-cache=on
    """
    if options.cache == "off":
        return None
    if options.cache == "auto" and options.cache_root is None:
        try:
            cache_root()
        except StoreError:
            return None
    return FeatureCache(options.cache_root, options.cache_size, always=options.cache == "on")


class Run:
    """Everything that one pytest session measures.

    Args:
        family: number of cases that share the error level of the verdicts
        hardware: entries of the record's hardware that differ from this process
        stored: baselines by sweep; by default they are read from their files
        journal: keeps finished sweeps on disk for `--probe-resume`
        began: the time of `time.perf_counter` from which the run counts; by default now
        interruptions: exceptions that end the run, as Ctrl-C does, not just the sweep in which they are raised

    Attributes:
        cache: of features; None if it is off
        started: when, in UTC
    """

    def __init__(
        self,
        options: Options,
        catalog: Catalog,
        family: int,
        hardware: Mapping[str, Any] | None = None,
        stored: Mapping[Sweep, Baseline | None] | None = None,
        journal: ResumeStore | None = None,
        began: float | None = None,
        interruptions: tuple[type[Exception], ...] = (),
    ) -> None:
        self.options = options
        self.catalog = catalog
        self.hardware = dict(hardware or {})
        self._family, self._stored, self._journal = family, stored, journal
        self._interruptions = interruptions
        self._over: dict[Sweep, SweepOutcome] = {}
        self._measuring: dict[Sweep, _Measuring] = {}
        self.cache = feature_cache(options)
        self._references = References(self.cache)
        self._clock = time.perf_counter() if began is None else began
        self.started = datetime.now(UTC) - timedelta(seconds=time.perf_counter() - self._clock)

    def measure(self, sweep: Sweep, taps: Sequence[Tap], progress: Progress | None = None) -> SweepOutcome:
        """Measure one sweep and judge its cases. Failures end up in the outcome; interruptions pass through."""
        if (known := self._over.get(sweep)) is not None:
            return known  # pytest comes back to a sweep when items were reordered, as --ff does
        if (recalled := self.recall(sweep)) is not None:
            return recalled
        measuring = self._measuring[sweep] = _Measuring(sweep)
        outcome = SweepOutcome(sweep)
        start = time.perf_counter()
        try:
            measuring.baseline = self.baseline(sweep, taps)
            self._measure(measuring, taps, progress)
            self._judge(measuring)
            outcome.complete = True
        except self._interruptions:
            raise
        except Unreachable as error:
            outcome.unreachable = str(error)
        except ProbebenchError as error:
            outcome.error = f"{type(error).__name__}: {error}"
        except Exception as error:
            # Not one of probebench's own errors: out of memory, or a bug. The explanation needs its traceback, once.
            outcome.error = f"{type(error).__name__}: {error}"
            outcome.traceback = traceback.format_exc()
        finally:
            measuring.wall_seconds = time.perf_counter() - start
        self.take(self._describe(outcome, measuring))
        del self._measuring[sweep]
        return outcome

    def _measure(self, measuring: _Measuring, taps: Sequence[Tap], progress: Progress | None) -> None:
        """Measure a sweep; once more with features on the host if memory runs out while they are on the device."""
        options, sweep = self.options, measuring.sweep
        model, dataset = self.catalog.model(sweep.model), self.catalog.dataset(sweep.dataset)
        prepared = prepare(
            model,
            dataset,
            protocol=get_protocol(sweep.protocol),
            taps=taps,
            clean=self.catalog.clean(dataset),
            reference=self.catalog.reference(model),
            weights=options.weights.get(sweep.model),
            device=options.device,
            progress=progress,
        )
        self._refuse_duplicates(prepared.dataset, prepared.duplicates)
        plan = self._plan(prepared, options.device_memory)
        try:
            self._extract_and_probe(measuring, prepared, plan, progress)
            return
        except RuntimeError as error:
            if plan.mode != "device" or not out_of_memory(error):
                raise
        # Outside of the except block, where the error would keep the features on the device.
        self._extract_and_probe(measuring, prepared, self._plan(prepared, 0), progress)

    def _refuse_duplicates(self, dataset: DatasetSpec, found: Duplicates) -> None:
        """Raise DataError for duplicates that a strict run does not accept."""
        note = found.note(dataset)
        if self.options.strict and note is not None and note.severity == "warning":
            raise DataError(note.text)

    def _plan(self, prepared: PreparedSweep, device_memory: int | None) -> SweepPlan:
        options = self.options
        return prepared.plan(memory=options.memory, device_memory=device_memory, cache=self.cache, jobs=options.jobs)

    def _extract_and_probe(
        self, measuring: _Measuring, prepared: PreparedSweep, plan: SweepPlan, progress: Progress | None
    ) -> None:
        settings = prepared.settings(plan, self.options.batch_size, progress)
        result = SweepResult.begin(prepared, plan)
        passes = prepared.passes(plan)
        for group in passes:
            features = extract(prepared, group, settings, self.cache)
            result.add_extraction(features)
            if not result.taps:
                result.duplicates = find_equal_pixels(prepared, features)
                result.near_duplicates = find_near_duplicates(prepared, features)
                self._refuse_duplicates(result.dataset, result.duplicates)
            if result.shift_distance is None:
                result.shift_distance = measure_shift(features.test, prepared, self._references, settings)
            measuring.result = result  # from here on an interruption keeps the taps that have finished
            for found in probe(prepared, plan, features, progress=progress):
                result.taps[found.tap] = found
            if group is not passes[-1]:
                del features  # before the next ones are there
        for found in combine(prepared, plan, features, settings, self.cache, result.taps, progress):
            result.taps[found.tap] = found

    def stop(self, sweep: Sweep, error: str) -> SweepOutcome:
        """Count a sweep as failed, because something outside has stopped it; keep its finished taps.

        Args:
            error: why, in one line
        """
        if (known := self._over.get(sweep)) is not None:
            return known
        outcome = SweepOutcome(sweep, error=error, stopped=True)
        if (measuring := self._measuring.pop(sweep, None)) is not None:
            self._describe(outcome, measuring)
        self.take(outcome)
        return outcome

    def take(self, outcome: SweepOutcome) -> None:
        """Add a finished sweep, wherever it was measured."""
        self._over[outcome.sweep] = outcome
        if self._journal is not None:
            self._journal.keep(outcome)

    def recall(self, sweep: Sweep) -> SweepOutcome | None:
        """Take over a sweep that an earlier run has finished, if `--probe-resume` is on and there is one."""
        found = self._journal.recall(sweep) if self._journal is not None else None
        if found is not None:
            found.recalled = True
            self.take(found)
        return found

    def over(self, sweep: Sweep) -> SweepOutcome | None:
        """The outcome of a sweep; None if it has not finished."""
        return self._over.get(sweep)

    def outcomes(self) -> list[SweepOutcome]:
        """The outcomes of all sweeps so far, including unfinished ones, some taps of which may have finished."""
        return [*self._over.values(), *self.unfinished()]

    def unfinished(self) -> list[SweepOutcome]:
        """The outcomes of sweeps that were interrupted."""
        return [self._describe(SweepOutcome(sweep), measuring) for sweep, measuring in self._measuring.items()]

    def sort(self, order: Iterable[Sweep]) -> None:
        """Bring the finished sweeps into an order."""
        self._over = {sweep: self._over.pop(sweep) for sweep in order if sweep in self._over} | self._over

    def baseline(self, sweep: Sweep, taps: Sequence[Tap]) -> Baseline | None:
        """The baseline that a sweep is compared with; None if nothing is stored.

        Raises:
            StoreError: if it is damaged, and not about to be replaced
        """
        if self._stored is not None:
            return self._stored[sweep]
        # A damaged baseline is replaced only if all of it is measured again and --probe-update=all is given.
        whole = set(taps) >= set(all_taps(self.catalog.model(sweep.model).depth))
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

    def _describe(self, outcome: SweepOutcome, measured: _Measuring) -> SweepOutcome:
        """Fill in the measured taps, their verdicts, and notes."""
        result = measured.result
        if result is None or not result.taps:
            return outcome
        if measured.judgements is None:
            self._judge(measured)
        assert measured.judgements is not None
        sweep = outcome.sweep
        accepted = self._becomes_baseline(sweep, result, measured.baseline)
        outcome.record = sweep_record(sweep, result, measured.wall_seconds)
        for tap in sorted(result.taps):
            entry = case_record(sweep, result, tap, measured.judgements[tap])
            outcome.cases.append(entry)
            outcome.correct[entry["id"]] = result.taps[tap].correct
            if (complaint := self._complaint(Case(sweep, tap), result, measured.judgements[tap], accepted)) is not None:
                outcome.complaints[entry["id"]] = complaint
        outcome.record["selection"] = select_tap(outcome.cases, outcome.correct)
        poolings = compare_poolings(outcome.cases, outcome.correct, result.model.depth, result.protocol.pooling)
        if poolings:
            outcome.record["poolings"] = poolings
        outcome.record["contrasts"] = compare_places(outcome.cases, outcome.correct, result.model.depth)
        outcome.notes += result.notes
        reasons = [each.reason for each in measured.judgements.values() if each.verdict == "not comparable"]
        if reasons and self.options.update is None and not self.options.strict:  # --probe-strict fails each case
            command = baselines.update_command(sweep, result.model, "all", self.options.tests)
            cases = f"{counted(len(reasons), 'case')} of {sweep.id} {'was' if len(reasons) == 1 else 'were'}"
            text = f"{cases} not compared with the baseline: {reasons[0]}. To store a new one: {command}"
            outcome.notes.append(Note("warning", text))
        if measured.baseline is not None:
            stale = (tap for tap in sorted(measured.baseline.correct) if not tap.exists(result.model.depth))
            outcome.stale = [f"{sweep.id}-{tap.id}" for tap in stale]
        return outcome

    def _becomes_baseline(self, sweep: Sweep, result: SweepResult, old: Baseline | None) -> bool:
        """Return whether what a sweep measured replaces its baseline, so that no case of it can have regressed."""
        if self.options.update != "all":
            return False
        try:
            baselines.merge(old, baseline_of(sweep, result), result.model, "all")
        except StoreError:  # it is told when the baseline is to be written
            return False
        return True

    def _complaint(self, case: Case, result: SweepResult, judgement: Judgement, accepted: bool) -> str | None:
        """Explain why a measured case fails; None if it passes."""
        accuracy = result.taps[case.tap].accuracy
        if judgement.verdict == "regressed" and not accepted:
            assert judgement.baseline_accuracy is not None
            task, before = TASKS[result.dataset.task], judgement.baseline_accuracy
            return (
                f"regressed: {case.sweep.model} on {case.sweep.dataset} at {case.tap.id}: "
                f"{'accuracy ' if task.percent else ''}{task.text(accuracy)}, baseline {task.text(before)} "
                f"({task.points(accuracy - before)}; {task.moved(judgement.lost, judgement.gained)}, "
                f"p = {judgement.p_value:.1e})"
            )
        if self.options.strict and self.options.update is None and judgement.verdict in ("new", "not comparable"):
            how = "new" if judgement.verdict == "new" else "all"
            why = f" ({judgement.reason})" if judgement.reason else ""
            return (
                f"{judgement.verdict}: {case.id} has no baseline to be compared with{why}. To store one: "
                f"{baselines.update_command(case.sweep, result.model, how, self.options.tests)}"
            )
        return None

    def record(self, command: Sequence[str], interrupted: bool, withheld: Sequence[WithheldRecord] = ()) -> Record:
        """Make the run record of all that was measured so far, including unfinished sweeps.

        Args:
            command: the command line of the run
            withheld: entries of the sweeps that were skipped because something is not on this machine, see
                `probebench.reporting.availability.skipped_entries`
        """
        outcomes = self.outcomes()
        sweeps = [outcome.record for outcome in outcomes if outcome.record is not None]
        record = run_record.run_record(
            hardware=hardware(sorted({sweep["device"] for sweep in sweeps})),
            started=self.started,
            duration=time.perf_counter() - self._clock,
            command=list(command),
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
