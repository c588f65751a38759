"""Outcomes of pytest that are raised while a sweep is measured: pytest-timeout raises one, and so may a reader."""

from __future__ import annotations

import pytest

from probebench.records import run_record

READER = """

def pytest_probebench_datasets(config, before=pytest_probebench_datasets):
    return [*before(), DatasetSpec(name="odd", reader="conftest:odd")]

def odd():
    import pytest, time
    with open("reads.txt", "a") as file:
        print("read", file=file)
    {what}
    return blobs()
"""
CASES = """
import pytest

@pytest.mark.probe(model="tiny", dataset=["blobs", "odd", "blobs_dark"], layer=1)
def test_probe(probe):
    probe.check()
"""


@pytest.fixture
def reads(project):
    """Makes a dataset whose reader does something odd; returns how often it was read."""

    def make(what):
        project.makeconftest((project.path / "conftest.py").read_text() + READER.format(what=what))
        project.makepyfile(test_tiny=CASES)
        return lambda: len((project.path / "reads.txt").read_text().splitlines())

    return make


def test_a_time_limit_costs_one_sweep_which_resume_measures(project, run, reads):
    count = reads("time.sleep(9)")
    result = run("--timeout=3", "--timeout-method=signal", "--probe-json=r.json")
    result.assert_outcomes(passed=16, failed=1)
    result.stdout.fnmatch_lines(
        [
            "sweep tiny-odd could not be measured.",
            "stopped while it was measured: Timeout (>3.0s) from pytest-timeout. The first test of a sweep measures *",
            "To continue this run, repeat the command with --probe-resume.",
            "*1 failed, 16 passed, 7 not measured*",
        ]
    )
    assert count() == 1
    record = run_record.load(project.path / "r.json")
    assert record["interrupted"] is False
    assert [failure["sweep"] for failure in record["failures"]] == ["tiny-odd"]
    conftest = project.path / "conftest.py"
    conftest.write_text(conftest.read_text().replace("time.sleep(9)", "time.sleep(0)"))
    result = run("--probe-resume", "--probe-json=r.json")
    result.assert_outcomes(passed=24)
    assert result.stdout.str().count("measured before") == 2
    assert count() == 2


def test_finished_taps_of_a_stopped_sweep_are_kept(project, run, monkeypatch):
    from probebench.measure import run as run_module

    def stopping(*args, before=run_module.probe, **kwargs):
        for count, found in enumerate(before(*args, **kwargs)):
            if count == 5:
                pytest.fail("time is up")
            yield found

    monkeypatch.setattr(run_module, "probe", stopping)
    result = run("--probe-model=tiny", "--probe-dataset=blobs", "--probe-json=r.json")
    result.assert_outcomes(failed=1)
    record = run_record.load(project.path / "r.json")
    assert len(record["cases"]) == 5
    assert "time is up" in record["failures"][0]["error"]


def test_a_reader_that_skips_is_asked_once_and_its_sweep_is_skipped(project, run, reads):
    count = reads("pytest.importorskip('no_such_library')")
    result = run("--probe-json=r.json", "-rs")
    result.assert_outcomes(passed=16, skipped=8)
    result.stdout.fnmatch_lines(["SKIPPED [[]8] *no_such_library*"])
    assert count() == 1
    assert run_record.load(project.path / "r.json")["failures"] == []


def test_how_libraries_open_their_files_is_no_error(run, reads):
    reads("__import__('warnings').warn('no encoding', EncodingWarning)")
    run("-W", "error").assert_outcomes(passed=24)
