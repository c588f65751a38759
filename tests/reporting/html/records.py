"""Records for the report: one with everything that a record can have, and one of any number of cases."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import numpy as np

from probebench.catalog.taps import SITES, Tap
from probebench.stats import wilson
from tests.records.samples import N, right, stored

DEPTH = 4
TAPS = ["embed", *(f"L{layer:02d}-{site}" for layer in range(1, DEPTH + 1) for site in SITES), "final", "output"]
NAMES = [("net", "easy"), ("net", "hard"), ("net_random", "easy"), ("net_random", "hard"), ("net_tuned", "easy")]


def count(model, dataset, tap_id):
    """How many of N test images are right, of any case: deeper is better, `act` is best in the middle."""
    tap = Tap.parse(tap_id)
    depth = {"embed": 0, "final": DEPTH, "output": DEPTH}.get(tap.layer, tap.layer)
    value = (
        (290 if tap.layer == "output" else 300) + 100 * depth + 7 * (SITES.index(tap.site) if tap.site in SITES else 0)
    )
    if tap.site == "act" and depth == 3:
        value += 180
    if dataset == "hard":
        value = value // 2 + (90 if tap.site == "act" else 0)
    return value // 3 if model == "net_random" else value + (20 if model == "net_tuned" else 0)


def full(**changes):
    """A copy of the record below, with some of its fields replaced."""
    return deepcopy(_full()) | changes


@cache
def _full():
    """A record with a regression, an improvement, a failure, all optional fields and 5 sweeps of 35 taps.

    `net` is pretrained, `net_random` its control, `net_tuned` another model.
    """
    sweeps = {name: {tap: right(count(*name, tap)) for tap in TAPS} for name in NAMES}
    record = stored(sweeps, held_out={tap: count("net", "easy", tap) / N - 0.05 for tap in TAPS}).record
    for sweep in record["sweeps"]:
        sweep["depth"] = DEPTH
        sweep["control_of"] = "net" if sweep["model"] == "net_random" else None
        sweep["shift"] = "strong" if sweep["dataset"] == "hard" else "none"
        sweep["trained_on"] = sweep["dataset"]
        sweep["shift_distance"] = (
            {"unavailable": "no reference set for net_tuned"}
            if sweep["model"] == "net_tuned"
            else {"measure": "kid", "reference": "pretraining", "standard_error": 0.004}
            | {"value": 0.31 if sweep["dataset"] == "hard" else 0.012}
        )
        best = max(TAPS, key=lambda tap, s=sweep: count(s["model"], s["dataset"], tap))
        accuracy = count(sweep["model"], sweep["dataset"], "L03-act") / N
        sweep["selection"] = (
            {"tap": "L03-act", "by": "held_out", "score": 0.75, "accuracy": accuracy, "best": best}
            | {"optimism": count(sweep["model"], sweep["dataset"], best) / N - accuracy, "level": 0.05}
            | {"tied": ["L03-fc2", "L03-rc2", "L04-act", "final"], "worse": 29, "better": 1}
        )
    for case in record["cases"]:
        accuracy, ci95 = case["accuracy"], case["ci95"]
        case["verdict"], case["baseline_accuracy"], case["p_value"] = "same", accuracy, 1.0
        case["draws"] = 1
        case["metrics"] = {
            "top5": {"value": min(1.0, accuracy + 0.1), "ci95": ci95},
            "mean_per_class": {"value": accuracy - 0.01, "ci95": ci95},
            "nll": {"value": 1.2345 - accuracy, "ci95": [0.1, 1.3]},
            "ece": {"value": 0.042, "ci95": [0.03, 0.05]},
        }
        wide = case["site"] in ("fc1", "act")
        case["width"] = 32 if wide else 8
        case["width_matched"] = {"width": 8, "accuracy": accuracy - 0.025, "ci95": ci95} if wide else None
        # Held-out images choose L03-act everywhere.
        case["held_out_accuracy"] = 0.75 if (case["layer"], case["site"]) == (3, "act") else accuracy / 2
    moved = {case["id"]: case for case in record["cases"]}
    moved["net-easy-L02-rc2"].update(verdict="regressed", baseline_accuracy=0.6, lost=60, gained=9, p_value=1.5e-10)
    moved["net-hard-L04-act"].update(verdict="improved", baseline_accuracy=0.35, lost=3, gained=40, p_value=2e-9)
    moved["net-easy-L01-ln1"].update(baseline_accuracy=0.398, lost=5, gained=7, p_value=0.39)
    moved["net_tuned-easy-final"].update(verdict="new", baseline_accuracy=None, p_value=None)
    record["failures"] = [
        {"sweep": "net_tuned-hard", "error": "RuntimeError: out of memory\nTraceback: line 1\nline 2"}
    ]
    record["stale"] = ["net-easy-L05-act"]
    record["withheld"] = [
        {
            "model": "vit_b16",
            "cases": 2156,
            "lacks": "343 MB + 11 datasets 8.3 GB",
            "command": "probebench fetch vit_b16",
        }
    ]
    return record


def large(models, datasets, depth=12):
    """A record of ``models * datasets * (8 * depth + 3)`` cases; every second one is a control."""
    taps = ["embed", *(f"L{layer:02d}-{site}" for layer in range(1, depth + 1) for site in SITES), "final", "output"]
    record = stored({("m", "d"): {tap: right(500) for tap in taps}}).record
    (sweep,), cases = record["sweeps"], record["cases"]
    rng = np.random.default_rng(0)
    intervals = [list(wilson(count, N)) for count in range(N + 1)]
    sweeps, every = [], []
    for m in range(models):
        base = f"vit_{m // 2:02d}"
        model, control = (f"{base}_random", base) if m % 2 else (base, None)
        for d in range(datasets):
            dataset = f"dataset_{d:02d}"
            sweeps.append(
                sweep | {"model": model, "dataset": dataset, "control_of": control, "shift": ("none", "strong")[d % 2]}
            )
            start = rng.integers(100, 300)
            for case in cases:
                layer = case["layer"] if isinstance(case["layer"], int) else depth
                right_now = int((start + 500 * layer / depth + rng.integers(0, 60)) / (3 if control else 1))
                baseline = right_now + int(rng.integers(-4, 5))
                tap = Tap(case["layer"], case["site"]).id
                every.append(
                    case
                    | {"id": f"{model}-{dataset}-{tap}", "model": model, "dataset": dataset, "accuracy": right_now / N}
                    | {"ci95": intervals[right_now], "verdict": "same", "baseline_accuracy": baseline / N}
                    | {"held_out_accuracy": max(0.0, right_now / N - 0.02), "p_value": 0.5, "seconds": 0.123}
                )
    return record | {"sweeps": sweeps, "cases": every}
