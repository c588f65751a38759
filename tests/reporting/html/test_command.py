"""`probebench report`."""

from __future__ import annotations

import sys

import pytest

from probebench.cli.main import main
from probebench.records import run_record
from tests.records.samples import right, stored
from tests.reporting.html.dom import parse

NET = ("net", "digits")


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Save a record under a name, in the current folder."""
    monkeypatch.chdir(tmp_path)

    def saved(name, *args, **kwargs):
        run = stored(*args, **kwargs)
        run_record.save(run.record, tmp_path / name, run.correct)
        return name

    return saved


def test_a_run_becomes_a_page(tmp_path, save, capsys):
    run = save("run.json", {NET: {"L01-act": right(700), "final": right(600)}})
    assert main(["report", run, "-o", "out/report.html"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("out/report.html: 2 cases in 1 sweep: 2 new")
    tree = parse((tmp_path / "out" / "report.html").read_text())
    assert "run.json" in tree.one("header").text
    assert tree.one("section", id="leaderboard").one("table", id="board").table()[0][3] == "L01-act"


def test_runs_are_merged(tmp_path, save):
    a = save("a.json", {NET: {"L01-act": right(700)}})
    b = save("b.json", {NET: {"L01-act": right(800), "final": right(600)}}, hours=1)
    assert main(["report", a, b, "-o", "report.html"]) == 0
    board = parse((tmp_path / "report.html").read_text()).one("table", id="board").table()
    assert [(row[3], row[4]) for row in board] == [("L01-act", "80.0"), ("final", "60.0")]


def test_runs_that_do_not_belong_together_are_refused(tmp_path, save, capsys):
    a = save("a.json", {NET: {"L01-act": right(700)}})
    b = save("b.json", {NET: {"L01-act": right(700)}}, protocol="paper@1")
    assert main(["report", a, b, "-o", "report.html"]) == 1
    assert "different protocols" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()
    assert main(["report", a, b, "--protocol", "paper@1", "-o", "report.html"]) == 0


@pytest.mark.parametrize(
    ("output", "code", "message"),
    [("report.txt", 2, "-o must end in .html, got 'report.txt'"), ("run.json/report.html", 1, "is not a directory")],
)
def test_where_it_cannot_be_written_is_told(save, capsys, output, code, message):
    assert main(["report", save("run.json", {NET: {"final": right(600)}}), "-o", output]) == code
    assert message in capsys.readouterr().err


def test_without_jinja2_the_command_that_gets_it_is_told(save, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert main(["report", save("run.json", {NET: {"final": right(600)}}), "-o", "report.html"]) == 1
    assert "reports need jinja2: pip install 'probebench[report]'" in capsys.readouterr().err


def test_an_unknown_run_and_a_missing_output_are_usage_errors(save, capsys):
    assert main(["report", "nothing.json", "-o", "report.html"]) == 2
    with pytest.raises(SystemExit) as exit_:
        main(["report", save("run.json", {NET: {"final": right(600)}})])
    assert exit_.value.code == 2
