"""Places compared in pairs, in words and as a table."""

from __future__ import annotations

from probebench.records.view import RecordView
from probebench.reporting.contrasts import contrast_lines, contrast_sweeps, contrast_table
from probebench.reporting.export import to_text
from probebench.reporting.github import summary
from probebench.reporting.html.page import page
from probebench.reporting.terminal.leaderboard import render
from tests.records.places import placed
from tests.reporting.boards import record


def test_which_place_is_better_is_said_with_its_interval_or_that_it_is_open():
    clean, far = contrast_lines(RecordView(placed().record))
    assert clean.startswith("net without shift (2 datasets): ")
    assert "the best act is not distinguishable from the best rc2: +0.0 points (" in clean
    assert "by itself" not in clean.partition("the best rc2")[2]  # no single dataset shows a difference
    assert far.startswith("net under strong shift (1 dataset): the chosen tap is better than output: +8.0 points (")
    assert "the best rc2 is better than the last: +4.0 points (" in far
    assert "the best act is better than the best ln2: +7.7 points (" in far
    assert far.endswith("tests by Holm's procedure over 10 gains of the model.")


def test_single_datasets_on_which_a_gain_is_significant_are_counted():
    run = placed()
    for sweep in run.record["sweeps"]:
        sweep["shift"] = "strong"
    (line,) = contrast_lines(RecordView(run.record))
    assert "the best act is better than the best ln2: +2.4 points" in line
    assert ", by itself better on 1;" in line
    run.record["sweeps"][0]["contrasts"] = run.record["sweeps"][0]["contrasts"][:1]
    (line,) = contrast_lines(RecordView(run.record))
    assert ", by itself better on 1 of 2;" in line


def test_a_choice_on_the_test_images_is_told():
    run = placed(["far"])
    assert "chosen on these test images" not in contrast_lines(RecordView(run.record))[0]
    run.record["sweeps"][0]["selection"]["by"] = "test"
    (line,) = contrast_lines(RecordView(run.record))
    assert "Taps are chosen on these test images, so that gains look larger than they are. 95%" in line


def test_the_table_has_a_row_for_each_contrast_of_each_dataset():
    ((model, _), sweeps) = next(iter(contrast_sweeps(RecordView(placed().record)).items()))
    header, body = contrast_table(sweeps)
    assert (model, len(body)) == ("net", 15)
    row = dict(zip(header, body[-1], strict=True))
    assert (row["dataset"], row["contrast"], row["taps"]) == ("far", "act over ln2", "L05-act over L05-ln2")
    assert (row["gain"], row["differs"]) == ("+7.7", "yes")


def test_every_face_has_them():
    run = placed().record
    line = contrast_lines(RecordView(run))[1]
    style = {"width": None, "color": False, "ascii_only": False}
    assert f"Places: {line}" in " ".join(render(run, level="normal", **style).split())
    assert "L05-act over L05-ln2" not in render(run, level="normal", **style)
    for text in (render(run, level="full", **style), to_text(run, "md"), to_text(run, "tex"), page(run, "run")):
        assert "L05-act over L05-ln2" in text
    assert line in to_text(run, "md")
    assert line.replace("'", "&#39;") in page(run, "run")
    assert line in summary(run, [], [])


def test_controls_and_older_records_say_nothing():
    run = placed()
    for sweep in run.record["sweeps"]:
        sweep["control_of"] = "other"
    for view in (RecordView(run.record), RecordView(record())):
        assert contrast_lines(view) == []
        assert contrast_sweeps(view) == {}
