"""Images that are in train and test: a warning in the summary, the record and the report; an error of a strict run."""

from __future__ import annotations

import pytest

from probebench.records import run_record

LEAKY = """
from dataclasses import replace


def leaky(n=60):
    classes, train, test = blobs(n)
    test.images[:5], test.labels[:5] = train.images[:5], train.labels[:5]
    return classes, train, test


_plain = pytest_probebench_datasets


def pytest_probebench_datasets():
    leaky = DatasetSpec(name="leaky", reader="conftest:leaky")
    return [*_plain(), leaky, replace(leaky, name="accepted", duplicates="keep"),
            replace(leaky, name="cleaned", duplicates="drop-train")]
"""
CASES = """
import pytest

@pytest.mark.probe(model="tiny", dataset=["leaky", "accepted", "cleaned"], site=["final"])
def test_probe(probe):
    probe.check()
"""
FOUND = (
    "5 of 60 test images are also among the training images (train image 0 = test image 0); "
    "duplicates='drop-train' leaves them out of training, 'keep' accepts them (in its DatasetSpec, or recommend "
    "--duplicates)"
)


@pytest.fixture
def leaky(project):
    path = project.path / "conftest.py"
    path.write_text(path.read_text() + LEAKY)
    project.makepyfile(test_tiny=CASES)
    return project


def test_they_are_told_in_the_summary_the_record_and_the_report(leaky, run):
    result = run("--probe-json=r.json", "--probe-report=r.html")
    result.assert_outcomes(passed=3)
    told = [line for line in result.stdout.lines if "images of " in line]
    assert told == [
        f"WARNING: images of leaky: {FOUND}",
        "images of accepted: 5 of 60 test images are also among the training images (train image 0 = test image 0)",
        "images of cleaned: 5 duplicate training images were left out",
    ]
    result.stdout.fnmatch_lines(["tiny on leaky: final *%*, 5 test images in train, * (1 of 3 sweeps*"])
    result.stdout.fnmatch_lines(["leaky: 60 test images, default@2; 5 of the test images are also among the training*"])
    sweeps = {sweep["dataset"]: sweep for sweep in run_record.load(leaky.path / "r.json")["sweeps"]}
    assert sweeps["leaky"]["duplicates"] == {
        "test_in_train": 5,
        "within_train": 0,
        "within_test": 0,
        "two_labels": 0,
        "dropped": 0,
        "examples": {"test_in_train": ["train image 0", "test image 0"]},
    }
    assert sweeps["leaky"]["data_notes"] == [f"images of leaky: {FOUND}"]
    assert (sweeps["cleaned"]["duplicates"]["test_in_train"], sweeps["cleaned"]["duplicates"]["dropped"]) == (0, 5)
    assert "<li>images of leaky: 5 of 60 test images" in (leaky.path / "r.html").read_text(encoding="utf-8")


def test_a_strict_run_measures_none_of_them_unless_the_spec_decides(leaky, run):
    run("--probe-update=all").assert_outcomes(passed=3)
    result = run("--probe-strict")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines([f"*DataError: images of leaky: {FOUND}"])
