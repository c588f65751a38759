"""Heat maps and charts: what is drawn is what the record says."""

from __future__ import annotations

import re
from math import asinh

import pytest

from probebench.records.view import RecordView
from probebench.reporting.html import heat_map as maps
from probebench.reporting.html import render
from probebench.reporting.html.curves import compare_models, sites_by_depth
from probebench.reporting.html.shift_gain import plots
from probebench.reporting.palette import COLOURS, DASHES
from tests.records.pools import pooled
from tests.records.samples import N, right, stored
from tests.reporting.html.records import count, full

CONTENTS = RecordView(full(), "")
NET = CONTENTS.by_key["net", "easy"]


def points(path):
    return [tuple(map(float, pair.split(","))) for pair in re.findall(r"[-\d.]+,[-\d.]+", path)]


def back(frame, x, y):
    """The values that a place on a chart stands for, by the rule of three."""
    along = (x - frame.left) / (frame.right - frame.left)
    up = (frame.bottom - y) / (frame.bottom - frame.top)
    return frame.x_low + along * (frame.x_high - frame.x_low), frame.y_low + up * (frame.y_high - frame.y_low)


def test_a_heat_map_has_every_case():
    found = maps.heat_map(NET)
    assert found.sites == ["ln1", "mha", "rc1", "ln2", "fc1", "act", "fc2", "rc2"]
    assert [layer for layer, _ in found.layers] == [1, 2, 3, 4]
    for layer, cells in found.layers:
        for site, cell in zip(found.sites, cells, strict=True):
            right_now = count("net", "easy", f"L{layer:02d}-{site}")
            assert cell.text == f"{right_now / 10:.1f}"
            assert cell.step == round((right_now - 400) / (815 - 400) * 8)
            assert cell.chosen == ((layer, site) == (3, "act"))
    assert (found.low, found.high) == ("40.0", "81.5")
    assert [(name, each.text, each.step) for name, each in found.before.items()] == [("embed", "30.0", 0)]
    assert [(name, each.text) for name, each in found.after.items()] == [("final", "70.0"), ("output", "69.0")]
    regressed = found.layers[1][1][7]
    assert regressed.verdict == "regressed"


def test_a_part_of_the_taps_makes_a_part_of_a_map():
    record = stored({("net", "d"): {"L02-act": right(600), "L05-rc2": right(600)}}).record
    found = maps.heat_map(RecordView(record, "").sweeps[0])
    assert found.sites == ["act", "rc2"]
    assert [(layer, [cell and cell.text for cell in cells]) for layer, cells in found.layers] == [
        (2, ["60.0", None]),
        (5, [None, "60.0"]),
    ]
    assert found.before == found.after == {}


def test_lines_and_bands_go_through_accuracies_and_intervals():
    chart = sites_by_depth(NET)
    assert [each.name for each in chart.series] == ["ln1", "mha", "rc1", "ln2", "fc1", "act", "fc2", "rc2"]
    assert len({each.mark for each in chart.series}) == 8
    act = chart.series[5]
    values = [back(chart.frame, *point) for point in points(act.line)]
    expected = [(layer, count("net", "easy", f"L{layer:02d}-act") / N) for layer in (1, 2, 3, 4)]
    assert values == [pytest.approx(pair, abs=0.002) for pair in expected]
    edge = [back(chart.frame, *point)[1] for point in points(act.band)]
    intervals = [NET.rows[tap].case["ci95"] for tap in NET.rows if tap.site == "act"]
    assert edge == pytest.approx([high for _, high in intervals] + [low for low, _ in intervals[::-1]], abs=0.002)
    assert [(level.name, level.score) for level in chart.levels] == [("output", "69.0%"), ("final", "70.0%")]
    for level, expected in zip(chart.levels, (0.69, 0.7), strict=True):
        assert back(chart.frame, 0, level.y)[1] == pytest.approx(expected, abs=0.002)
    output, final = (level.text_y for level in chart.levels)
    assert output - final >= 12  # their names do not overlap
    for tick in chart.y_ticks:
        assert back(chart.frame, 0, tick.at)[1] == pytest.approx(float(tick.label) / 100, abs=0.002)


def test_models_of_a_dataset_share_the_charts_of_its_sites():
    comparison = compare_models(CONTENTS.datasets["easy"])
    assert [(entry.sweep.model, entry.shown) for entry in comparison.entries] == [
        ("net", True),
        ("net_random", True),
        ("net_tuned", True),
    ]
    net, control, tuned = (entry.mark for entry in comparison.entries)
    assert net == control != tuned
    assert [chart.site for chart in comparison.charts] == ["ln1", "mha", "rc1", "ln2", "fc1", "act", "fc2", "rc2"]
    act = comparison.charts[5]
    assert [(each.name, each.control) for each in act.series] == [
        ("net", False),
        ("net_random", True),
        ("net_tuned", False),
    ]
    for each in act.series:
        values = [back(act.frame, *point) for point in points(each.line)]
        expected = [(layer / 4, count(each.name, "easy", f"L{layer:02d}-act") / N) for layer in (1, 2, 3, 4)]
        assert values == [pytest.approx(pair, abs=0.004) for pair in expected]


def test_of_many_models_the_best_are_drawn_with_their_controls():
    sweeps = {}
    for index in range(8):
        sweeps[f"net{index}", "d"] = {"L01-act": right(500 + 10 * index)}
        sweeps[f"net{index}_random", "d"] = {"L01-act": right(100)}
    record = stored(sweeps).record
    for sweep in record["sweeps"]:
        sweep["control_of"] = sweep["model"].removesuffix("_random") if "random" in sweep["model"] else None
    comparison = compare_models(RecordView(record, "").datasets["d"])
    shown = [entry.sweep.model for entry in comparison.entries if entry.shown]
    assert shown == ["net5", "net5_random", "net6", "net6_random", "net7", "net7_random"]


def test_without_layers_there_is_no_chart():
    record = stored({("net", "d"): {"embed": right(600), "final": right(700)}}).record
    contents = RecordView(record, "")
    assert sites_by_depth(contents.sweeps[0]) is None
    assert compare_models(contents.sweeps) is None
    assert maps.heat_map(contents.sweeps[0]).layers == []


def test_gains_are_drawn_against_measured_shift_and_else_against_its_class():
    measured, nominal = plots(CONTENTS)
    assert (measured.model, measured.axis) == ("net", "KID to pretraining")
    assert (nominal.model, nominal.axis) == ("net_tuned", "shift, as the catalog says")
    expected = [(0.012, 12.5), (0.31, 15.2)]
    for point, (distance, gain) in zip(measured.points, expected, strict=True):
        assert back(measured.frame, point.x, point.y) == pytest.approx((distance, gain), abs=0.06)
        assert back(measured.frame, point.error[1], 0)[0] == pytest.approx(distance + 0.004, abs=0.002)
        assert point.gain == f"{gain:+.1f}"
    assert [point.control for point in measured.points] == ["+4.1", "+5.0"]
    (tuned,) = nominal.points
    assert tuned.why == "no reference set for net_tuned"
    assert [tick.label for tick in nominal.x_ticks] == ["none", "shifted", "strong"]
    assert tuned.x == nominal.x_ticks[0].at


def test_datasets_that_are_near_keep_their_room_beside_one_that_is_far():
    distances = [-0.02, 0.9, 1.1, 2.0, 39.0]
    record = stored({("net", f"d{n}"): {"L01-act": right(700), "output": right(600)} for n in range(5)}).record
    for sweep, value in zip(record["sweeps"], distances, strict=True):
        reference = {"measure": "kid", "reference": "photos", "standard_error": 0.1}
        sweep["shift_distance"] = reference | {"value": value}
    (plot,) = plots(RecordView(record, ""))
    assert plot.axis == "KID to photos, large ones drawn nearer"
    places = [back(plot.frame, point.x, 0)[0] for point in plot.points]
    assert places == pytest.approx([asinh(value / 1.1) for value in distances], abs=0.02)
    ticks = {tick.label: back(plot.frame, tick.at, 0)[0] for tick in plot.x_ticks}
    assert list(ticks) == ["0", "1", "3", "10", "30"]
    assert ticks["30"] == pytest.approx(asinh(30 / 1.1), abs=0.02)
    record["sweeps"].pop()
    record["cases"] = [case for case in record["cases"] if case["dataset"] != "d4"]
    (plot,) = plots(RecordView(record, ""))
    assert plot.axis == "KID to photos"
    places = [back(plot.frame, point.x, 0)[0] for point in plot.points]
    assert places == pytest.approx(distances[:4], abs=0.02)


def test_datasets_of_one_class_stand_side_by_side():
    record = stored({("net", name): {"L01-act": right(700), "output": right(600)} for name in "abc"}).record
    for sweep, shift in zip(record["sweeps"], ("strong", "strong", ""), strict=True):
        sweep["shift"] = shift
    (plot,) = plots(RecordView(record, ""))
    first, second, unknown = (point.x for point in plot.points)
    labels = {tick.label: tick.at for tick in plot.x_ticks}
    assert (first + second) / 2 == pytest.approx(labels["strong"], abs=0.2)
    assert first < labels["strong"] < second < labels["unknown"] == unknown


def test_without_output_there_is_no_gain_to_draw():
    assert plots(RecordView(stored({("net", "d"): {"L01-act": right(600)}}).record, "")) == []


def test_every_mark_has_a_colour_on_white_in_the_dark_and_on_paper():
    style = re.search(r"<style>(.*?)</style>", render(full()), re.S)[1]
    for mark, colour in enumerate(COLOURS):
        assert style.count(f"--k{mark}: {colour};") == 2  # on the light page and on paper
        assert len(re.findall(rf"--k{mark}: #", style)) == 3
    for mark, dashes in enumerate(DASHES):
        assert (f".k{mark}.by-site .line {{ stroke-dasharray: " in style) == bool(dashes)
    assert ".k1.by-site .line { stroke-dasharray: 8 3 2 3; }" in style


def test_maps_and_curves_show_the_pooling_of_the_protocol_and_the_chosen_tap_whatever_it_is():
    (sweep,) = RecordView(pooled(["clean"]).record, "").sweeps
    found = maps.heat_map(sweep)
    assert [layer for layer, _ in found.layers] == [1, 2, 3, 4, 5, 6]
    assert [cell.text for _, cells in found.layers for cell in cells] == [
        f"{(400 + 40 * layer + more) / 10:.1f}" for layer in range(1, 7) for more in (4, 0)
    ]
    assert {name: (each.text, each.chosen) for name, each in found.after.items()} == {
        "final": ("63.0", False),
        "output": ("69.0", False),
        "pair": ("75.0", True),
    }
    chart = sites_by_depth(sweep)
    assert [each.name for each in chart.series] == ["act", "rc2"]
    lowest = min(row.case["ci95"][0] for tap, row in sweep.rows.items() if not tap.pooling)
    assert chart.frame.y_low > lowest - 0.05
    record = pooled(["clean"]).record
    for case in record["cases"]:
        if case["id"] == "net-clean-L02-act.cls":
            case["held_out_accuracy"] = 1.0
    del record["sweeps"][0]["selection"]
    found = maps.heat_map(RecordView(record, "").sweeps[0])
    assert [name for name, each in found.after.items() if each.chosen] == ["L02-act.cls"]
