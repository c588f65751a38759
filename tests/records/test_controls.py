"""Gains at equal width, beside a random network, and what survives both."""

from __future__ import annotations

import pytest

from probebench.records.controls import controls
from probebench.records.ranking import rank
from probebench.reporting.sentences import controls_line


def case(model, dataset, layer, site, accuracy, matched=None, width=None, **more):
    width = width or (32 if site == "act" else 8)
    return {
        "model": model,
        "dataset": dataset,
        "layer": layer,
        "site": site,
        "accuracy": accuracy,
        "width": width,
        "width_matched": None if matched is None else {"width": 8, "accuracy": matched, "ci95": [0, 1]},
    } | more


def sweep(model, dataset, shift="none", control_of=None):
    return {"model": model, "dataset": dataset, "depth": 2, "shift": shift, "control_of": control_of}


def record(datasets=("a",), shifts=("none",), random=(0.5, 0.46)):
    """`net` gains 10 points at L01-act, 7 at equal width; its control is at `random`: act at equal width, output."""
    sweeps, cases = [], []
    for dataset, shift in zip(datasets, shifts, strict=True):
        sweeps += [sweep("net", dataset, shift), sweep("net_random", dataset, shift, "net")]
        cases += [
            *(case("net", dataset, 1, "act", 0.9, 0.87), case("net", dataset, "output", "output", 0.8)),
            *(
                case("net_random", dataset, 1, "act", random[0] + 0.02, random[0]),
                case("net_random", dataset, "output", "output", random[1]),
            ),
        ]
    return {"sweeps": sweeps, "cases": cases}


def rows(some):
    return {(row.case["model"], row.tap.id): row for rows in rank(some).values() for row in rows}


def of(some):
    return controls(some, rank(some))


def test_gains_at_equal_width_and_of_the_control():
    act = rows(record())["net", "L01-act"]
    assert act.gain_output == pytest.approx(0.1)
    assert act.gain_equal_width == pytest.approx(0.07)
    assert act.gain_random == pytest.approx(0.04)
    assert act.survived == pytest.approx(0.03)


def test_a_tap_no_wider_than_the_stream_stands_with_its_own_accuracy():
    some = record()
    some["cases"].append(case("net", "a", 2, "rc2", 0.85))
    row = rows(some)["net", "L02-rc2"]
    assert row.gain_equal_width == row.gain_output == pytest.approx(0.05)
    assert (row.gain_random, row.survived) == (None, None)  # the control was not measured there


def test_a_wide_tap_without_the_control_has_no_gain_at_equal_width():
    some = record()
    some["cases"][0]["width_matched"] = None
    assert rows(some)["net", "L01-act"].gain_equal_width is None
    del some["cases"][0]["width_matched"]  # an older record
    assert rows(some)["net", "L01-act"].gain_equal_width is None


def test_an_output_that_the_network_projects_to_less_than_the_stream_counts_with_its_own_accuracy():
    some = record()
    for entry in some["cases"]:
        if entry["site"] == "output":
            entry["width"] = 5
    some["cases"] += [case("net", "a", 2, "rc2", 0.85)]
    found = rows(some)
    assert found["net", "L01-act"].gain_equal_width == pytest.approx(0.07)
    assert found["net", "L02-rc2"].gain_equal_width == pytest.approx(0.05)  # 8 features, as the stream has


def test_an_output_that_is_wider_than_the_stream_counts_at_equal_width():
    some = record()
    for entry in some["cases"]:
        if (entry["model"], entry["site"]) == ("net", "output"):
            entry |= {"width": 16, "width_matched": {"width": 8, "accuracy": 0.78, "ci95": [0, 1]}}
    act = rows(some)["net", "L01-act"]
    assert (act.gain_output, act.gain_equal_width) == (pytest.approx(0.1), pytest.approx(0.09))


def test_without_any_probe_at_equal_width_the_stream_is_as_wide_as_its_own_taps():
    some = {"sweeps": [sweep("net", "a")], "cases": [case("net", "a", "output", "output", 0.8, width=5)]}
    for layer, site, accuracy in ((1, "ln1", 0.85), (1, "act", 0.9), (1, "rc2", 0.7)):
        some["cases"].append(case("net", "a", layer, site, accuracy))
    found = rows(some)
    assert found["net", "L01-ln1"].gain_equal_width == pytest.approx(0.05)
    assert found["net", "L01-act"].gain_equal_width is None


def test_a_tap_with_a_pooling_of_its_own_is_compared_with_the_same_tap_of_the_control():
    some = record()
    some["cases"] += [
        case("net", "a", 1, "act", 0.95, 0.92, pooling="cls"),
        case("net_random", "a", 1, "act", 0.6, 0.56, pooling="cls"),
    ]
    found = rows(some)
    assert found["net", "L01-act.cls"].gain_equal_width == pytest.approx(0.12)
    assert found["net", "L01-act.cls"].gain_random == pytest.approx(0.1)
    assert found["net", "L01-act"].gain_random == pytest.approx(0.04)


def test_a_control_that_loses_takes_nothing_off():
    act = rows(record(random=(0.4, 0.5)))["net", "L01-act"]
    assert act.gain_random == pytest.approx(-0.1)
    assert act.survived == act.gain_equal_width


def test_of_several_controls_the_gain_is_averaged():
    some = record()
    some["sweeps"].append(sweep("seed1", "a", control_of="net"))
    some["cases"] += [case("seed1", "a", 1, "act", 0.5), case("seed1", "a", "output", "output", 0.4)]
    assert rows(some)["net", "L01-act"].gain_random == pytest.approx((0.04 + 0.1) / 2)


def test_another_datasets_and_another_models_control_do_not_count():
    some = record()
    some["sweeps"][1]["control_of"] = "other"
    assert rows(some)["net", "L01-act"].gain_random is None
    some = record(("a", "b"), ("none", "none"))
    some["cases"] = [c for c in some["cases"] if (c["model"], c["dataset"]) != ("net_random", "b")]
    by_dataset = {d: next(r for r in found if r.tap.id == "L01-act") for d, found in rank(some).items()}
    assert by_dataset["a"].gain_random is not None
    assert by_dataset["b"].gain_random is None


def test_the_summary_averages_over_datasets_and_by_shift():
    some = record(("a", "b", "c"), ("none", "strong", "strong"))
    for entry in some["cases"]:
        if (entry["model"], entry["dataset"], entry["site"]) == ("net_random", "c", "act"):
            entry["width_matched"]["accuracy"] = 0.76  # gains 30
    (found,) = of(some)
    assert (found.model, found.datasets) == ("net", 3)
    assert found.gain == pytest.approx(0.1)
    assert found.equal_width == pytest.approx(0.07)
    assert found.random == pytest.approx((0.04 + 0.04 + 0.3) / 3)
    assert found.survived == pytest.approx((0.03 + 0.03 - 0.23) / 3)
    assert found.survived_by_shift == {"none": pytest.approx(0.03), "strong": pytest.approx(-0.1)}
    assert controls_line(found) == (
        "net, 3 datasets: the chosen taps gain +10.0 points over output, +7.0 at equal width; the same taps of the "
        "random control gain +12.7; on average nothing survives both controls (no shift +3.0, strong shift -10.0)."
    )


def test_the_summary_is_over_datasets_that_have_every_control():
    some = record(("a", "b"), ("none", "none"))
    some["cases"] = [c for c in some["cases"] if (c["model"], c["dataset"]) != ("net_random", "b")]
    (found,) = of(some)
    assert found.datasets == 1
    assert controls_line(found) == (
        "net, 1 dataset: the chosen taps gain +10.0 points over output, +7.0 at equal width; the same taps of the "
        "random control gain +4.0; +3.0 of it survives both controls."
    )


@pytest.mark.parametrize(
    ("keep", "text"),
    [
        ("net", "net, 1 dataset: the chosen taps gain +10.0 points over output, +7.0 at equal width."),
        (
            "older",
            "net, 1 dataset: the chosen taps gain +10.0 points over output; the same taps of the random control gain "
            "+6.0.",
        ),
    ],
)
def test_one_control_alone_is_said_alone(keep, text):
    some = record()
    if keep == "net":
        some["cases"] = some["cases"][:2]
    else:
        for entry in some["cases"]:
            del entry["width_matched"]
    (found,) = of(some)
    assert controls_line(found) == text


def test_without_any_control_or_reference_nothing_is_said():
    some = record()
    some["cases"] = [c for c in some["cases"] if c["site"] != "output"]
    assert of(some) == []
    older = record()
    older["cases"] = [{k: v for k, v in c.items() if k != "width_matched"} for c in older["cases"][:2]]
    assert of(older) == []
