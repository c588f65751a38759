"""Ranks, gains, and the choice of the best tap."""

from __future__ import annotations

import pytest

from probebench.records.cases import metric_interval, metric_value
from probebench.records.ranking import best_taps, choose, optimism, rank, selection_score


def case(layer, site, accuracy, held_out=None, model="net", dataset="data"):
    return {
        "model": model,
        "dataset": dataset,
        "layer": layer,
        "site": site,
        "accuracy": accuracy,
        "held_out_accuracy": held_out,
    }


def record(*cases):
    sweeps = dict.fromkeys((c["model"], c["dataset"]) for c in cases)
    return {
        "sweeps": [{"model": m, "dataset": d, "depth": 2, "control_of": None} for m, d in sweeps],
        "cases": list(cases),
    }


RECORD = record(
    case("embed", "embed", 0.5),
    case(1, "act", 0.9),
    case(1, "rc2", 0.8),
    case(2, "act", 0.9),
    case(2, "rc2", 0.7),
    case("final", "final", 0.72),
    case("output", "output", 0.75),
    case(1, "act", 0.3, model="other"),
)


def test_ranks_go_by_accuracy_and_ties_to_the_tap_met_first():
    rows = rank(RECORD)["data"]
    assert [(row.rank, row.case["model"], row.tap.id) for row in rows[:4]] == [
        (1, "net", "L01-act"),
        (1, "net", "L02-act"),
        (3, "net", "L01-rc2"),
        (4, "net", "output"),
    ]


def test_gains_are_against_the_same_models_references():
    rows = {(row.case["model"], row.tap.id): row for row in rank(RECORD)["data"]}
    best, other = rows["net", "L01-act"], rows["other", "L01-act"]
    assert (best.gain_output, best.gain_rc2) == (pytest.approx(0.15), pytest.approx(0.2))
    assert (other.gain_output, other.gain_rc2) == (None, None)


def test_the_best_tap_is_chosen_on_held_out_images_where_there_are_some():
    assert selection_score(case(1, "act", 0.9, held_out=0.7)) == 0.7
    assert selection_score(case(1, "act", 0.9)) == 0.9


def test_of_equals_on_held_out_images_the_tap_met_first_is_chosen_whatever_is_better_on_test():
    cases = [
        case("final", "final", 0.9, 0.7),
        case(2, "act", 0.8, 0.7),
        case(2, "ln2", 0.5, 0.7),
        case(1, "act", 0.9, 0.6),
    ]
    assert choose(cases) is cases[2]
    (row,) = best_taps(rank(record(*cases)))
    assert row.case is cases[2]
    assert optimism(record(*cases)) == pytest.approx(0.4)


def test_each_models_best_tap_on_each_dataset():
    cases = [*RECORD["cases"], case(2, "rc2", 0.4, model="other"), case(1, "act", 0.2, dataset="hard")]
    found = [(row.case["model"], row.case["dataset"], row.tap.id) for row in best_taps(rank(record(*cases)))]
    assert found == [("net", "data", "L01-act"), ("other", "data", "L02-rc2"), ("net", "hard", "L01-act")]


def test_metrics_are_read_from_their_place_and_from_the_former_one():
    nll = {"value": 0.7, "ci95": [0.6, 0.8]}
    new = {"metrics": {"top5": None, "mean_per_class": {"value": 0.5, "ci95": [0.4, 0.6]}, "nll": nll, "ece": None}}
    assert (metric_value(new, "nll"), metric_interval(new, "nll")) == (0.7, [0.6, 0.8])
    assert metric_value(new, "top5") is metric_interval(new, "top5") is None
    both = new | {"mean_per_class": 0.1}
    assert (metric_value(both, "mean_per_class"), metric_interval(both, "mean_per_class")) == (0.5, [0.4, 0.6])
    assert metric_value({"mean_per_class": 0.1}, "mean_per_class") == 0.1
    assert metric_interval({"mean_per_class": 0.1}, "mean_per_class") is None
    assert metric_value({}, "mean_per_class") is None


def test_optimism_is_what_choosing_on_test_would_add():
    easy = [case(1, "act", 0.9, 0.6), case(2, "act", 0.8, 0.7)]
    hard = [case(1, "act", 0.5, 0.5, dataset="hard"), case(2, "act", 0.4, 0.4, dataset="hard")]
    assert optimism(record(*easy, *hard)) == pytest.approx(0.05)
    assert optimism(RECORD) is None
