"""Which pooling is best at which depth, and over datasets under which shift."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from probebench.catalog.taps import Tap
from probebench.records.merge import merge
from probebench.records.poolings import compare_poolings, part_of, pooling_answers, pooling_of
from probebench.stats import discordant, paired_interval
from tests.records.pools import DEPTH, pooled
from tests.records.samples import right, stored
from tests.records.valid import validate


def found(run, dataset="clean", key="poolings"):
    (sweep,) = [sweep for sweep in run.record["sweeps"] if sweep["dataset"] == dataset]
    return {(each["part"], each["pooling"]): each for each in sweep[key]}


@pytest.mark.parametrize(
    ("tap", "depth", "part"),
    [
        ("L04-act", 12, "early"),
        ("L05-act.cls", 12, "middle"),
        ("L08-rc2", 12, "middle"),
        ("L09-ln1", 12, "late"),
        ("L01-act", 2, "middle"),
        ("L02-act", 2, "late"),
        ("final.cls", 12, "final"),
        ("embed", 12, None),
        ("output", 12, None),
        ("last4.cls", 12, None),
    ],
)
def test_a_network_has_three_thirds_and_its_final_norm(tap, depth, part):
    assert part_of(Tap.parse(tap), depth) == part


def test_in_each_part_the_tap_of_each_pooling_is_chosen_on_held_out_images():
    run = pooled()
    for case in run.record["cases"]:
        if case["id"].startswith("net-clean-L03-rc2"):
            case["held_out_accuracy"] = 1.0
    cases = [case for case in run.record["cases"] if case["dataset"] == "clean"]
    taps = {(e["part"], e["pooling"]): e["tap"] for e in compare_poolings(cases, run.correct, DEPTH, "mean")}
    assert taps == {
        ("early", "mean"): "L02-act",
        ("early", "cls"): "L02-act.cls",
        ("middle", "mean"): "L03-rc2",
        ("middle", "cls"): "L03-rc2.cls",
        ("late", "mean"): "L06-act",
        ("late", "cls"): "L06-act.cls",
        ("final", "mean"): "final",
        ("final", "cls"): "final.cls",
    }


def test_gains_are_paired_by_test_image():
    run = pooled()
    each = found(run)["late", "cls"]
    before, now = run.correct["net-clean-L06-act"], run.correct["net-clean-L06-act.cls"]
    lost, gained = np.count_nonzero(before & ~now), np.count_nonzero(~before & now)
    assert each["gain"] == pytest.approx((gained - lost) / len(now))
    assert each["ci95"] == pytest.approx(paired_interval(*discordant(before, now), len(now)))
    assert each["p_value"] == pytest.approx(binomtest(int(lost), int(lost + gained)).pvalue)
    plain = found(run)["late", "mean"]
    assert plain["gain"] is plain["ci95"] is plain["p_value"] is plain["differs"] is None


def test_holm_goes_over_all_gains_of_the_sweep():
    run = pooled()
    gains = [each for each in found(run, "far").values() if each["gain"] is not None]
    ordered = sorted(gains, key=lambda each: each["p_value"])
    rejected = [each["p_value"] <= 0.05 / (len(gains) - rank) for rank, each in enumerate(ordered)]
    assert [each["differs"] for each in ordered] == rejected == [True, True, True, False]


def test_a_gain_without_bits_has_no_interval_but_counts_in_the_family():
    run = pooled()
    known = {name: bits for name, bits in run.correct.items() if name in ("net-far-L06-act", "net-far-L06-act.cls")}
    cases = [case for case in run.record["cases"] if case["dataset"] == "far"]
    by_tap = {each["tap"]: each for each in compare_poolings(cases, known, DEPTH, "mean")}
    late, final = by_tap["L06-act.cls"], by_tap["final.cls"]
    assert final["gain"] == pytest.approx(0.06)
    assert final["ci95"] is final["p_value"] is final["differs"] is None
    assert late["differs"] is True
    # A level at which one test alone would reject, but not the first of four.
    strict = compare_poolings(cases, known, DEPTH, "mean", level=2 * late["p_value"])
    assert next(e for e in strict if e["tap"] == "L06-act.cls")["differs"] is False


def test_scores_and_draws_have_an_interval_too():
    rng = np.random.default_rng(0)
    plain, own = rng.random((2, 400)).astype(np.float32)
    cases = [
        {"id": tap, "layer": 1, "site": "act", "accuracy": float(values.mean()), "held_out_accuracy": 0.5} | more
        for tap, values, more in (("a", plain, {}), ("b", own, {"pooling": "cls"}))
    ]
    (_, each) = compare_poolings(cases, {"a": plain, "b": own}, 1, "mean")
    assert each["ci95"][0] < each["gain"] < each["ci95"][1]
    (_, each) = compare_poolings(cases, {"a": plain.reshape(2, 200) > 0.5, "b": own.reshape(2, 200) > 0.5}, 1, "mean")
    assert each["ci95"][0] < 0 < each["ci95"][1]


def test_a_sweep_with_one_pooling_has_no_table():
    run = stored({("net", "a"): {"L01-act": right(700), "final": right(600)}})
    assert compare_poolings(run.record["cases"], run.correct, 12, "mean") == []


def test_the_table_is_in_the_schema():
    validate(pooled().record)


def test_the_pooling_of_a_protocol_is_known_from_the_catalog_or_from_a_sweep():
    assert pooling_of("default@2") == "mean"
    assert pooling_of("paper@1+cls") == "cls"
    assert pooling_of("mine@1") == ""
    assert pooling_of("mine@1", pooled().record["sweeps"]) == "mean"


# Over datasets


def answers(run):
    return {answer.shift: answer for answer in pooling_answers(run.record)}


def test_datasets_of_one_shift_are_averaged_and_a_single_one_keeps_its_exact_test():
    run = pooled()
    of = answers(run)
    assert {shift: (each.model, each.datasets, each.plain) for shift, each in of.items()} == {
        "none": ("net", 2, "mean"),
        "strong": ("net", 1, "mean"),
    }
    late = found(run, "far")["late", "cls"]
    (mine,) = [gain for gain in of["strong"].gains if gain.part == "late"]
    assert (mine.gain, list(mine.ci95), mine.p_value) == (late["gain"], late["ci95"], late["p_value"])
    assert [gain.part for gain in of["none"].gains] == ["early", "middle", "late", "final"]


@pytest.mark.parametrize(("n", "alike"), [(1000, True), (1001, False)])
def test_errors_of_datasets_that_may_share_their_images_add_up_as_one(n, alike):
    run = pooled()
    for case in run.record["cases"]:
        if case["dataset"] == "more":
            case["n_test"] = n
    for sweep in run.record["sweeps"]:
        if sweep["dataset"] == "more":
            for each in sweep["poolings"]:
                if each["pooling"] == "cls":
                    each["gain"], each["ci95"] = 0.1, [0.02, 0.18]
    (late,) = [gain for gain in answers(run)["none"].gains if gain.part == "late"]
    one, other = found(run)["late", "cls"], found(run, "more")["late", "cls"]
    errors = [(each["ci95"][1] - each["ci95"][0]) / 2 / norm.ppf(0.975) for each in (one, other)]
    error = sum(errors) / 2 if alike else sqrt(errors[0] ** 2 + errors[1] ** 2) / 2
    mean = (one["gain"] + 0.1) / 2
    assert late.gain == pytest.approx(mean)
    assert late.ci95 == pytest.approx((mean - norm.ppf(0.975) * error, mean + norm.ppf(0.975) * error))
    assert late.p_value == pytest.approx(2 * norm.sf(mean / error))


def test_holm_goes_over_all_gains_of_the_model():
    of = answers(pooled())
    flat = [gain for each in of.values() for gain in each.gains]
    assert {each.family for each in of.values()} == {len(flat)} == {8}
    for rank, gain in enumerate(sorted(flat, key=lambda gain: gain.p_value)):
        assert gain.differs == (gain.p_value <= 0.05 / (len(flat) - rank))
    assert [(gain.part, gain.differs) for gain in of["strong"].gains] == [
        ("early", True),
        ("middle", False),
        ("late", True),
        ("final", True),
    ]


def test_controls_and_gains_without_an_interval_have_no_answer():
    run = pooled()
    for sweep in run.record["sweeps"]:
        sweep["control_of"] = "other"
    assert pooling_answers(run.record) == []
    run = pooled()
    for sweep in run.record["sweeps"]:
        for each in sweep["poolings"]:
            each["ci95"] = each["p_value"] = None
    assert pooling_answers(run.record) == []


# Merged runs


def test_a_sweep_of_two_runs_is_compared_again_and_keeps_what_is_equal():
    whole = pooled(["clean"])

    def part(keep, hours):
        run = pooled(["clean"], hours=hours)
        run.record["cases"] = [case for case in run.record["cases"] if keep(case)]
        (sweep,) = run.record["sweeps"]
        del sweep["poolings"], sweep["same_as"]
        if any(case["site"] == "output" for case in run.record["cases"]):
            sweep["same_as"] = {"output": "final.cls", "embed.cls": "embed"}
        return run

    first = part(lambda case: "pooling" in case or case["site"] == "output", 0)
    second = part(lambda case: "pooling" not in case and case["site"] != "output", 1)
    record, _ = merge([first, second])
    (sweep,) = record["sweeps"]
    assert sweep["poolings"] == whole.record["sweeps"][0]["poolings"]
    assert sweep["same_as"] == {"output": "final.cls"}  # of taps that the merged record has
