"""Equal taps, combinations and poolings in words."""

from __future__ import annotations

import pytest

from probebench.records.view import RecordView
from probebench.reporting.variants import combination_lines, pooling_lines, same_as_lines
from tests.records.pools import pooled
from tests.reporting.boards import record


def view(run=None):
    return RecordView((run or pooled()).record)


def test_which_pooling_is_better_where_is_said_with_its_interval_or_that_it_is_open():
    about = "95% intervals of one gain each; tests by Holm's procedure over 8 gains of the model."
    early, late, final = (
        "early, mean is better than cls: +6.0 points (+4.1 to +7.9)",
        "late, cls is better than mean: +9.0 points (+6.8 to +11.2)",
        "at final, cls is better than mean: +6.0 points (+4.1 to +7.9)",
    )
    clear = "in the middle, cls is better than mean: +4.0 points (+2.3 to +5.7)"
    open_ = "in the middle, the data do not tell cls from mean: +0.3 points (-1.0 to +1.6)"
    assert pooling_lines(view()) == [
        f"net without shift (2 datasets): {early}; {clear}; {late}; {final}. {about}",
        f"net under strong shift (1 dataset): {early}; {open_}; {late}; {final}. {about}",
    ]


def test_of_several_poolings_the_nearest_is_named():
    run = pooled(["far"])
    (sweep,) = run.record["sweeps"]
    early = [each for each in sweep["poolings"] if each["part"] == "early"]
    sweep["poolings"] = [*early, early[1] | {"pooling": "patch_mean", "gain": -0.03, "ci95": [-0.04, -0.02]}]
    (line,) = pooling_lines(view(run))
    assert "early, mean is better than patch_mean, the next: +3.0 points (+2.0 to +4.0)." in line


@pytest.mark.parametrize(
    ("gain", "p_value", "text"),
    [
        (0.012, 0.003, "is better than L06-rc2.cls alone: +1.2 points, p = 0.003"),
        (0.003, 0.4, "is not distinguishable from L06-rc2.cls alone: +0.3 points, p = 0.4"),
        (-0.02, 0.001, "is worse than L06-rc2.cls alone: -2.0 points, p = 0.001"),
    ],
)
def test_a_pair_is_compared_with_its_best_member(gain, p_value, text):
    run = pooled(["clean"])
    made = next(case["combination"] for case in run.record["cases"] if case["site"] == "pair")
    made |= {"gain": gain, "p_value": p_value}
    assert combination_lines(view(run)) == [
        f"net on clean: the pair L05-act + L06-rc2.cls {text}, found among 8 concatenations."
    ]


def test_the_combinations_of_a_sweep_share_one_error_level():
    run = pooled(["clean"])
    pair = next(case for case in run.record["cases"] if case["site"] == "pair")
    pair["combination"] |= {"gain": 0.01, "p_value": 0.03}
    members = [f"L0{layer}-rc2" for layer in (3, 4, 5, 6)]
    last4 = {"members": members, "best_member": "L06-rc2", "gain": 0.02, "p_value": 0.04, "tried": 1}
    run.record["cases"].append(
        pair | {"id": "net-clean-last4", "layer": "last4", "site": "last4", "combination": last4}
    )
    (line,) = combination_lines(view(run))
    assert line.startswith("net on clean: last4 is not distinguishable from L06-rc2")
    assert "p = 0.04; the pair" in line  # of one there is no number of concatenations
    assert "pair L05-act + L06-rc2.cls is not distinguishable from" in line  # p = 0.03 alone would be enough
    last4 |= {"best_member": None, "gain": None, "p_value": None}
    (line,) = combination_lines(view(run))
    assert "last4 cannot be compared with its members" in line
    assert "the pair L05-act + L06-rc2.cls is better than" in line


def test_equal_taps_are_told_once_a_model():
    assert same_as_lines(view()) == ["net: output equals final.cls up to rounding and was not fitted again."]
    run = pooled()
    run.record["sweeps"][0]["same_as"] = {}
    run.record["sweeps"][1]["same_as"] |= {f"L0{layer}-act.cls": f"L0{layer}-act" for layer in (1, 2, 3)}
    assert same_as_lines(view(run)) == [
        "net on more: output equals final.cls, L01-act.cls equals L01-act and 2 more up to rounding and were not "
        "fitted again.",
        "net on far: output equals final.cls up to rounding and was not fitted again.",
    ]


def test_controls_and_records_without_variants_say_nothing():
    run = pooled()
    for sweep in run.record["sweeps"]:
        sweep["control_of"] = "other"
    for lines in (pooling_lines, combination_lines, same_as_lines):
        assert lines(view(run)) == []
        assert lines(RecordView(record())) == []
