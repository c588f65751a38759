from __future__ import annotations

import csv
import re

import pytest

from tests.conftest import FEW, ONE, ONE_COUNT


@pytest.mark.parametrize(
    ("level", "present", "absent"),
    [
        ("none", [], ["best layer of each site", "acc %"]),
        ("brief", ["Best tap of each model", "best layer of each site"], ["#  model"]),
        ("normal", ["#  model", "best layer of each site"], ["Best tap of each model"]),
        ("full", ["#  model", "L01-ln1", "L02-fc2"], ["Best tap of each model"]),
    ],
)
def test_how_much_is_printed(run, level, present, absent):
    text = run(f"--probe-leaderboard={level}", *ONE).stdout.str()
    assert "run record: " in text
    assert all(piece in text for piece in present)
    assert not any(piece in text for piece in absent)


def test_files_of_every_kind_are_written(project, run):
    run(*(f"--probe-leaderboard-file=out/board.{kind}" for kind in ("md", "tex", "csv")), *FEW)
    assert "| blobs_dark |" in (project.path / "out" / "board.md").read_text()
    assert r"\toprule" in (project.path / "out" / "board.tex").read_text()
    with (project.path / "out" / "board.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 4


def test_colour_brings_heat_maps(run):
    assert not re.search(r"layer +ln1", run("--color=no", *ONE).stdout.str())
    text = run("--color=yes", *ONE).stdout.str()
    assert "\x1b[" in text
    assert re.search(r"layer +ln1", re.sub(r"\x1b\[[0-9;]*m", "", text))


@pytest.mark.parametrize(("encoding", "ascii_only"), [("ascii", True), ("utf-8", False)])
def test_tables_are_drawn_with_what_the_terminal_can_show(warm, project, run, monkeypatch, encoding, ascii_only):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    result = project.runpytest_subprocess("--probe-jobs=1", "--probe-model=tiny", "--probe-dataset=blobs")
    result.assert_outcomes(passed=ONE_COUNT)
    assert result.stdout.str().isascii() is ascii_only
