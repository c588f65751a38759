"""Ctrl-C in mid-sweep: what had finished is reported and saved."""

from __future__ import annotations

import pytest

from probebench.records import run_record
from tests.conftest import ONE_COUNT
from tests.records.valid import validate

SLOW_STOP = """
from dataclasses import replace
import probebench.probes.evaluate as probing
from probebench.probes import find_probe

def interrupted(name):
    probe = find_probe(name)
    def fit(*args):
        for count, pair in enumerate(probe.fit_matched(*args)):
            if len(calls) == 2 and count == 5:
                raise KeyboardInterrupt
            yield pair
    calls.append(name)
    return replace(probe, fit_matched=fit)

calls = []
import pytest

@pytest.fixture(autouse=True, scope="session")
def stop(request):
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(probing, "find_probe", interrupted)
    yield
    monkeypatch.undo()
"""


def test_ctrl_c_in_mid_sweep_keeps_what_had_finished(project):
    project.makeconftest((project.path / "conftest.py").read_text() + SLOW_STOP)
    args = ("-p", "no:cacheprovider", "--probe-jobs=1", "--probe-json=r.json", "--probe-update=all")
    result = project.runpytest_inprocess(*args, no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    record = run_record.load(project.path / "r.json")
    validate(record)
    assert record["interrupted"] is True
    # The first sweep whole, five taps of the second.
    assert len(record["cases"]) == ONE_COUNT + 5
    result.stdout.fnmatch_lines(
        [
            f"{ONE_COUNT + 5} cases in 2 sweeps: {ONE_COUNT + 5} new*",
            "baselines: not updated, because the run did not get to its end",
            "run record: r.json (interrupted: what had finished)",
            "*KeyboardInterrupt*",
        ]
    )
    # The second sweep has taps, but no line of a finished sweep.
    result.stdout.fnmatch_lines(["tiny on blobs: * (1 of 4 sweeps, about * left)"])
    result.stdout.no_fnmatch_line("tiny on blobs_dark: *")
    assert not (project.path / "baselines").exists()


# pytest looks for the source of each line of the traceback, and may be interrupted where there is none.
TRIPPING = """
import pytest

@pytest.hookimpl
def pytest_keyboard_interrupt(excinfo):
    raise TypeError("unsupported operand type(s) for -: 'NoneType' and 'int'")
"""


def test_ctrl_c_that_pytest_trips_over_is_one_all_the_same(project):
    project.makeconftest((project.path / "conftest.py").read_text() + SLOW_STOP + TRIPPING)
    args = ("-p", "no:cacheprovider", "--probe-jobs=1", "--probe-json=r.json", "--probe-update=all")
    project.runpytest_inprocess(*args, no_reraise_ctrlc=True)
    assert run_record.load(project.path / "r.json")["interrupted"] is True
    assert not (project.path / "baselines").exists()
    assert list((project.path / ".probebench" / "unfinished").glob("*/tiny-blobs.json"))


def test_stopping_at_the_first_failure_saves_the_record_too(project, run):
    result = run("--probe-json=r.json", "--probe-strict", "-x")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert len(run_record.load(project.path / "r.json")["cases"]) == ONE_COUNT
