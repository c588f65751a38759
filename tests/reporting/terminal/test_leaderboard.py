from __future__ import annotations

import re

import pytest

from probebench.records.view import RecordView
from probebench.reporting.terminal.leaderboard import render
from probebench.reporting.variants import combination_lines, pooling_lines
from tests.records.pools import pooled
from tests.reporting.boards import full, record


def show(some=None, level="normal", width=80, color=False, ascii_only=False):
    return render(some or record(), level=level, width=width, color=color, ascii_only=ascii_only)


def test_a_gain_without_its_reference_is_left_open():
    some = record()
    some["cases"] = [case for case in some["cases"] if case["layer"] == 1]
    assert "L01-act" in show(some)


def test_taps_chosen_on_held_out_images_come_with_the_optimism_gap():
    some = record()
    assert "optimism" not in show(some)
    for case in some["cases"]:
        # On held-out images layer 1 looks worst everywhere, although it is best on test.
        case["held_out_accuracy"] = 0.1 if case["layer"] == 1 else 0.5 + case["accuracy"] / 10
    text = show(some)
    assert "chosen on held-out training images" in text
    assert "points better" in text
    table = text[text.index("net: best layer of each site") :]
    act = next(line for line in table.splitlines() if line.strip().startswith("act"))
    assert act.split() == ["act", "90.0", "[100%]", "40.0", "[100%]", "65.0", "[100%]"]


def test_a_sweep_that_could_hold_nothing_out_is_named_beside_those_that_could():
    some = record()
    for case in some["cases"]:
        if case["dataset"] == "easy":
            case["held_out_accuracy"] = case["accuracy"]
    text = " ".join(show(some, level="brief", width=150).split())
    assert "chosen on held-out training images (on the test images for net on hard, where none could be held" in text
    assert "net: best layer of each site, chosen on held-out or, without any, on test images; mean" in text


def test_the_normal_level_shows_the_top_every_model_and_both_references():
    text = show()
    easy = text[text.index("easy") : text.index("hard")]
    for piece in ("L01-act", "+15.0", "+20.0", "85.0-95.0", "final", "L02-rc2", "net_random"):
        assert piece in easy, piece


@pytest.mark.parametrize("level", ["brief", "normal", "full"])
@pytest.mark.parametrize("color", [False, True])
def test_nothing_is_wider_than_the_terminal(level, color):
    longest = record()
    for entry in (*longest["sweeps"], *longest["cases"]):
        # The longest names that are shipped, and the longest verdict.
        entry["model"] = {"net": "glyphvit", "net_random": "glyphvit_random"}[entry["model"]]
    for case in longest["cases"]:
        case["verdict"] = "not comparable"
    plain = re.sub(r"\x1b\[[0-9;]*m", "", show(longest, level=level, color=color))
    assert max(map(len, plain.splitlines())) <= 80
    assert "…" not in plain


def test_a_long_name_folds_and_numbers_stay_whole():
    longest = record()
    for entry in (*longest["sweeps"], *longest["cases"]):
        entry["model"] = entry["model"] + "_vit_small_patch14_dinov2_reg4"
    text = show(longest, ascii_only=True)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 80
    assert "85.0-95.0" in text
    assert "same" in text


def test_levels_show_more_and_more():
    lengths = [len(show(level=level).splitlines()) for level in ("none", "brief", "normal", "full")]
    assert lengths == sorted(lengths)
    assert lengths[0] == 0
    assert lengths[1] < lengths[2] < lengths[3]


def test_heat_maps_need_colour_and_leave_controls_to_the_full_level():
    assert "layer" not in show().replace("best layer", "")
    normal, full = show(color=True), show(color=True, level="full")
    assert normal.count("layer ") == 2 + normal.count("best layer ")
    assert full.count("layer ") == 3 + full.count("best layer ")
    assert "\x1b[" in normal


def test_ascii_terminals_get_ascii():
    text = show(ascii_only=True, level="full", color=False)
    assert text.isascii()
    assert "+--" in text


def test_the_best_tap_per_site_is_averaged_by_shift():
    text = show()
    table = text[text.index("net: best layer of each site") :]
    act = next(line for line in table.splitlines() if line.strip().startswith("act"))
    assert act.split() == ["act", "90.0", "[50%]", "60.0", "[50%]", "75.0", "[50%]"]


def test_changes_come_first_the_largest_drop_on_top():
    some = record()
    moves = [("regressed", 0.6), ("improved", 0.8), ("regressed", 0.95)]
    for case, (verdict, before) in zip(some["cases"][:3], moves, strict=True):
        case.update(verdict=verdict, baseline_accuracy=before, lost=7, gained=3)
    lines = show(some).splitlines()
    assert lines[0] == "Changed against the baselines"
    changed = [line.split()[2] for line in lines[4:7]]
    assert changed == ["L01-rc2", "embed", "L01-act"]


def test_the_mean_per_class_stands_beside_the_accuracy_where_it_is_the_metric():
    some = record()
    for sweep in some["sweeps"]:
        sweep["metric"] = "mean_per_class" if sweep["dataset"] == "easy" else "top1"
    for case in some["cases"]:
        case["metrics"] = {"mean_per_class": {"value": 0.123, "ci95": [0.1, 0.2]}}
    text = show(some)
    easy, hard = text[text.index("easy") : text.index("hard")], text[text.index("hard") :]
    assert "class" in easy
    assert "12.3" in easy
    assert "class" not in hard


# The chosen tap


def below(text, dataset):
    """What stands between the table of a dataset and the next title, on one line."""
    part = text[text.index(f"{dataset}, ") :]
    part = part[part.index("\n\n", part.index("verdict")) :]
    return " ".join(part.strip().split("\n\n")[0].split())


def test_below_each_ranking_every_model_says_what_is_chosen_and_tied():
    text = show(full(), width=100)
    line = (
        "L02-act chosen on held-out images: 90.0% (85.0-95.0); 1 of 6 other taps is tied with it, the earliest "
        "L01-act; best on test L01-act +1.0"
    )
    assert below(text, "easy") == f"net {line}"
    assert "net_random L02-act chosen" in below(show(full(), level="full", width=150), "easy")


def test_a_record_without_ties_says_what_is_chosen_and_no_more():
    assert below(show(), "easy") == "net L01-act chosen on test images: 90.0% (85.0-95.0)"
    assert "net: best layer of each site, chosen on test images" in show()


def test_the_brief_table_counts_the_tied_taps_and_has_the_earliest():
    lines = show(full(), level="brief", width=100).splitlines()
    assert next(line for line in lines if "hard" in line).split()[-2:] == ["1", "L01-act"]
    assert "chosen on held-out images:" not in "\n".join(lines)
    assert "tied" not in show(level="brief", width=100)


# Controls and metrics


def test_the_ranking_has_the_controls_of_its_dataset_only():
    text = show(full(), width=100)
    easy, hard = text[text.index("easy") : text.index("hard")], text[text.index("hard") : text.index("best layer")]
    act = next(line for line in easy.splitlines() if "L01-act" in line and " net " in line)
    assert act.split()[-5:] == ["+15.0", "+20.0", "+13.0", "+23.0", "same"]
    assert "random" in easy
    assert "width" in hard
    assert "random" not in hard.replace("net_random", "")
    assert "width" not in show(width=100)


def test_one_line_sums_up_the_controls():
    text = " ".join(show(full()).split())
    assert (
        "Controls: net, 1 dataset: the chosen taps gain +15.0 points over output, +13.0 at equal width; the same taps "
        "of the random control gain +18.0; nothing survives both controls."
    ) in text
    assert "Controls" not in show(record() | {"sweeps": [s | {"control_of": None} for s in record()["sweeps"]]})


def test_the_full_level_has_all_metrics_and_the_normal_one_has_none():
    text = show(full(), level="full", width=150)
    act = next(line for line in text.splitlines() if "L01-act" in line)
    assert act.split()[5:9] == ["89.0", "93.0", "1.23", "5.6"]
    assert "NLL" not in show(full(), width=150)
    assert "NLL" not in show(level="full", width=150)


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("level", ["brief", "normal", "full"])
def test_no_number_is_cut_on_a_narrow_terminal(level, color):
    wide, narrow = (show(full(), level=level, width=width, color=color) for width in (200, 40))
    interval = re.compile(r"\d+\.\d-\d+\.\d")
    assert interval.findall(narrow) == interval.findall(wide) != []
    assert "…" not in narrow
    prose = [line for line in narrow.splitlines() if line.startswith("Best taps and layers")]
    assert all(len(line) <= 40 for line in prose)  # only tables are wider


@pytest.mark.parametrize("width", [72, 80, 90, 100, 110])
@pytest.mark.parametrize("level", ["brief", "normal", "full"])
def test_columns_make_room_and_it_is_said(level, width):
    text = show(full(), level=level, width=width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in text
    assert all(line.split()[1] in ("net", "net_random") for line in lines if line.split()[2:3] == ["L01-act"])
    named = "No room for the columns" in text
    assert named == (width < {"brief": 0, "normal": 81, "full": 110}[level])
    if level == "full" and width == 80:
        assert "(No room for the columns ECE %, NLL" in text


# Shift


def measured(unavailable=()):
    some = full()
    some["sweeps"] += [some["sweeps"][0] | {"dataset": "more"}]
    some["cases"] += [c | {"dataset": "more"} for c in some["cases"] if (c["model"], c["dataset"]) == ("net", "easy")]
    for i, sweep in enumerate(some["sweeps"]):
        distance = {"measure": "kid", "reference": "glyphs", "value": 0.1 * i, "standard_error": 0.012}
        sweep["shift_distance"] = {"unavailable": "no images"} if sweep["dataset"] in unavailable else distance
    return some


@pytest.mark.parametrize("ascii_only", [False, True])
def test_what_wins_as_shift_grows_is_a_table_with_its_correlations(ascii_only):
    text = show(measured(), ascii_only=ascii_only)
    table = text[text.index("net: what wins as shift grows (distance: KID to glyphs)") :]
    rows = [re.sub(r"[|]", " ", line).split() for line in table.splitlines()]
    sign = "+-" if ascii_only else "±"
    assert ["hard", "0.100", sign, "0.012", "L02-act", "100", "40.0", "30.0", "+25.0"] in rows
    assert "Spearman's rank correlation with distance" in table
    assert "net_random: what wins" not in text
    assert text.isascii() or not ascii_only
    assert "what wins" not in show(measured(), level="brief")


def test_a_distance_that_is_not_there_says_why():
    text = show(measured(unavailable=("easy", "more")))
    assert text.count("no images") == 1
    assert "No distance for net on easy, net on more: no images" in text
    assert "what wins" not in text
    assert "No distance" not in show(full())


# Poolings, combinations and what was not measured


def test_accuracy_by_pooling_and_depth_is_a_table_with_its_answer():
    some = pooled().record
    text = show(some, width=120)
    table = text[text.index("net: accuracy by pooling and depth, taps chosen on held-out images; gains over mean") :]
    rows = [line.split() for line in table.splitlines()]
    assert ["clean", "mean", "48.4", "56.4", "64.4", "63.0"] in rows
    assert ["far", "cls", "42.4", "-6.0*", "56.7", "+0.3", "73.4", "+9.0*", "69.0", "+6.0*"] in rows
    words = " ".join(text.split())
    for line in (*pooling_lines(RecordView(some)), *combination_lines(RecordView(some))):
        assert line in words
    assert "net: output equals final.cls up to rounding and was not fitted again." in words
    full_level = show(some, level="full", width=120)
    details = [line.split() for line in full_level.splitlines()]
    late = ["far", "late", "cls", "L06-act.cls", "73.4", "+9.0", "+6.8", "to", "+11.2"]
    assert late in [row[: len(late)] for row in details]
    assert "by pooling" not in show(some, level="brief")
    assert "by pooling" not in show()


def test_taps_with_a_pooling_of_their_own_are_ranked_but_not_on_the_map():
    some = pooled(["clean"]).record
    text = show(some, color=True)
    assert "L06-act.cls" in text
    heat = re.sub(r"\x1b\[[\d;]*m", "", text.split("layer ", 1)[1])
    last = next(line for line in heat.splitlines() if line.startswith("L06"))
    assert last.split() == ["L06", "64", "64"]


def test_a_record_without_output_says_why_there_are_no_gains():
    some = record()
    some["cases"] = [case for case in some["cases"] if (case["site"], case["dataset"]) != ("output", "hard")]
    text = show(some)
    assert "No gain over output for net on hard: the tap output was not measured there." in text
    assert "No gain over output" not in show()
