"""A record of several poolings and a combination on three datasets, with the bits of which test images were right."""

from __future__ import annotations

from probebench.catalog.taps import Tap
from probebench.records.cases import group_by_sweep, key_of
from probebench.records.poolings import compare_poolings
from probebench.records.tap_selection import select_tap
from tests.records.samples import right, stored

DEPTH = 6
SHIFTS = {"clean": "none", "more": "none", "far": "strong"}
PAIR = {"members": ["L05-act", "L06-rc2.cls"], "best_member": "L06-rc2.cls"}


def taps(dataset, sign=1):
    """Which of a thousand test images are right: ``cls`` loses in early layers, and gains the more the deeper they are.

    In the middle layers of ``far`` it gains 3 images only.
    """
    found = {}
    for layer in range(1, DEPTH + 1):
        for site, more in (("act", 4), ("rc2", 0)):
            count = 400 + 40 * layer + more
            gain = sign * {1: -60, 2: -60, 3: 40, 4: 40, 5: 90, 6: 90}[layer]
            gain = 3 if dataset == "far" and layer in (3, 4) else gain
            found[f"L{layer:02d}-{site}"] = right(count)
            # 20 images change sides in each direction, whatever the gain is.
            found[f"L{layer:02d}-{site}.cls"] = right(count + gain, lost=20, gained=20)
    found |= {"final": right(630), "final.cls": right(690, lost=20, gained=20)}
    found |= {"output": found["final.cls"], "pair": right(750)}
    return found


def pooled(dataset_names=tuple(SHIFTS), sign=1, **changes):
    """A run of the model ``net``, whose pooling is the mean over tokens."""
    run = stored({("net", name): taps(name, sign) for name in dataset_names}, **changes)
    for case in run.record["cases"]:
        tap = Tap.parse(case["id"].split("-", 2)[2])
        if tap.pooling:
            case["pooling"] = tap.pooling
        case |= {"held_out_accuracy": case["accuracy"] - 0.02, "width_matched": None, "metrics": {}}
        if tap.layer == "pair":
            best = next(c for c in run.record["cases"] if c["id"] == f"net-{case['dataset']}-{PAIR['best_member']}")
            gain = case["accuracy"] - best["accuracy"]
            case["combination"] = PAIR | {"gain": gain, "p_value": 0.4, "tried": 8}
    cases = group_by_sweep(run.record["cases"])
    for sweep in run.record["sweeps"]:
        own = cases[key_of(sweep)]
        sweep |= {"depth": DEPTH, "shift": SHIFTS[sweep["dataset"]], "same_as": {"output": "final.cls"}}
        sweep["selection"] = select_tap(own, run.correct)
        sweep["poolings"] = compare_poolings(own, run.correct, DEPTH, "mean")
    return run
