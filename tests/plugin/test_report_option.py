"""--probe-report: an HTML report of the run, checked for before any work."""

from __future__ import annotations

import sys

import pytest

from probebench.records import run_record
from tests.conftest import ONE_COUNT, TINY_COUNT
from tests.plugin.test_interrupt import SLOW_STOP
from tests.records.valid import validate
from tests.reporting.html.dom import parse


def page(project, name="report.html"):
    return parse((project.path / name).read_text(encoding="utf-8"))


def test_a_run_writes_one(project, run):
    result = run("--probe-report=out/report.html", "--probe-json=r.json")
    result.assert_outcomes(passed=TINY_COUNT)
    result.stdout.fnmatch_lines(["report: out/report.html"])
    tree = page(project, "out/report.html")
    assert f"{TINY_COUNT} cases in 4 sweeps" in tree.one("header").text
    assert tree.one("section", id="provenance").find("dd")[0].text == "r.json"


def test_an_interrupted_run_writes_one_of_what_had_finished(project):
    project.makeconftest((project.path / "conftest.py").read_text() + SLOW_STOP)
    args = ("-p", "no:cacheprovider", "--probe-jobs=1", "--probe-report=report.html")
    result = project.runpytest_inprocess(*args, no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    tree = page(project)
    assert "interrupted" in tree.one("title").text
    assert f"{ONE_COUNT + 5} cases in 2 sweeps" in tree.one("header").text


def test_a_sweep_that_failed_is_on_it(project, run):
    project.makepyfile(
        test_tiny="""
        import pytest

        @pytest.mark.probe(model="tiny", dataset="no_class_two")
        def test_probe(probe):
            probe.check()
        """
    )
    result = run("--probe-report=report.html")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    failure = page(project).one("section", id="overview").one("details", "failure")
    assert failure.one("summary").text.startswith("tiny-no_class_two: DataError: ")


def test_what_was_withheld_is_on_it_and_in_the_record(project, run, monkeypatch):
    monkeypatch.setenv("PROBEBENCH_DATA", str(project.path / "nothing"))
    project.makepyfile(
        test_tiny="""
        import pytest

        @pytest.mark.probe(model="tiny", dataset=["blobs", "cifar10"])
        def test_probe(probe):
            probe.check()
        """
    )
    run("--probe-report=report.html", "--probe-json=r.json").assert_outcomes(passed=ONE_COUNT)
    record = run_record.load(project.path / "r.json")
    validate(record)
    (entry,) = record["withheld"]
    assert (entry["model"], entry["cases"], entry["command"]) == ("tiny", ONE_COUNT, "probebench fetch cifar10")
    (row,) = page(project).one("section", id="overview").one("details", "withheld").table()
    assert row == ["tiny", str(ONE_COUNT), entry["lacks"], "probebench fetch cifar10"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--probe-report=report.pdf"], "*--probe-report must end in .html, got 'report.pdf'*"),
        (["--probe-report=conftest.py/report.html"], "*--probe-report: *conftest.py is not a directory*"),
        (["--probe-report=made.html"], "*--probe-report: *made.html is a directory*"),
        (["--probe-report=a.html", "--probe-json=a.html"], "*a.html is named for two outputs*"),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_work(project, run, args, message):
    (project.path / "made.html").mkdir()
    result = run(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert "passed" not in result.stdout.str()


def test_without_jinja2_it_is_refused_before_any_work(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    result = run("--probe-report=report.html")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--probe-report: reports need jinja2: pip install 'probebench?report?'*"])


def test_what_cannot_be_written_at_the_end_fails_the_run(project, run, monkeypatch):
    from probebench import _files
    from probebench.errors import StoreError
    from probebench.reporting import html

    def full(path, content):
        raise StoreError(f"cannot write {path}: no space left")

    monkeypatch.setattr(html, "_files", type("Full", (), {"write": full, "check_writable": _files.check_writable}))
    result = run("--probe-report=report.html")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: cannot write *report.html: no space left"])
    assert "run record: " in result.stdout.str()


def test_a_record_that_a_plugin_broke_does_not_cost_the_run(project, run):
    project.makeconftest(
        (project.path / "conftest.py").read_text()
        + "\ndef pytest_probebench_record(record):\n    record['sweeps'] = [{}]\n"
    )
    result = run("--probe-report=report.html", "--probe-leaderboard=none")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: *report.html could not be made (KeyError: *"])
