"""What workers and their controller leave for each other."""

from __future__ import annotations

import errno
import os
import time

import numpy as np
import pytest
from filelock import FileLock

from probebench.catalog.cases import Case, Sweep
from probebench.catalog.taps import Tap, all_taps
from probebench.errors import StoreError
from probebench.measure.availability import SkippedSweep
from probebench.measure.outcome import SweepOutcome
from probebench.plugin.xdist import exchange
from probebench.plugin.xdist.exchange import ExchangeDirectory
from tests.records.samples import right, stored

SWEEP = Sweep("net", "digits", "default@2")
TAPS = {"L01-act": right(700, 3, 2), "final": right(600)}


def measured(**more):
    run = stored({("net", "digits"): TAPS})
    (record,) = run.record["sweeps"]
    return SweepOutcome(SWEEP, record, run.record["cases"], dict(run.correct), complete=True, **more)


@pytest.fixture
def folder(tmp_path):
    return ExchangeDirectory(tmp_path / "workers" / "one")


def test_what_a_worker_has_measured_arrives(folder):
    sent = measured(complaints={"net-digits-final": "regressed: ..."}, stale=["net-digits-L09-act"], error="E: é")
    assert folder.ended(SWEEP) is None
    folder.end(sent)
    found = folder.ended(SWEEP)
    assert {k: v for k, v in vars(found).items() if k != "correct"} == {
        k: v for k, v in vars(sent).items() if k != "correct"
    }
    assert found.correct.keys() == sent.correct.keys()
    assert all(np.array_equal(found.correct[name], sent.correct[name]) for name in sent.correct)
    assert found.case(Case(SWEEP, Tap("final", "final")))["accuracy"] == 0.6
    assert found.case(Case(SWEEP, Tap(1, "rc2"))) is None
    baseline = found.baseline()
    assert (baseline.sweep, baseline.n_test, baseline.weights) == (SWEEP, 1000, "a" * 16)
    assert baseline.accuracy(Tap(1, "act")) == right(700, 3, 2).mean()


def test_several_draws_arrive_as_they_were(folder):
    sent = measured()
    sent.cases = [case | {"draws": 4, "n_test": 250} for case in sent.cases]
    sent.correct = {name: bits.reshape(4, 250) for name, bits in sent.correct.items()}
    folder.end(sent)
    found = folder.ended(SWEEP)
    assert all(np.array_equal(found.correct[name], sent.correct[name]) for name in sent.correct)
    assert (found.baseline().draws, found.baseline().n_test) == (4, 250)


def test_a_sweep_that_failed_before_its_first_tap_arrives(folder):
    folder.end(SweepOutcome(SWEEP, error="DataError: no", traceback="Traceback ..."))
    assert folder.ended(SWEEP) == SweepOutcome(SWEEP, error="DataError: no", traceback="Traceback ...")


def test_damage_is_found(folder, tmp_path):
    folder.end(measured())
    (side,) = tmp_path.rglob("*.safetensors")
    side.write_bytes(side.read_bytes()[:-1] + b"\xff")
    with pytest.raises(StoreError, match="not from the same run"):
        folder.ended(SWEEP)
    (path,) = (path for path in tmp_path.rglob("*.json"))
    path.write_text(path.read_text()[:50])
    with pytest.raises(StoreError, match="cannot be read"):
        folder.ended(SWEEP)


def test_who_begins_with_a_sweep_is_known(folder):
    assert folder.begun() == {}
    assert folder.begin(SWEEP, "gw0") is None
    assert folder.begin(SWEEP, "gw2") == "gw0"
    assert folder.begin(Sweep("net", "letters", "default@2"), "gw1") is None
    assert folder.begun() == {SWEEP: "gw0", Sweep("net", "letters", "default@2"): "gw1"}


def test_what_is_skipped_arrives(folder):
    skipped = SkippedSweep(SWEEP, 99, True, ("digits", "cifar10"), requested=True, model_requested=True)
    assert folder.skipped() == []
    folder.add_skipped(skipped)
    assert folder.skipped() == [skipped]


def test_what_was_collected_is_announced(folder):
    assert folder.announced("gw0") is None
    folder.announce("gw0", {"error": None, "items": [["a.py::test[x]", 0, "final"]]})
    assert folder.announced("gw0")["items"] == [["a.py::test[x]", 0, "final"]]
    assert folder.announced("gw1") is None


def test_nothing_is_left_in_the_end(folder, tmp_path):
    folder.own()
    folder.end(measured())
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_folders_of_runs_that_were_killed_are_removed_and_others_left(folder, tmp_path):
    for name in ("killed", "running", "new"):
        ExchangeDirectory(tmp_path / "workers" / name).end(measured())
    (tmp_path / "workers" / "file").touch()
    hours_ago = time.time() - 2 * exchange._JUST_MADE
    lock = FileLock(tmp_path / "workers" / "running" / ".lock")
    with lock:
        for name in ("killed", "running", "file"):
            os.utime(tmp_path / "workers" / name, (hours_ago, hours_ago))
        folder.own()
    assert {path.name for path in (tmp_path / "workers").iterdir()} == {"one", "running", "new", "file"}
    folder.remove()
    assert {path.name for path in (tmp_path / "workers").iterdir()} == {"running", "new", "file"}


def test_a_disk_that_has_no_locks_is_explained(folder, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(StoreError, match=r"cannot lock .*workers/one/\.lock: No locks available"):
        folder.own()


def test_outcomes_make_baselines_of_all_taps():
    taps = {tap.id: right(500 + i) for i, tap in enumerate(all_taps(2))}
    run = stored({("net", "digits"): taps})
    baseline = SweepOutcome(SWEEP, run.record["sweeps"][0], run.record["cases"], dict(run.correct)).baseline()
    assert {tap.id: int(bits.sum()) for tap, bits in baseline.correct.items()} == {
        name: 500 + i for i, name in enumerate(taps)
    }
