"""What wins as datasets lie farther from the pretraining data."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import spearmanr

from probebench.records.ranking import rank
from probebench.records.trends import Trend, shift_trends, spearman, unavailable_distances
from probebench.reporting.sentences import trend_title, trends_line, unavailable_lines
from probebench.reporting.tables import trend_table

DISTANCES = {"far": 0.3, "near": 0.01, "middle": 0.12}
# On held-out images; accuracies on test are 10 points lower, and act of layer 1 is by far the best there.
HELD_OUT = {
    "near": {(4, "ln2"): 0.9, (3, "act"): 0.8, (1, "act"): 0.7, (4, "rc2"): 0.85, ("output", "output"): 0.88},
    "middle": {(4, "ln2"): 0.7, (3, "act"): 0.75, (1, "act"): 0.6, (4, "rc2"): 0.6, ("output", "output"): 0.6},
    "far": {(4, "ln2"): 0.5, (2, "act"): 0.7, (1, "act"): 0.6, (4, "rc2"): 0.4, ("output", "output"): 0.4},
}


def record(distances=DISTANCES, measure="kid", reference="imagenet", model="net"):
    sweeps, cases = [], []
    for name, value in distances.items():
        found = value if isinstance(value, dict) else {"measure": measure, "reference": reference, "value": value}
        if "unavailable" not in found:
            found = found | {"standard_error": 0.004}
        sweeps.append({"model": model, "dataset": name, "depth": 4, "control_of": None, "shift": "none"})
        sweeps[-1]["shift_distance"] = found
        for (layer, site), held_out in HELD_OUT.get(name, HELD_OUT["near"]).items():
            accuracy = 0.99 if (layer, site) == (1, "act") else held_out - 0.1
            cases.append({"model": model, "dataset": name, "layer": layer, "site": site, "accuracy": accuracy})
            cases[-1]["held_out_accuracy"] = held_out
    return {"sweeps": sweeps, "cases": cases}


def of(some):
    return shift_trends(some, rank(some))


def test_datasets_by_growing_distance_with_what_was_chosen_on_held_out_images():
    (found,) = of(record())
    assert trend_title(found) == "net: what wins as shift grows (distance: KID to imagenet)"
    assert trend_table(found) == (
        ["dataset", "distance", "tap", "depth %", "act", "ln2", "rc2", "vs output"],
        [
            ["near", "0.0100 ± 0.0040", "L04-ln2", "100", "70.0", "80.0", "75.0", "+2.0"],
            ["middle", "0.1200 ± 0.0040", "L03-act", "75", "65.0", "60.0", "50.0", "+15.0"],
            ["far", "0.3000 ± 0.0040", "L02-act", "50", "60.0", "40.0", "30.0", "+30.0"],
        ],
    )


def test_trends_of_depth_of_act_over_ln2_and_of_the_gain():
    (found,) = of(record())
    assert found.trends == [
        Trend("depth of the chosen tap", 3, pytest.approx(-1), pytest.approx(2 / 6)),
        Trend("best act minus best ln2", 3, pytest.approx(1), pytest.approx(2 / 6)),
        Trend("gain of the chosen tap over output", 3, pytest.approx(1), pytest.approx(2 / 6)),
    ]
    assert trends_line(found) == (
        "Spearman's rank correlation with distance: depth of the chosen tap -1.00 (n = 3, p = 0.33); best act minus "
        "best ln2 +1.00 (n = 3, p = 0.33); gain of the chosen tap over output +1.00 (n = 3, p = 0.33). n is small: "
        "with 3 datasets only a strong trend can be distinguished from chance."
    )


def test_of_ten_datasets_it_is_not_said_that_they_are_few():
    (found,) = of(record({f"d{i}": i / 10 for i in range(10)}))
    assert "n is small" not in trends_line(found)
    assert "depth of the chosen tap: undefined, as 10 values are too few or all equal" in trends_line(found)


def test_what_was_not_measured_is_left_open():
    some = record()
    some["cases"] = [c for c in some["cases"] if c["site"] != "rc2" and (c["site"], c["dataset"]) != ("output", "far")]
    (found,) = of(some)
    assert [(d.accuracy["rc2"], d.gain is None) for d in found.datasets] == [(None, False), (None, False), (None, True)]
    assert [(trend.n, trend.rho is None) for trend in found.trends] == [(3, False), (3, False), (2, True)]


def test_reference_taps_have_a_depth():
    some = record()
    for case in some["cases"]:
        if case["site"] == "output" and case["dataset"] == "near":
            case["held_out_accuracy"] = 1.0
        if case["dataset"] == "far" and case["layer"] == 1:
            case |= {"layer": "embed", "site": "embed", "held_out_accuracy": 1.0}
    (found,) = of(some)
    assert [(d.tap.id, d.depth) for d in found.datasets] == [("output", 1.0), ("L03-act", 0.75), ("embed", 0.0)]


def test_other_poolings_and_combinations_can_be_chosen_and_leave_the_sites_alone():
    some = record()
    for name, more in (
        ("near", {"layer": 1, "site": "act", "pooling": "cls"}),
        ("far", {"layer": "pair", "site": "pair", "combination": {"members": ["L03-act", "L01-ln2.cls"]}}),
    ):
        some["cases"].append({"model": "net", "dataset": name, "accuracy": 0.95, "held_out_accuracy": 0.99} | more)
    (found,) = of(some)
    assert [(d.tap.id, d.depth) for d in found.datasets] == [("L01-act.cls", 0.25), ("L03-act", 0.75), ("pair", 0.75)]
    assert [d.accuracy["act"] for d in found.datasets] == pytest.approx([0.7, 0.65, 0.6])


@pytest.mark.parametrize(
    "some",
    [
        record({"near": 0.1, "far": 0.2}),
        record({"near": 0.1, "far": 0.2, "middle": {"unavailable": "no reference"}}),
        {"cases": record()["cases"], "sweeps": [s | {"control_of": "other"} for s in record()["sweeps"]]},
        {
            "cases": record()["cases"],
            "sweeps": [{k: v for k, v in s.items() if k != "shift_distance"} for s in record()["sweeps"]],
        },
    ],
    ids=["two", "unavailable", "control", "older record"],
)
def test_fewer_than_three_distances_and_controls_have_no_table(some):
    assert of(some) == []


def test_distances_to_different_references_are_not_mixed():
    other = {"measure": "kid", "reference": "laion", "value": 0.5}
    assert of(record({"near": 0.1, "middle": 0.2, "far": other})) == []
    (found,) = of(record(DISTANCES | {"extra": other}))
    assert (found.reference, len(found.datasets)) == ("imagenet", 3)


def test_each_reason_why_a_distance_is_missing_is_said_once():
    some = record({"near": {"unavailable": "no reference set"}, "middle": 0.1, "far": {"unavailable": "one image"}})
    for name in ("a", "b"):
        some["sweeps"].append(some["sweeps"][0] | {"dataset": name})
    some["sweeps"].append(some["sweeps"][0] | {"model": "control", "control_of": "net"})
    assert unavailable_lines(unavailable_distances(some)) == [
        "No distance for net on near, net on a and 1 more: no reference set",
        "No distance for net on far: one image",
    ]


# Spearman


def by_counting(x, y):
    observed = abs(spearmanr(x, y).statistic)
    found = [abs(spearmanr(x, order).statistic) >= observed - 1e-12 for order in permutations(y)]
    return np.mean(found)


@pytest.mark.parametrize("y", [[3, 1, 2, 5, 4], [1, 1, 2, 2, 3], [5, 4, 3, 2, 1], [0, 0, 0, 0, 1]])
def test_small_samples_are_counted_out_also_with_ties(y):
    x = [0.1, 0.2, 0.2, 0.7, 0.9]
    rho, p = spearman(x, y)
    assert rho == pytest.approx(spearmanr(x, y).statistic)
    assert p == pytest.approx(by_counting(x, y))


def test_nine_are_counted_out_and_ten_are_scipys():
    rng = np.random.default_rng(0)
    for n in (9, 10):
        x, y = rng.normal(size=n), rng.normal(size=n)
        rho, p = spearman(list(x), list(y))
        theirs = spearmanr(x, y)
        assert rho == pytest.approx(theirs.statistic)
        assert (p == pytest.approx(theirs.pvalue, abs=1e-12)) == (n == 10)
        assert p == pytest.approx(theirs.pvalue, abs=0.02)
    assert spearman(list(range(9)), list(range(9)))[1] == pytest.approx(2 / 362_880)


@pytest.mark.parametrize(("x", "y"), [([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [2, 2, 2])])
def test_too_few_or_all_alike_have_no_correlation(x, y):
    assert spearman(x, y) == (None, None)
