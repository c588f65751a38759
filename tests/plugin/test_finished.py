"""A line for every finished sweep, while the run goes on, wherever it prints to."""

from __future__ import annotations

import re

import pytest

from tests.conftest import FEW

LINE = re.compile(r"(tiny|tiny_other) on (blobs|blobs_dark): final \d+\.\d%, \d+\.\d s \(.*\)")
BROKEN = """
@pytest.mark.probe(model="tiny", dataset="no_class_two", site="final")
def test_broken(probe):
    probe.check()
"""


@pytest.fixture
def with_failure(project):
    project.makepyfile(test_tiny=(project.path / "test_tiny.py").read_text() + BROKEN)
    return project


def shown(result):
    lines = [line for line in result.stdout.lines if " on " in line and " sweeps" in line]
    finished = [line for line in lines if not line.startswith("probebench: ")]
    assert [line for line in finished if not LINE.fullmatch(line)] == []
    return [tuple(line.partition(":")[0].split(" on ")) for line in finished]


ALL = [("tiny", "blobs"), ("tiny", "blobs_dark"), ("tiny_other", "blobs"), ("tiny_other", "blobs_dark")]


@pytest.mark.parametrize(
    ("args", "rows"),
    [
        ([], ["test_tiny.py ", "tiny on blobs: *", "test_tiny.py .", "tiny on blobs_dark: *", "test_tiny.py .", "*"]),
        (["-q"], ["tiny on blobs: *", ".", "tiny on blobs_dark: *", ".", "tiny_other on blobs: *", "."]),
        (["-v"], ["test_tiny.py::*-final? ", "tiny on blobs: *", "test_tiny.py::*-final? PASSED *"]),
        (["-s"], ["test_tiny.py ", "tiny on blobs: *", "test_tiny.py .", "tiny on blobs_dark: *"]),
    ],
    ids=["plain", "quiet", "verbose", "uncaptured"],
)
def test_lines_stand_alone_among_the_results(with_failure, run, args, rows):
    result = run(*args, *FEW)
    assert result.parseoutcomes() == {"passed": 4, "failed": 1}
    result.stdout.fnmatch_lines(rows, consecutive=True)
    assert shown(result) == ALL  # nothing of the sweep that failed


def test_nothing_is_shown_where_almost_nothing_is(project, run):
    result = run("-qq", *FEW)
    assert shown(result) == []


@pytest.mark.parametrize("args", [["-q"], ["-v"]])
def test_the_controller_shows_them_as_workers_report(with_failure, run, args):
    result = run("-n2", *args, *FEW)
    assert result.parseoutcomes() == {"passed": 4, "failed": 1}
    assert sorted(shown(result)) == ALL
    assert [line for line in result.stdout.lines if line.startswith(".")] or "-v" in args
