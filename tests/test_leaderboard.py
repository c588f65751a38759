from __future__ import annotations

import csv
import io
import re

import pytest

from probebench.leaderboard import render
from probebench.leaderboard_text import to_text

ACCURACY = {
    ("net", "easy"): {("embed", "embed"): 0.5, (1, "act"): 0.9, (1, "rc2"): 0.8, (2, "act"): 0.9, (2, "rc2"): 0.7},
    ("net", "hard"): {("embed", "embed"): 0.2, (1, "act"): 0.6, (1, "rc2"): 0.3, (2, "act"): 0.4, (2, "rc2"): 0.1},
    ("net_random", "easy"): {
        ("embed", "embed"): 0.4,
        (1, "act"): 0.3,
        (1, "rc2"): 0.2,
        (2, "act"): 0.25,
        (2, "rc2"): 0.1,
    },
}
FINAL = {("net", "easy"): 0.75, ("net", "hard"): 0.15, ("net_random", "easy"): 0.05}
SHIFT = {"easy": "none", "hard": "strong"}


def record():
    sweeps, cases = [], []
    for (model, dataset), taps in ACCURACY.items():
        control = "net" if model == "net_random" else None
        sweeps.append({"model": model, "dataset": dataset, "depth": 2, "control_of": control, "shift": SHIFT[dataset]})
        for (layer, site), accuracy in (taps | {("final", "final"): FINAL[model, dataset]}).items():
            cases.append(
                {"id": f"{model}-{dataset}-{layer}-{site}", "model": model, "dataset": dataset, "layer": layer}
                | {"site": site, "protocol": "paper@1"}
                | {"accuracy": accuracy, "ci95": [accuracy - 0.05, accuracy + 0.05], "verdict": "same"}
                | {"baseline_accuracy": accuracy, "lost": 0, "gained": 0, "width": 8, "n_test": 100}
            )
    return {"sweeps": sweeps, "cases": cases, "images_per_second": 1234.0}


def show(record=None, level="normal", width=80, color=False, ascii_only=False):
    return render(record or globals()["record"](), level=level, width=width, color=color, ascii_only=ascii_only)


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
        case["mean_per_class"] = 0.123
    text = show(some)
    easy, hard = text[text.index("easy") : text.index("hard")], text[text.index("hard") :]
    assert "class" in easy
    assert "12.3" in easy
    assert "class" not in hard
    first = next(csv.DictReader(io.StringIO(to_text(some, "csv"))))
    assert float(first["mean_per_class"]) == 0.123


def test_markdown_and_latex_have_every_case_and_the_papers_table():
    md, tex = to_text(record(), "md"), to_text(record(), "tex")
    assert sum(line.startswith("| easy ") for line in md.splitlines()) == 12
    assert "| easy      | 1      | net        | 1       | act    | 90.0" in md
    assert md.count("Best layer of each site") == 2
    assert tex.count(r"\begin{tabular}") == 3
    assert r"net\_random" in tex


def test_csv_is_unrounded_and_machine_readable():
    rows = list(csv.DictReader(io.StringIO(to_text(record(), "csv"))))
    assert len(rows) == 18
    first = rows[0]
    assert (first["dataset"], first["rank"], first["layer"], first["site"]) == ("easy", "1", "1", "act")
    assert float(first["accuracy"]) == 0.9
    assert float(first["vs_final"]) == pytest.approx(0.15)
