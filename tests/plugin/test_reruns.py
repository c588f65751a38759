"""Tests that run again because they failed, as pytest-rerunfailures, flaky and pytest-retry make them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

from tests.conftest import ONE_COUNT

# As pytest-rerunfailures does it: the reports of all attempts but the last are dropped.
AGAIN = """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    for attempt in (1, 2):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if not any(report.failed for report in reports):
            break
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    return True
"""


@pytest.fixture
def twice(project):
    project.makeconftest((project.path / "conftest.py").read_text() + AGAIN)


@pytest.mark.usefixtures("twice")
def test_a_case_that_fails_twice_is_entered_once_with_its_time(project, run):
    args = ("--probe-model=tiny", "--probe-dataset=blobs", "--probe-site=final", "--probe-strict")
    run(*args, "--junitxml=j.xml", "--benchmark-json=b.json", "--probe-json=r.json").assert_outcomes(failed=1)
    suite = ET.parse(project.path / "j.xml").getroot().find("testsuite")
    names = [each.get("name") for each in suite.findall("testcase/properties/property")]
    assert names == ["probe_accuracy", "probe_verdict"]
    (benchmark,) = json.loads((project.path / "b.json").read_text())["benchmarks"]
    (case,) = json.loads((project.path / "r.json").read_text())["cases"]
    assert benchmark["stats"]["mean"] == pytest.approx(case["seconds"])


@pytest.mark.usefixtures("twice")
def test_a_sweep_that_failed_is_explained_in_the_last_attempt(project, run, monkeypatch):
    reads = []
    monkeypatch.setattr("probebench.measure.prepare.build_model", lambda *_, **__: reads.append(1) or 1 / 0)
    result = run("--probe-model=tiny", "--probe-dataset=blobs", "--junitxml=j.xml")
    result.stdout.fnmatch_lines(
        ["sweep tiny-blobs could not be measured.", "ZeroDivisionError: *", f"*1 failed, {ONE_COUNT - 1} not measured*"]
    )
    assert len(reads) == 1
    assert result.stdout.str().count("Traceback (most recent call last)") == 1
    first, *others = ET.parse(project.path / "j.xml").getroot().findall("testsuite/testcase")
    assert "ZeroDivisionError" in first.find("failure").text
    assert all(len(case.findall("properties/property")) == 1 for case in others)
