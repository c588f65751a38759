"""Convert the result of a sweep to entries of the run record and to a baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probebench.records.baselines import Baseline
from probebench.records.types import Record

if TYPE_CHECKING:
    from probebench.catalog.cases import Sweep
    from probebench.catalog.taps import Tap
    from probebench.measure.result import SweepResult
    from probebench.records.verdicts import Judgement


def case_record(sweep: Sweep, result: SweepResult, tap: Tap, judgement: Judgement) -> Record:
    """Make the record's entry of one case."""
    measured = result.taps[tap]
    return {
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
        "metrics": measured.metrics.to_json(),
        "width_matched": None if measured.width_matched is None else measured.width_matched.to_json(),
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


def sweep_record(sweep: Sweep, result: SweepResult, wall_seconds: float) -> Record:
    """Make the record's entry of one sweep."""
    return {
        "model": sweep.model,
        "dataset": sweep.dataset,
        "trained_on": result.trained_on,
        "protocol": sweep.protocol,
        "depth": result.model.depth,
        "control_of": result.model.control_of,
        **({} if result.model.tuned_from is None else {"tuned_from": result.model.tuned_from}),
        "shift": result.dataset.shift,
        **({} if result.plan is None else {"plan": result.plan.to_json()}),
        **({} if result.shift_distance is None else {"shift_distance": result.shift_distance.to_json()}),
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
    }


def baseline_of(sweep: Sweep, result: SweepResult) -> Baseline:
    """Make a baseline of the result of a sweep."""
    correct = {tap: tap_result.correct for tap, tap_result in result.taps.items()}
    fingerprint, weights = result.protocol.fingerprint, result.weights_digest
    return Baseline(sweep, fingerprint, result.test_set, result.n_test, weights, correct)
