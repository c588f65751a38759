"""Convert the result of a sweep to entries of the run record and to a baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from probebench.records.baselines import Baseline
from probebench.records.types import (
    CaseRecord,
    CombinationRecord,
    ContrastRecord,
    DistanceRecord,
    DuplicatesRecord,
    EstimateRecord,
    MetricsRecord,
    NearDuplicatesRecord,
    NoDistanceRecord,
    PlanRecord,
    PoolingRecord,
    SelectionRecord,
    SweepRecord,
    WidthMatchedRecord,
)

if TYPE_CHECKING:
    from probebench.catalog.cases import Sweep
    from probebench.catalog.taps import Tap
    from probebench.datasets.duplicates import Duplicates
    from probebench.measure.result import SweepResult
    from probebench.metrics import Estimate, Metrics
    from probebench.probes.evaluate import Combination, WidthMatched
    from probebench.records.verdicts import Judgement


def case_record(sweep: Sweep, result: SweepResult, tap: Tap, judgement: Judgement) -> CaseRecord:
    """Make the record's entry of one case."""
    measured = result.taps[tap]
    entry: CaseRecord = {
        "id": f"{sweep.id}-{tap.id}",
        "model": sweep.model,
        "dataset": sweep.dataset,
        "layer": tap.layer,
        "site": tap.site,
        "protocol": sweep.protocol,
        "fingerprint": result.protocol.fingerprint,
        "width": measured.width,
        "n_train": result.n_train,
        "n_test": result.n_test,
        "draws": measured.draws,
        "accuracy": measured.accuracy,
        "ci95": list(measured.ci95),
        "metrics": {
            "top5": _estimate(measured.metrics.top5),
            "mean_per_class": _estimate(measured.metrics.mean_per_class),
            "nll": _estimate(measured.metrics.nll),
            "ece": _estimate(measured.metrics.ece),
            **_errors(measured.metrics),
        },
        "width_matched": None if measured.width_matched is None else _width_matched(measured.width_matched),
        "verdict": judgement.verdict,
        "baseline_accuracy": judgement.baseline_accuracy,
        "lost": judgement.lost,
        "gained": judgement.gained,
        "p_value": judgement.p_value,
        "seconds": measured.seconds,
        "iterations": measured.iterations,
        "C": measured.C,
        "gap": measured.gap,
        "held_out_accuracy": measured.held_out_accuracy,
    }
    if tap.pooling:
        entry["pooling"] = tap.pooling
    if measured.combination is not None:
        entry["combination"] = _combination(measured.combination)
    if (linear := measured.linear) is not None:
        entry["linear"] = {"accuracy": linear.accuracy, "ci95": list(linear.ci95), "p_value": linear.p_value}
    return entry


def _combination(made: Combination) -> CombinationRecord:
    return {
        "members": [tap.id for tap in made.members],
        "best_member": None if made.best_member is None else made.best_member.id,
        "gain": made.gain,
        "p_value": made.p_value,
        "tried": made.tried,
    }


def _errors(metrics: Metrics) -> MetricsRecord:
    """Return the metrics that only real-valued targets have."""
    if metrics.rmse is None and metrics.mae is None:
        return {}
    return {"rmse": _estimate(metrics.rmse), "mae": _estimate(metrics.mae)}


def _estimate(estimate: Estimate | None) -> EstimateRecord | None:
    return None if estimate is None else {"value": estimate.value, "ci95": list(estimate.ci95)}


def _width_matched(matched: WidthMatched) -> WidthMatchedRecord:
    return {"width": matched.width, "accuracy": matched.accuracy.value, "ci95": list(matched.accuracy.ci95)}


class _Optional(TypedDict, total=False):
    """The keys of a sweep's entry that not every sweep has."""

    tuned_from: str
    plan: PlanRecord
    shift_distance: DistanceRecord | NoDistanceRecord
    selection: SelectionRecord | None
    duplicates: DuplicatesRecord
    near_duplicates: NearDuplicatesRecord
    data_notes: list[str]
    same_as: dict[str, str]
    poolings: list[PoolingRecord]
    contrasts: list[ContrastRecord]


def sweep_record(sweep: Sweep, result: SweepResult, wall_seconds: float) -> SweepRecord:
    """Make the record's entry of one sweep, without its selection."""
    tuned: _Optional = {} if result.model.tuned_from is None else {"tuned_from": result.model.tuned_from}
    planned: _Optional = {} if result.plan is None else {"plan": result.plan.to_json()}
    if result.shift_distance is not None:
        planned["shift_distance"] = result.shift_distance.to_json()
    images: _Optional = {}
    if result.same_as:
        images["same_as"] = {tap.id: same.id for tap, same in result.same_as.items()}
    if result.duplicates or result.duplicates.dropped:
        images["duplicates"] = _duplicates(result.duplicates)
    if (near := result.near_duplicates) is not None:
        images["near_duplicates"] = {
            "cosine": near.cosine,
            "tap": near.tap.id,
            "test_near_train": near.test_near_train,
        }
    if notes := result.notes_on_images:
        images["data_notes"] = [note.text for note in notes]
    return {
        "model": sweep.model,
        "dataset": sweep.dataset,
        "trained_on": result.trained_on,
        "protocol": sweep.protocol,
        "depth": result.model.depth,
        "control_of": result.model.control_of,
        **tuned,
        "shift": result.dataset.shift,
        **planned,
        "metric": result.dataset.metric,
        "weights": result.weights_digest,
        "test_set": result.test_set,
        "images": result.images,
        "extract_seconds": result.extract_seconds,
        "wall_seconds": wall_seconds,
        "device": result.device,
        "precision": result.protocol.precision,
        "batch_size": result.batch_size,
        "seed": result.protocol.seed,
        **images,
    }


def _duplicates(found: Duplicates) -> DuplicatesRecord:
    return {
        "test_in_train": found.test_in_train,
        "within_train": found.within_train,
        "within_test": found.within_test,
        "two_labels": found.two_labels,
        "dropped": found.dropped,
        "examples": {kind: list(names) for kind, names in found.examples.items()},
    }


def baseline_of(sweep: Sweep, result: SweepResult) -> Baseline:
    """Make a baseline of the result of a sweep."""
    correct = {tap: tap_result.correct for tap, tap_result in result.taps.items()}
    fingerprint, weights = result.protocol.fingerprint, result.weights_digest
    return Baseline(sweep, fingerprint, result.test_set, result.n_test, weights, correct)
