"""Which tap is chosen, and which taps are tied with it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from probebench.records import run_record
from probebench.records.tap_selection import select_tap, with_selections
from probebench.records.view import RecordView
from tests.records.samples import N, right, stored
from tests.records.valid import validate

NET = ("net", "digits")


def run(taps, held_out=None, **changes):
    return stored({NET: taps}, held_out=held_out, **changes)


def selection(taps, held_out=None, **changes):
    found = run(taps, held_out, **changes)
    return select_tap(found.record["cases"], found.correct)


def test_the_tap_is_chosen_on_held_out_images_and_compared_on_test():
    taps = {"L01-act": right(700), "L02-act": right(700, lost=60), "L02-rc2": right(705), "final": right(700, 5, 3)}
    found = selection(taps, {"L01-act": 0.8, "L02-act": 0.7, "L02-rc2": 0.7, "final": 0.75})
    assert found == {
        "tap": "L01-act",
        "by": "held_out",
        "score": 0.8,
        "accuracy": 0.7,
        "best": "L02-rc2",
        "optimism": pytest.approx(0.005),
        "tied": ["L02-rc2", "final"],
        "worse": 1,
        "better": 0,
        "level": 0.05,
    }


def test_without_held_out_images_it_is_chosen_on_test():
    found = selection({"L01-act": right(700), "final": right(800)})
    assert (found["tap"], found["by"], found["score"], found["optimism"]) == ("final", "test", 0.8, 0.0)


def test_what_is_better_on_test_than_the_chosen_tap_is_counted():
    found = selection({"L01-act": right(700), "final": right(800)}, {"L01-act": 0.9, "final": 0.1})
    assert (found["tap"], found["better"], found["worse"], found["tied"]) == ("L01-act", 1, 0, [])
    assert found["optimism"] == pytest.approx(0.1)


def test_equal_scores_go_to_the_first_tap_and_not_to_the_better_on_test():
    taps = {"final": right(900), "L02-act": right(800), "L01-rc2": right(700)}
    assert selection(taps, dict.fromkeys(taps, 0.5))["tap"] == "L01-rc2"
    # Of equals on test the chosen one is the best: choosing it cost nothing.
    found = selection({"L01-act": right(700), "L02-act": right(700)}, {"L01-act": 0.1, "L02-act": 0.2})
    assert (found["best"], found["optimism"]) == ("L02-act", 0.0)


def two_sided(chosen, other):
    lost, gained = np.sum(chosen & ~other), np.sum(~chosen & other)
    return binomtest(int(lost), int(lost + gained)).pvalue if lost + gained else 1.0


def test_ties_are_two_sided_mcnemar_with_holm_over_all_other_taps():
    rng = np.random.default_rng(0)
    difficulty = rng.random(N)
    taps = {f"L{i:02d}-act": difficulty + rng.normal(0, 0.15, N) < 0.6 + rng.normal(0, 0.04) for i in range(1, 41)}
    held_out = {tap: rng.random() for tap in taps}
    found = selection(taps, held_out)
    chosen = max(held_out, key=held_out.get)
    others = [tap for tap in taps if tap != chosen]
    p_values = [two_sided(taps[chosen], taps[tap]) for tap in others]
    order = np.argsort(p_values)
    adjusted = np.maximum.accumulate((len(others) - np.arange(len(others))) * np.array(p_values)[order])
    rejected = adjusted[np.argsort(order)] <= 0.05
    assert found["tap"] == chosen
    assert found["tied"] == [tap for tap, no in zip(others, rejected, strict=True) if not no]
    worse = [taps[tap].sum() < taps[chosen].sum() for tap, no in zip(others, rejected, strict=True) if no]
    assert (found["worse"], found["better"]) == (sum(worse), len(worse) - sum(worse))
    assert min(found["worse"], found["better"], len(found["tied"])) > 0
    # Holm matters here: some that are tied would not be on their own.
    assert any(p < 0.05 for p, no in zip(p_values, rejected, strict=True) if not no)


def over_draws(before, now):
    cases = [
        {"id": "a", "layer": 1, "site": "act", "accuracy": before.mean(), "held_out_accuracy": 0.9},
        {"id": "b", "layer": 2, "site": "act", "accuracy": now.mean(), "held_out_accuracy": 0.1},
    ]
    return select_tap(cases, {"a": before, "b": now})


def test_several_draws_are_compared_image_by_image():
    before = np.tile(right(700), (3, 1))
    now = before.copy()
    now[0, :40] = False  # one draw lost on each of 40 images,
    now[:, 980:] = True  # and all three won on 20: in all 20 more right, and yet more images are lost
    assert binomtest(20, 60).pvalue < 0.05
    found = over_draws(before, now)
    assert (found["worse"], found["better"], found["tied"]) == (1, 0, [])
    now[0, 20:40] = True
    assert over_draws(before, now)["tied"] == ["L02-act"]


def test_without_bits_nothing_is_said_of_ties():
    found = selection({"L01-act": right(700), "final": right(100)}, bits=False)
    assert (found["tap"], found["tied"], found["worse"], found["better"]) == ("L01-act", None, None, None)


def test_a_tap_without_bits_is_in_no_group():
    one = run({"L01-act": right(700), "L02-act": right(697), "final": right(100)})
    cases, correct = one.record["cases"], dict(one.correct)
    del correct["net-digits-final"]
    found = select_tap(cases, correct)
    assert (found["tied"], found["worse"], found["better"]) == (["L02-act"], 0, 0)
    del correct["net-digits-L01-act"]
    assert select_tap(cases, correct)["tied"] is None


def test_taps_without_bits_count_in_the_family():
    taps = {f"L{i:02d}-act": right(700) for i in range(1, 51)} | {"final": right(700, lost=8)}
    one = run(taps, {tap: 0.9 if tap == "L01-act" else 0.1 for tap in taps})
    assert 0.05 / 50 < binomtest(0, 8).pvalue < 0.05
    correct = {name: one.correct[name] for name in ("net-digits-L01-act", "net-digits-final")}
    assert select_tap(one.record["cases"], correct)["tied"] == ["final"]


def test_one_tap_is_alone_and_none_is_nothing():
    found = selection({"final": right(700)})
    assert (found["tied"], found["worse"], found["best"]) == ([], 0, "final")
    assert select_tap([], {}) is None


def equal_taps(by_test, sweeps=200, taps=98, n=899):
    """Share of sweeps of equally good taps in which any is called different from the chosen one."""
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(sweeps):
        correct = {f"{i}": rng.random(n) < 0.6 for i in range(1, taps + 1)}
        cases = [
            {"id": name, "layer": int(name), "site": "act", "accuracy": bits.mean()}
            | {"held_out_accuracy": None if by_test else rng.random()}
            for name, bits in correct.items()
        ]
        wrong += len(select_tap(cases, correct)["tied"]) < taps - 1
    return wrong / sweeps


def test_of_equal_taps_none_is_called_different_unless_the_tap_was_chosen_on_the_same_images():
    assert equal_taps(by_test=False) <= 0.05
    assert equal_taps(by_test=True) > 0.2


def test_the_selection_fits_the_schema_and_survives_a_file(tmp_path):
    one = run({"L01-act": right(700), "final": right(700, 3)})
    record = with_selections(one.record, one.correct)
    validate(record)
    run_record.save(record, tmp_path / "run.json", one.correct)
    assert run_record.load(tmp_path / "run.json")["sweeps"] == record["sweeps"]
    assert "selection" not in one.record["sweeps"][0]


def test_only_what_lacks_a_selection_gets_one():
    one = stored({NET: {"final": right(700)}, ("other", "digits"): {"final": right(700)}})
    one.record["sweeps"][0]["selection"] = None
    record = with_selections(one.record, one.correct)
    assert record["sweeps"][0]["selection"] is None
    assert record["sweeps"][1]["selection"]["tied"] == []
    assert with_selections(record, {}) is record


def test_a_record_without_selections_still_says_what_is_chosen():
    one = run({"L01-act": right(700), "final": right(600)})
    assert RecordView(one.record).by_key[NET].selection["tap"] == "L01-act"
    assert RecordView(one.record).by_key[NET].selection["tied"] is None
    assert RecordView(with_selections(one.record, one.correct)).by_key[NET].selection["tied"] == []
