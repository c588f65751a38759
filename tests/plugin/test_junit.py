"""What a JUnit report says of cases and of the run."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from probebench.catalog.protocols import DEFAULT
from probebench.records import run_record

ONE = ("--probe-model=tiny", "--probe-dataset=blobs", "--probe-layer=final")


def properties(node):
    return {each.get("name"): each.get("value") for each in node.findall("properties/property")}


@pytest.mark.parametrize("family", ["xunit1", "xunit2"])
def test_properties_of_the_run_and_of_its_cases_arrive_in_both_families(project, run, family):
    run("--probe-update=all", *ONE)
    result = run("--junitxml=j.xml", "-o", f"junit_family={family}", "--probe-json=r.json", "-W", "error", *ONE)
    result.assert_outcomes(passed=1)
    assert "warning" not in result.stdout.str().lower()
    suite = ET.parse(project.path / "j.xml").getroot().find("testsuite")
    assert properties(suite) == {
        "probe_protocol": "default@2",
        "probe_fingerprint": DEFAULT.fingerprint,
        "probe_run_record": "r.json",
    }
    (case,) = run_record.load(project.path / "r.json")["cases"]
    found = properties(suite.find("testcase"))
    assert found["probe_verdict"] == "same"
    assert float(found["probe_accuracy"]) == float(found["probe_baseline_accuracy"]) == case["accuracy"]


def test_a_run_without_a_baseline_has_no_property_for_it(project, run):
    run("--junitxml=j.xml", *ONE)
    suite = ET.parse(project.path / "j.xml").getroot().find("testsuite")
    assert properties(suite.find("testcase")).keys() == {"probe_accuracy", "probe_verdict"}
    assert properties(suite)["probe_run_record"].startswith(".probebench/runs/")


def test_runs_without_cases_and_without_junit_are_left_alone(project, run):
    run("-p", "no:junitxml", *ONE).assert_outcomes(passed=1)
    project.makepyfile(test_tiny="def test_one(): pass")
    run("--junitxml=j.xml").assert_outcomes(passed=1)
    assert properties(ET.parse(project.path / "j.xml").getroot().find("testsuite")) == {}


def test_a_case_that_is_checked_twice_is_entered_once(project, run):
    case = "import pytest\n@pytest.mark.probe(model='tiny', dataset='blobs')\ndef test_probe(probe):\n"
    project.makepyfile(test_tiny=case + "    probe.check()\n    probe.check()\n")
    run("--junitxml=j.xml", *ONE).assert_outcomes(passed=1)
    suite = ET.parse(project.path / "j.xml").getroot().find("testsuite")
    assert len(suite.findall("testcase/properties/property")) == 2
