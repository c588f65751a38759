"""Tests that each run in a process of their own are refused: what they measure is lost with it."""

from __future__ import annotations

import os

import pytest

from tests.conftest import ONE

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def forked(project):
    """Has the option of pytest-forked, whether that is installed or not."""
    option = "\ndef pytest_addoption(parser):\n    parser.addoption('--forked', action='store_true')\n"
    project.makeconftest((project.path / "conftest.py").read_text() + option)
    return "-p", "no:forked"


def test_forked_is_refused_where_there_are_cases(project, run, forked):
    result = run(*forked, "--forked")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --forked runs each case in a process of its own, * leave it out. With -n, *"])
    project.makepyfile(test_other="def test_one(): pass")
    run(*forked, "--forked", "test_other.py").assert_outcomes(passed=1)


def test_the_mark_is_refused_on_cases_only(project, run, forked):
    case = "import pytest\n@pytest.mark.forked\n@pytest.mark.probe(model='tiny', dataset='blobs', site='final')\n"
    project.makepyfile(test_tiny=case + "def test_probe(probe): probe.check()\n")
    result = run(*forked)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: test_tiny.py::test_probe[[]tiny-blobs-final]: the mark `forked` runs each *"])


# As plugins do that nobody here has heard of.
FORKING = """
import os
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    if (child := os.fork()) == 0:
        reports = runtestprotocol(item, nextitem=None, log=False)
        with open(f"reports-{os.getpid()}", "w") as file:
            print(*(report.longrepr for report in reports if report.failed), file=file)
        os._exit(0)
    os.waitpid(child, 0)
    return True
"""


def test_a_child_process_of_any_other_plugin_measures_nothing(project, run):
    project.makeconftest((project.path / "conftest.py").read_text() + FORKING)
    run(*ONE, "--probe-layer=1", "-p", "no:xdist")
    texts = [path.read_text() for path in project.path.glob("reports-*")]
    assert len(texts) == 8
    assert all("some plugin runs each case in a process of its own" in text for text in texts)
