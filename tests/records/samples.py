"""Run records made by hand, with the bits of which test examples were right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from probebench.catalog.taps import Tap
from probebench.measure.environment import hardware
from probebench.records import run_record
from probebench.records.merge import Stored
from probebench.stats import wilson

N = 1000
FINGERPRINT = "f" * 16
START = datetime(2026, 1, 1, tzinfo=UTC)


def right(count, lost=0, gained=0):
    """`count` of N right; then some of them lost, and some of the others gained."""
    correct = np.arange(N) < count
    correct[:lost] = False
    correct[N - gained :] = True
    return correct


def stored(
    sweeps,
    name="run.json",
    *,
    hours=0,
    protocol="default@2",
    fingerprint=FINGERPRINT,
    weights="a" * 16,
    test_set="b" * 16,
    held_out=None,
    bits=True,
    **changes,
):
    """A run: ``{(model, dataset): {tap id: bool array}}``, started `hours` after another.

    Args:
        held_out: accuracy on held-out images by tap id
        bits: whether it is known which test examples were right
    """
    sweep_records, cases, correct = [], [], {}
    for (model, dataset), taps in sweeps.items():
        sweep_records.append(
            {"model": model, "dataset": dataset, "protocol": protocol, "depth": 12, "control_of": None}
            | {"shift": "none", "weights": weights, "test_set": test_set, "images": 100, "extract_seconds": 0.5}
            | {"wall_seconds": 1.0, "device": "cpu", "precision": "fp32", "seed": 0}
        )
        for tap_id, values in taps.items():
            tap, case_id, count = Tap.parse(tap_id), f"{model}-{dataset}-{tap_id}", int(values.sum())
            correct[case_id] = values
            cases.append(
                {"id": case_id, "model": model, "dataset": dataset, "layer": tap.layer, "site": tap.site}
                | {"protocol": protocol, "fingerprint": fingerprint, "width": 8, "n_train": 500, "n_test": len(values)}
                | {"accuracy": count / len(values), "ci95": list(wilson(count, len(values))), "verdict": "new"}
                | {"baseline_accuracy": None, "lost": 0, "gained": 0, "p_value": None, "seconds": 0.1}
                | {"iterations": 3, "C": 1.0, "gap": None, "held_out_accuracy": (held_out or {}).get(tap_id)}
            )
    record = run_record.run_record(
        hardware=hardware(["cpu"]),
        started=START + timedelta(hours=hours),
        duration=10.0,
        command=["pytest", "benchmarks/"],
        sweeps=sweep_records,
        cases=cases,
        failures=[],
        stale=[],
        interrupted=False,
        alpha=0.01,
        min_drop=0.005,
    )
    return Stored(name, record | changes, correct if bits else {})
