"""Baselines that several processes write, some of which die."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probebench.catalog.taps import all_taps
from probebench.errors import StoreError
from probebench.records import baselines
from tests.records.test_baselines import ACT, RC2, SWEEP, N, result, right, stored, update

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="importing probebench anew in each process takes seconds"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

TAPS = all_taps(12)
OLD, NEW = (stored({tap: right(count) for tap in TAPS}) for count in (700, 600))


def in_a_child(work) -> int:
    """Run a function in another process; its id."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return child


def whose(directory: Path) -> str:
    """Which of the two baselines a directory has: whole, or this raises."""
    found = baselines.read(directory, SWEEP)
    for name, each in (("old", OLD), ("new", NEW)):
        if all(np.array_equal(found.correct[tap], each.correct[tap]) for tap in TAPS):
            return name
    raise AssertionError("neither")


def test_a_writer_killed_at_any_time_leaves_one_pair_or_the_other(tmp_path):
    started, start = os.pipe()

    def write_for_ever(order):
        while True:
            for each in order:
                with baselines.locked(tmp_path):
                    os.write(start, b".")
                    baselines.write(tmp_path, each)

    clock = time.perf_counter()
    for each in (NEW, OLD):
        baselines.write(tmp_path, each)
    longest = max(0.05, time.perf_counter() - clock)  # so that some are killed before and some behind their first
    rng, seen = np.random.default_rng(0), set()
    for i in range(30):
        child = in_a_child(lambda order=((OLD, NEW), (NEW, OLD))[i % 2]: write_for_ever(order))
        os.read(started, 1)
        time.sleep(rng.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.set_blocking(started, False)
        with suppress(BlockingIOError):
            os.read(started, 1 << 16)
        os.set_blocking(started, True)
        seen.add(whose(tmp_path))
    assert seen == {"old", "new"}
    # The lock of the dead is free, and what they left lying is cleared away.
    with baselines.locked(tmp_path):
        baselines.write(tmp_path, OLD)
    assert sorted(path.name for path in (tmp_path / "paper@1").iterdir()) == [
        "glyphvit-digits.json",
        "glyphvit-digits.safetensors",
    ]


@pytest.mark.parametrize(("step", "survivor"), [(1, "old"), (2, "old"), (3, "new")])
def test_a_crash_at_every_step(tmp_path, monkeypatch, step, survivor):
    class Killed(BaseException):
        pass

    calls = []

    def dying(original):
        def renaming(*args, **kwargs):
            calls.append(args)
            if len(calls) == step:
                raise Killed
            return original(*args, **kwargs)

        return renaming

    baselines.write(tmp_path, OLD)
    with monkeypatch.context() as patch:
        for module, name in ((os, "replace"), (Path, "replace")):
            patch.setattr(module, name, dying(getattr(module, name)))
        with pytest.raises(Killed):
            baselines.write(tmp_path, NEW)
    assert whose(tmp_path) == survivor
    # A second crash at the first step, on top of the first, takes nothing away.
    with monkeypatch.context() as patch:
        calls, step = [], 1
        patch.setattr(os, "replace", dying(os.replace))
        with pytest.raises(Killed):
            baselines.write(tmp_path, replace(OLD, n_test=N, weights="v" * 16))
    assert whose(tmp_path) == survivor


def test_readers_see_one_pair_or_the_other_while_somebody_writes(tmp_path):
    def write():
        for _ in range(40):
            for each in (NEW, OLD):
                with baselines.locked(tmp_path):
                    baselines.write(tmp_path, each)
                time.sleep(0.005)  # a reader looks five times, and nobody writes without a pause

    baselines.write(tmp_path, OLD)
    child, reads = in_a_child(write), 0
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        whose(tmp_path)
        reads += 1
    assert reads > 5


def test_a_baseline_that_somebody_is_removing_is_none(tmp_path, monkeypatch):
    baselines.write(tmp_path, OLD)
    unlink, seen_in_part, removed, answers = Path.unlink, threading.Event(), threading.Event(), []

    def second_look(seconds):
        if seconds:
            seen_in_part.set()
            removed.wait(10)

    with ThreadPoolExecutor(1) as threads:

        def slow(self, **kwargs):
            unlink(self, **kwargs)
            if self.suffix == ".json":
                answers.append(threads.submit(baselines.read, tmp_path, SWEEP))
                seen_in_part.wait(1)

        monkeypatch.setattr(baselines.time, "sleep", second_look)
        monkeypatch.setattr(Path, "unlink", slow)
        baselines.remove(tmp_path, SWEEP)
        removed.set()
        assert answers[0].result() is None


def test_no_update_of_several_processes_is_lost(tmp_path):
    def updates(mine):
        for tap in mine:
            assert update(tmp_path, result({tap: right(500)}), "new")

    children = [in_a_child(lambda part=part: updates(TAPS[part::4])) for part in range(4)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert set(baselines.read(tmp_path, SWEEP).correct) == set(TAPS)


def test_an_update_counts_with_what_was_stored_since_its_sweep_was_compared(tmp_path):
    first, second = result({ACT: right(700)}), result({RC2: right(600)})
    assert baselines.read(tmp_path, SWEEP) is None
    update(tmp_path, first, "all")
    update(tmp_path, second, "all")
    assert set(baselines.read(tmp_path, SWEEP).correct) == {ACT, RC2}


def test_a_lock_that_is_never_let_go_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(baselines, "_PATIENCE", 0.1)
    ready = tmp_path / "ready"

    def hold():
        with baselines.locked(tmp_path):
            ready.touch()
            time.sleep(60)

    child = in_a_child(hold)
    while not ready.exists():
        time.sleep(0.01)
    try:
        with pytest.raises(StoreError, match="another process has been writing baselines"):
            update(tmp_path, result({ACT: right(700)}), "new")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
