from __future__ import annotations

import csv
import io

import pytest

from probebench.records.view import RecordView
from probebench.reporting.export import to_text
from probebench.reporting.variants import combination_lines, pooling_lines, same_as_lines
from tests.records.pools import pooled
from tests.reporting.boards import full, record


def rows(some):
    return list(csv.DictReader(io.StringIO(to_text(some, "csv"))))


def test_markdown_and_latex_have_every_case_and_the_papers_table():
    md, tex = to_text(record(), "md"), to_text(record(), "tex")
    assert sum(line.startswith("| easy ") for line in md.splitlines()) == 14
    assert "| easy      |      1 | net        |       1 | act    |       90.0 |" in md
    assert md.count("Best layer of each site") == 2
    assert tex.count(r"\begin{tabular}") == 3
    assert r"net\_random" in tex


def test_latex_has_the_columns_of_a_paper_and_markdown_all_but_bounds():
    md, tex = to_text(full(), "md").splitlines(), to_text(full(), "tex").splitlines()
    names = [name.strip() for name in md[0].strip("|").split("|")]
    found = ["accuracy", "95% CI", "vs output", "vs last rc2", "equal width", "random"]
    rest = ["width", "selection", "verdict", "baseline", "mean per class", "top5", "nll", "ece"]
    assert names == ["dataset", "rank", "model", "layer", "site", *found, *rest]
    assert tex[0] == r"\begin{tabular}{lrllrrrrrr}"
    names = [name.strip(" \\") for name in tex[2].split("&")]
    assert names == ["dataset", "rank", "model", "tap", *(name.replace("%", r"\%") for name in found)]
    assert "85.0-95.0" in tex[4]
    assert "85.0-95.0" in md[2]


def test_csv_is_unrounded_and_machine_readable():
    found = rows(record())
    assert len(found) == 21
    first = found[0]
    assert (first["dataset"], first["rank"], first["layer"], first["site"]) == ("easy", "1", "1", "act")
    assert float(first["accuracy"]) == 0.9
    assert float(first["vs_output"]) == pytest.approx(0.15)
    assert first["nll"] == first["equal_width"] == ""


def test_csv_has_metrics_with_intervals_controls_and_what_is_chosen():
    found = {(row["model"], row["dataset"], row["layer"], row["site"]): row for row in rows(full())}
    act = found["net", "easy", "1", "act"]
    for name, value in (("top5", 0.93), ("mean_per_class", 0.89), ("nll", 1.234), ("ece", 0.056)):
        assert float(act[name]) == pytest.approx(value)
        assert float(act[f"{name}_ci95_low"]) < float(act[f"{name}_ci95_high"])
    assert float(act["equal_width"]) == pytest.approx(0.13)
    assert float(act["random"]) == pytest.approx(0.23)
    assert [found["net", "easy", layer, "act"]["selection"] for layer in "12"] == ["tied", "chosen"]
    assert found["net", "easy", "1", "rc2"]["selection"] == ""
    assert found["net", "hard", "1", "act"]["random"] == ""


def test_the_former_place_of_the_mean_per_class_is_read():
    some = record()
    for case in some["cases"]:
        case["mean_per_class"] = 0.123
    assert float(rows(some)[0]["mean_per_class"]) == 0.123
    assert rows(some)[0]["mean_per_class_ci95_low"] == ""


def test_columns_that_a_record_does_not_have_take_no_room():
    older, newer = to_text(record(), "md").splitlines()[0], to_text(full(), "md").splitlines()[0]
    for name in ("nll", "top5", "ece", "mean per class", "equal width"):
        assert name not in older, name
        assert name in newer, name
    assert len(to_text(record(), "csv").splitlines()[0]) == len(to_text(full(), "csv").splitlines()[0])


def test_what_is_chosen_controls_and_shift_follow_the_tables():
    some = full()
    for i, name in enumerate(("easy", "hard", "more", "missing")):
        if i > 1:
            some["sweeps"].append(some["sweeps"][0] | {"dataset": name})
            some["cases"] += [
                c | {"dataset": name} for c in some["cases"] if (c["model"], c["dataset"]) == ("net", "easy")
            ]
        sweep = next(s for s in some["sweeps"] if (s["model"], s["dataset"]) == ("net", name))
        distance = {"measure": "kid", "reference": "glyphs", "value": i / 10, "standard_error": 0.01}
        sweep["shift_distance"] = {"unavailable": "no images"} if name == "missing" else distance
    md, tex = to_text(some, "md"), to_text(some, "tex")
    for piece in (
        "**Chosen taps**",
        "- net on easy: L02-act chosen on held-out images: 90.0% (85.0-95.0); 1 of 6 other taps is tied with it, the "
        "earliest L01-act; best on test L01-act +1.0",
        "Best layer of each site, chosen on held-out images, accuracy averaged over datasets: net",
        "net: what wins as shift grows (distance: KID to glyphs)",
        "0.200 ± 0.010",
        "Spearman's rank correlation with distance: ",
        "- No distance for net on missing: no images",
        "- net, 1 dataset: the chosen taps gain",
    ):
        assert piece in md, piece
        assert piece.removeprefix("- ").strip("*") in tex, piece
    inside = False
    for line in tex.splitlines():
        inside |= line.startswith(r"\begin")
        assert inside or line.startswith("%") or not line, line
        inside &= not line.startswith(r"\end")


def test_poolings_combinations_and_equal_taps_follow_the_tables():
    some = pooled().record
    md, tex = to_text(some, "md"), to_text(some, "tex")
    assert "**net: accuracy by pooling and depth**" in md
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in md.splitlines()]
    assert ["dataset", "depth", "pooling", "tap", "acc %", "vs mean", "95% CI", "p", "differs"] in cells
    assert ["far", "middle", "cls", "L04-act.cls", "56.7", "+0.3", "-1.0 to +1.6", "0.76", "no"] in cells
    view = RecordView(some)
    for line in (*pooling_lines(view), *combination_lines(view), *same_as_lines(view)):
        assert f"- {line}" in md
        assert f"% {line}" in tex
    row = next(row for row in rows(some) if (row["dataset"], row["pooling"], row["layer"]) == ("far", "cls", "6"))
    assert row["site"] == "act"
    assert rows(record())[0]["pooling"] == ""
    assert "pooling" not in to_text(record(), "md")


def test_a_record_without_output_says_why_there_are_no_gains():
    some = record()
    some["cases"] = [case for case in some["cases"] if case["site"] != "output"]
    line = "No gain over output for net on easy, net on hard and 1 more: the tap output was not measured there."
    assert line in to_text(some, "md").splitlines()
    assert f"% {line}" in to_text(some, "tex").splitlines()
    assert {row["vs_output"] for row in rows(some)} == {""}
