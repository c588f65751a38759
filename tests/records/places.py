"""A record of the sites that are compared in pairs on three datasets, with the bits of which test images were right."""

from __future__ import annotations

from probebench.records.cases import group_by_sweep, key_of
from probebench.records.contrasts import compare_places
from probebench.records.tap_selection import select_tap
from tests.records.samples import right, stored

DEPTH = 6
SHIFTS = {"clean": "none", "more": "none", "far": "strong"}


def taps(dataset):
    """Which of a thousand test images are right: ``act`` is ahead on ``far`` only, by 80; ``ln2`` never
    by more than 3."""
    found = {"output": right(600, lost=20, gained=20)}
    ahead = 80 if dataset == "far" else 0
    for layer in range(1, DEPTH + 1):
        # The last block is worse than the one before it on ``far``.
        block = 500 + 20 * min(layer, 5) - (40 if dataset == "far" and layer == DEPTH else 0)
        found[f"L{layer:02d}-rc2"] = right(block)
        found[f"L{layer:02d}-act"] = right(block + ahead, lost=10, gained=10)
        found[f"L{layer:02d}-ln2"] = right(block + 3, lost=10, gained=10)
    return found


def placed(datasets=tuple(SHIFTS), **changes):
    """A run of the model ``net``, six blocks deep, with contrasts."""
    run = stored({("net", name): taps(name) for name in datasets}, **changes)
    for case in run.record["cases"]:
        # Held-out images prefer the fifth block of each site.
        case["held_out_accuracy"] = case["accuracy"] + (0.05 if case["layer"] == 5 else 0)
        case |= {"width_matched": None, "metrics": {}}
    cases = group_by_sweep(run.record["cases"])
    for sweep in run.record["sweeps"]:
        sweep |= {"depth": DEPTH, "shift": SHIFTS[sweep["dataset"]]}
        sweep["selection"] = select_tap(cases[key_of(sweep)], run.correct)
        sweep["contrasts"] = compare_places(cases[key_of(sweep)], run.correct, DEPTH)
    return run
