"""Runs inside a step of a GitHub workflow."""

from __future__ import annotations

import pytest

from tests.conftest import TINY_COUNT


@pytest.fixture
def step_summary(tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    path = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    return path


def annotations(result):
    return [line for line in result.outlines if line.startswith("::")]


def test_a_run_leaves_one_notice_and_a_summary(run, step_summary):
    result = run()
    (line,) = annotations(result)
    assert line.startswith(f"::notice title=probebench::{TINY_COUNT} cases in 4 sweeps: {TINY_COUNT} new")
    text = step_summary.read_text()
    assert text.startswith("## probebench: nothing to compare with\n")
    assert text.count("| blobs ") == 2
    assert "run record: .probebench/runs/" in text


def test_a_strict_run_without_baselines_leaves_one_error(run, step_summary):
    step_summary.write_text("before\n")
    result = run("--probe-strict", "--probe-site=final", "-qq")
    assert result.ret == 1
    (line,) = annotations(result)
    assert line.startswith("::error title=probebench::4 cases in 4 sweeps: 4 new")
    assert line.count("%0Anew: ") == 4
    text = step_summary.read_text()
    assert text.startswith("before\n## probebench")
    assert "new: tiny-blobs-final has no baseline to be compared with" in text
    (line,) = annotations(run("--probe-update=all", "--probe-strict", "--probe-site=final"))
    assert line.startswith("::notice")


def test_a_sweep_that_fails_is_in_the_error(project, run, step_summary):
    project.makepyfile(
        test_tiny="import pytest\n@pytest.mark.probe(model='tiny', dataset=['blobs', 'no_class_two'], site='final')\n"
        "def test_probe(probe):\n    probe.check()\n"
    )
    (line,) = annotations(run())
    assert line.startswith("::error")
    assert "%0Acould not be measured: tiny-no_class_two: DataError: dataset 'no_class_two'" in line
    assert "### Could not be measured" in step_summary.read_text()


EXPECTED = """
import pytest
pytestmark = pytest.mark.probe(model="tiny", dataset=["blobs", "no_class_two"], site="final")

@pytest.mark.xfail
def test_known(probe):
    probe.check()

def test_caught(probe):
    with pytest.raises(pytest.fail.Exception):
        probe.check()
"""


def test_what_is_expected_to_fail_is_no_error(project, run, step_summary):
    project.makepyfile(test_tiny=EXPECTED)
    result = run("--probe-strict")
    result.assert_outcomes(passed=2, xfailed=2)
    (line,) = annotations(result)
    assert line.startswith("::notice")
    text = step_summary.read_text()
    assert text.startswith("## probebench: 1 sweep could not be measured (no test fails)\n")
    assert "Fails with" not in text
    (line,) = annotations(run("--probe-strict", "--runxfail"))
    assert line.startswith("::error")
    assert line.count("%0Anew: tiny-blobs-final") == line.count("%0Acould not be measured: tiny-no_class_two") == 1


def test_a_test_that_fails_for_a_reason_of_its_own_is_in_the_error(project, run, step_summary):
    project.makepyfile(
        test_tiny="import pytest\n@pytest.mark.probe(model='tiny', dataset='blobs', site='final')\n"
        "def test_floor(probe):\n    assert probe.accuracy > 1\n"
    )
    (line,) = annotations(run())
    assert line.startswith("::error")
    assert line.endswith("%0Afailed: test_tiny.py::test_floor[tiny-blobs-final]")
    assert "### Failed tests" in step_summary.read_text()


@pytest.mark.parametrize("environ", [{}, {"GITHUB_ACTIONS": "false"}])
def test_elsewhere_nothing_is_left(run, step_summary, monkeypatch, environ):
    monkeypatch.delenv("GITHUB_ACTIONS")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert annotations(run("--probe-site=final")) == []
    assert not step_summary.exists()


def test_a_run_without_cases_leaves_nothing(project, run, step_summary):
    project.makepyfile(test_other="def test_one(): pass")
    assert annotations(run("test_other.py")) == []
    assert not step_summary.exists()
