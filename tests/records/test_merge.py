from __future__ import annotations

import copy

import numpy as np
import pytest

from probebench.errors import ProbebenchError, UnknownName
from probebench.records.merge import merge
from probebench.records.tap_selection import select_tap
from probebench.reporting.terminal import leaderboard
from tests.records.samples import right, stored
from tests.records.valid import validate

NET, OTHER = ("net", "digits"), ("other", "digits")


def accuracies(record):
    return {case["id"]: case["accuracy"] for case in record["cases"]}


def test_cases_of_different_sweeps_and_of_one_sweep_are_joined():
    a = stored({NET: {"L01-act": right(700)}}, "a.json", hours=1)
    b = stored({NET: {"L02-act": right(600)}, OTHER: {"final": right(500)}}, "b.json", weights="a" * 16)
    before = copy.deepcopy(a.record)
    record, correct = merge([a, b])
    assert a.record == before
    assert accuracies(record) == {"net-digits-L02-act": 0.6, "other-digits-final": 0.5, "net-digits-L01-act": 0.7}
    assert len(record["sweeps"]) == 2
    assert all(np.array_equal(correct[name], (a.correct | b.correct)[name]) for name in accuracies(record))
    assert [source["name"] for source in record["merged"]] == ["b.json", "a.json"]
    assert (record["images"], record["images_per_second"], record["duration_seconds"]) == (200, 200.0, 20.0)
    assert record["started"] == b.record["started"]
    validate(record)
    assert "net" in leaderboard.render(record, level="full", width=80, color=False, ascii_only=True)


@pytest.mark.parametrize("turn", [1, -1], ids=["old first", "new first"])
def test_the_newer_of_two_measurements_of_a_case_counts(turn):
    old = stored({NET: {"final": right(700), "embed": right(100)}}, hours=1)
    new = stored({NET: {"final": right(701)}}, hours=2)
    record, correct = merge([old, new][::turn])
    assert accuracies(record) == {"net-digits-final": 0.701, "net-digits-embed": 0.1}
    assert correct["net-digits-final"].sum() == 701


def test_bits_of_an_older_run_do_not_stand_for_a_newer_one():
    _, correct = merge(
        [stored({NET: {"final": right(700)}}), stored({NET: {"final": right(701)}}, hours=1, bits=False)]
    )
    assert correct == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fingerprint": "0" * 16},
            f"fingerprint of protocol default@2 differs: {'f' * 16} in a.json, {'0' * 16} in b",
        ),
        ({"test_set": "1" * 16}, f"test set of digits differs: {'b' * 16} in a.json, {'1' * 16} in b.json"),
        ({"weights": "2" * 16}, f"weights digest of net differs: {'a' * 16} in a.json, .* in b.json.*compare"),
        ({"protocol": "paper@1"}, r"default@2 .a.json., paper@1 .b.json.. Pick one with --protocol"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_does_not_belong_together_is_refused_with_both_names(changes, message):
    a = stored({NET: {"final": right(700)}}, "a.json")
    b = stored({NET: {"embed": right(700)}}, "b.json", hours=1, **changes)
    with pytest.raises(ProbebenchError, match=message):
        merge([a, b])


def test_a_protocol_can_be_picked():
    a = stored({NET: {"final": right(700)}})
    b = stored({NET: {"final": right(600)}}, hours=1, protocol="paper@1", fingerprint="0" * 16, weights="c" * 16)
    assert accuracies(merge([a, b], "paper@1")[0]) == {"net-digits-final": 0.6}
    assert accuracies(merge([a, b], "default@2")[0]) == {"net-digits-final": 0.7}
    with pytest.raises(UnknownName, match="Did you mean 'paper@1'"):
        merge([a, b], "paper@2")


def test_a_failure_is_forgotten_when_a_newer_run_measured_the_sweep():
    failed = [{"sweep": "net-digits", "error": "e"}, {"sweep": "net-birds", "error": "e"}]
    broken = stored({OTHER: {"final": right(1)}}, failures=failed)
    whole = stored({NET: {"final": right(700)}}, hours=1)
    assert [f["sweep"] for f in merge([broken, whole])[0]["failures"]] == ["net-birds"]
    again = stored({OTHER: {"final": right(1)}}, hours=2, failures=failed[:1])
    assert [f["sweep"] for f in merge([whole, again])[0]["failures"]] == ["net-digits"]


def test_a_merged_record_merges_again():
    one, two, three = (stored({NET: {f"L0{i}-act": right(500 + i)}}, f"{i}.json", hours=i) for i in (1, 2, 3))
    both = merge([one, two])[0]
    record, _ = merge([type(one)("both.json", both), three])
    assert [source["name"] for source in record["merged"]] == ["1.json", "2.json", "3.json"]
    assert len(record["cases"]) == 3


# The chosen tap


def selection(record, sweep=0):
    return record["sweeps"][sweep]["selection"]


def test_a_sweep_of_several_runs_is_selected_anew_and_compared_by_all_bits():
    held_out = {"L01-act": 0.8, "L02-act": 0.9, "final": 0.7}
    a = stored({NET: {"L01-act": right(700), "final": right(700, 60)}}, held_out=held_out)
    b = stored({NET: {"L02-act": right(705)}}, hours=1, held_out=held_out)
    for run in (a, b):
        run.record["sweeps"][0]["selection"] = select_tap(run.record["cases"], run.correct)
    found = selection(merge([a, b])[0])
    assert (found["tap"], found["tied"], found["worse"]) == ("L02-act", ["L01-act"], 1)
    validate(merge([a, b])[0])


def test_of_a_sweep_of_several_runs_without_all_bits_as_much_is_said_as_is_known():
    held_out = {"L01-act": 0.8, "L02-act": 0.9, "final": 0.7}
    parts = {"L01-act": right(700), "final": right(700, 60)}
    b = stored({NET: {"L02-act": right(705)}}, hours=1, held_out=held_out)
    found = selection(merge([stored({NET: parts}, held_out=held_out, bits=False), b])[0])
    assert (found["tap"], found["tied"], found["worse"], found["better"]) == ("L02-act", [], 0, 0)
    b = stored({NET: {"L02-act": right(705)}}, hours=1, held_out=held_out, bits=False)
    found = selection(merge([stored({NET: parts}, held_out=held_out), b])[0])
    assert (found["tap"], found["tied"]) == ("L02-act", None)


def test_what_one_run_says_of_its_own_sweep_stays_without_bits():
    a = stored({NET: {"L01-act": right(700), "final": right(700, 60)}}, bits=False)
    said = a.record["sweeps"][0]["selection"] = select_tap(a.record["cases"], {}) | {"tied": ["final"], "worse": 0}
    b = stored({OTHER: {"final": right(500)}}, hours=1)
    record, _ = merge([a, b])
    assert selection(record, 0) == said
    assert selection(record, 1)["tied"] == []
    # A newer run of a part of it makes it a sweep of two runs.
    record, _ = merge([a, stored({NET: {"final": right(702)}}, hours=1)])
    assert (selection(record)["tap"], selection(record)["tied"]) == ("final", [])


def test_older_records_get_a_selection_from_their_bits():
    taps = {"L01-act": right(700), "final": right(699)}
    record, _ = merge([stored({NET: taps})])
    assert selection(record)["tied"] == ["final"]


def test_what_was_withheld_everywhere_is_kept_as_the_newest_run_says():
    def lacking(model, cases):
        return {"model": model, "cases": cases, "lacks": "343 MB", "command": f"probebench fetch {model}"}

    a = stored({NET: {"final": right(600)}}, withheld=[lacking("big", 98), lacking("other", 98)])
    b = stored({OTHER: {"final": right(600)}}, hours=1, withheld=[lacking("big", 196), lacking("net", 98)])
    record, _ = merge([a, b])
    assert record["withheld"] == [lacking("big", 196)]
    validate(record)
