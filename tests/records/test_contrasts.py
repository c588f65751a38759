"""Places in a network compared in pairs, in one sweep and over datasets."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from probebench.records.contrasts import CONTRASTS, compare_places, contrast_answers, with_contrasts
from probebench.records.merge import merge
from probebench.records.view import RecordView
from probebench.reporting.contrasts import contrast_lines
from probebench.stats import discordant, paired_interval
from tests.records.places import DEPTH, placed
from tests.records.samples import right, stored
from tests.records.valid import validate


def found(run, dataset):
    (sweep,) = [sweep for sweep in run.record["sweeps"] if sweep["dataset"] == dataset]
    return {each["contrast"]: each for each in sweep["contrasts"]}


def cases(run, dataset):
    return [case for case in run.record["cases"] if case["dataset"] == dataset]


def test_a_site_stands_for_the_layer_that_held_out_images_choose():
    assert {name: (each["tap"], each["over"]) for name, each in found(placed(), "far").items()} == {
        "chosen over output": ("L05-act", "output"),
        "rc2 over last rc2": ("L05-rc2", "L06-rc2"),
        "act over rc2": ("L05-act", "L05-rc2"),
        "ln2 over rc2": ("L05-ln2", "L05-rc2"),
        "act over ln2": ("L05-act", "L05-ln2"),
    }


def test_gains_are_paired_by_test_image():
    run = placed()
    for each in found(run, "far").values():
        before, now = (run.correct[f"net-far-{each[side]}"] for side in ("over", "tap"))
        lost, gained = int(np.count_nonzero(before & ~now)), int(np.count_nonzero(~before & now))
        assert each["gain"] == pytest.approx((gained - lost) / len(now))
        assert each["ci95"] == pytest.approx(paired_interval(*discordant(before, now), len(now)))
        assert each["p_value"] == pytest.approx(binomtest(lost, lost + gained).pvalue)


def test_holm_goes_over_the_contrasts_of_the_sweep():
    ordered = sorted(found(placed(), "far").values(), key=lambda each: each["p_value"])
    assert [each["differs"] for each in ordered] == [
        each["p_value"] <= 0.05 / (len(ordered) - rank) for rank, each in enumerate(ordered)
    ]
    assert {each["differs"] for each in ordered} == {True, False}


def test_other_poolings_take_no_part_but_may_be_chosen():
    run = placed(["far"])
    best = next(case for case in run.record["cases"] if case["id"] == "net-far-L05-act")
    other = best | {"id": "net-far-L05-act.cls", "pooling": "cls", "held_out_accuracy": 0.99}
    bits = {**run.correct, other["id"]: right(700)}
    contrasts = {each["contrast"]: each["tap"] for each in compare_places([*cases(run, "far"), other], bits, DEPTH)}
    assert contrasts["chosen over output"] == "L05-act.cls"
    assert contrasts["act over rc2"] == "L05-act"


def test_gains_at_equal_width_are_those_of_narrow_probes():
    run = placed(["clean", "more"])
    for case in run.record["cases"]:
        if case["site"] == "act":
            narrow = {"width": 8, "accuracy": case["accuracy"] - 0.05, "ci95": case["ci95"]}
            case |= {"width": 32, "width_matched": narrow}
    for sweep in run.record["sweeps"]:
        sweep["contrasts"] = compare_places(cases(run, sweep["dataset"]), run.correct, DEPTH)
    each = found(run, "clean")["act over rc2"]
    assert each["gain_equal_width"] == pytest.approx(each["gain"] - 0.05)
    each = found(run, "clean")["ln2 over rc2"]
    assert each["gain_equal_width"] == each["gain"]
    (answer,) = contrast_answers(run.record)
    act = next(each for each in answer.contrasts if each.name == "act over ln2")
    assert act.equal_width == pytest.approx(act.gain.value - 0.05)
    assert ", -5.3 at equal width" in contrast_lines(RecordView(run.record))[0]
    run.record["sweeps"][0]["contrasts"][-1]["gain_equal_width"] = None
    (answer,) = contrast_answers(run.record)
    assert answer.contrasts[-1].equal_width is None


def test_what_was_not_measured_or_has_no_bits_is_left_out():
    run = placed()
    without_ln2 = [case for case in cases(run, "far") if case["site"] != "ln2"]
    names = [each["contrast"] for each in compare_places(without_ln2, run.correct, DEPTH)]
    assert names == ["chosen over output", "rc2 over last rc2", "act over rc2"]
    assert compare_places(cases(run, "far"), {}, DEPTH) == []
    assert compare_places([], {}, DEPTH) == []


@pytest.mark.parametrize("layer", [5, 6])
def test_one_block_is_not_compared_with_itself(layer):
    run = placed()
    own = [case for case in cases(run, "far") if case["site"] == "rc2" and case["layer"] == layer]
    assert compare_places(own, run.correct, DEPTH) == []


def test_contrasts_are_in_the_schema():
    validate(placed().record)


def test_older_records_get_them_from_their_bits():
    run = placed()
    bare = run.record | {"sweeps": [{k: v for k, v in s.items() if k != "contrasts"} for s in run.record["sweeps"]]}
    assert with_contrasts(bare, run.correct) == run.record
    assert with_contrasts(bare, {}) == bare
    assert with_contrasts(run.record, {}) == run.record


def test_a_sweep_of_two_runs_is_compared_again():
    whole = placed(["far"])

    def part(keep, hours):
        run = placed(["far"], hours=hours)
        run.record["cases"] = [case for case in run.record["cases"] if keep(case)]
        run.record["sweeps"][0]["contrasts"] = []
        return run

    record, correct = merge([part(lambda c: c["site"] != "ln2", 0), part(lambda c: c["site"] == "ln2", 1)])
    assert record["sweeps"][0]["contrasts"] == whole.record["sweeps"][0]["contrasts"]
    assert len(correct) == len(whole.correct)


# Over datasets


def test_datasets_of_one_shift_are_averaged_and_counted():
    run = placed()
    clean, far = contrast_answers(run.record)
    assert [(each.model, each.shift, {c.datasets for c in each.contrasts}) for each in (clean, far)] == [
        ("net", "none", {2}),
        ("net", "strong", {1}),
    ]
    assert [each.name for each in far.contrasts] == list(CONTRASTS)
    of = {each.name: each for each in far.contrasts}
    alone = found(run, "far")["act over ln2"]
    assert (of["act over ln2"].gain.value, of["act over ln2"].gain.p_value) == (alone["gain"], alone["p_value"])
    assert [of[name].better for name in ("rc2 over last rc2", "act over ln2", "ln2 over rc2")] == [1, 1, 0]
    assert all(each.better == each.worse == 0 for each in clean.contrasts if each.name != "chosen over output")


def test_holm_goes_over_all_means_of_the_model():
    answers = contrast_answers(placed().record)
    flat = sorted((c for each in answers for c in each.contrasts), key=lambda c: c.gain.p_value)
    assert {each.family for each in answers} == {len(flat)} == {10}
    rejected = True
    for rank, each in enumerate(flat):
        rejected = rejected and each.gain.p_value <= 0.05 / (len(flat) - rank)
        assert each.differs == rejected


def test_controls_have_no_answer():
    run = placed()
    for sweep in run.record["sweeps"]:
        sweep["control_of"] = "other"
    assert contrast_answers(run.record) == []
    assert contrast_answers(stored({("net", "a"): {"L01-act": right(1)}}).record) == []
