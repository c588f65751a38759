from __future__ import annotations

import pytest

from probebench.records.view import RecordView
from tests.records.samples import right, stored
from tests.reporting.html.records import full


def contents(record):
    return RecordView(record, "")


def test_sweeps_come_with_their_cases_in_the_order_of_the_data():
    first = contents(full()).sweeps[0]
    assert (first.model, first.dataset, first.depth, first.shift) == ("net", "easy", 4, "none")
    ids = [tap.id for tap in first.rows]
    assert ids[:3] == ["embed", "L01-ln1", "L01-mha"]
    assert ids[-2:] == ["final", "output"]
    assert len(ids) == 35


def test_the_recorded_selection_counts():
    sweep = contents(full()).by_key["net", "easy"]
    assert sweep.chosen.tap.id == "L03-act"
    assert sweep.selection["tied"] == ["L03-fc2", "L03-rc2", "L04-act", "final"]


def test_without_one_the_tap_is_chosen_on_held_out_images_and_nothing_is_said_of_ties():
    held_out = {"L01-act": 0.9, "L02-act": 0.5}
    record = stored({("net", "d"): {"L01-act": right(600), "L02-act": right(700)}}, held_out=held_out).record
    (sweep,) = contents(record).sweeps
    assert sweep.selection == {
        "tap": "L01-act",
        "by": "held_out",
        "score": 0.9,
        "accuracy": 0.6,
        "best": "L02-act",
        "optimism": pytest.approx(0.1),
        "tied": None,
        "worse": None,
        "better": None,
        "level": 0.05,
    }


def test_without_held_out_images_it_is_chosen_on_test():
    record = stored({("net", "d"): {"L01-act": right(600), "L02-act": right(700)}}).record
    (sweep,) = contents(record).sweeps
    assert (sweep.selection["tap"], sweep.selection["by"], sweep.selection["optimism"]) == ("L02-act", "test", 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda selection, cases: selection.update(tap="L09-act"),  # a tap that another run measured
        lambda selection, cases: cases["L01-act"].update(held_out_accuracy=0.99),  # a better one that another run has
        lambda selection, cases: cases["L01-act"].update(accuracy=0.99),
    ],
)
def test_a_selection_of_other_cases_is_not_believed(change):
    record = full()
    sweep = record["sweeps"][0]
    cases = {f"L{c['layer']:02d}-{c['site']}": c for c in record["cases"][1:33]}
    change(sweep["selection"], cases)
    assert contents(record).by_key["net", "easy"].selection["tied"] is None


def test_a_control_follows_its_model():
    groups = contents(full()).datasets
    assert [sweep.model for sweep in groups["easy"]] == ["net", "net_random", "net_tuned"]
    assert [sweep.model for sweep in groups["hard"]] == ["net", "net_random"]


def test_what_is_known_about_images_is_said_once_for_all_models():
    record = stored({(model, "d"): {"L01-act": right(600)} for model in ("net", "other")}).record
    assert (contents(record).data_notes, contents(record).sweeps[0].leaked) == ([], 0)
    for sweep in record["sweeps"]:
        sweep["data_notes"] = ["images of d: left out 1 other file (a.txt)", "images of d: 2 are in train"]
        sweep["duplicates"] = {"test_in_train": 2}
    assert contents(record).data_notes == record["sweeps"][0]["data_notes"]
    assert [sweep.leaked for sweep in contents(record).sweeps] == [2, 2]
