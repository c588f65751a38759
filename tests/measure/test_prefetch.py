from __future__ import annotations

import threading

import pytest
import torch

from probebench.catalog.cases import Sweep
from probebench.catalog.protocols import get_protocol
from probebench.measure.prefetch import Ahead, worthwhile

ONE, TWO = Sweep("a", "x", "default@1"), Sweep("a", "y", "default@1")


@pytest.mark.parametrize(
    ("device", "protocol", "expected"),
    [
        ("cpu", "default@1", False),
        ("cuda", "default@1", True),
        ("cuda:1", "default@1+bf16", True),
        ("cuda", "default@1+tf32", False),
    ],
)
def test_it_is_for_devices_that_fits_leave_alone(device, protocol, expected):
    assert worthwhile(device, get_protocol(protocol)) is expected


def test_what_has_begun_is_taken_once():
    ahead = Ahead()
    assert ahead.take(ONE) is None
    ahead.start(ONE, lambda progress: "begun")
    ahead.start(TWO, lambda progress: "never")
    assert ahead.take(ONE) == "begun"
    assert ahead.take(ONE) is None
    ahead.start(TWO, lambda progress: "two")
    assert ahead.take(TWO) == "two"


def test_it_has_the_threads_of_its_process_while_a_fit_is_on_one():
    ahead, fitting, before = Ahead(), threading.Event(), torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        ahead.start(ONE, lambda progress: fitting.wait(10) and torch.get_num_threads())
        torch.set_num_threads(1)
        fitting.set()
        assert ahead.take(ONE) == 4
    finally:
        torch.set_num_threads(before)


def test_a_failure_is_left_to_the_sweeps_own_turn():
    ahead = Ahead()
    ahead.start(ONE, lambda progress: 1 / 0)
    assert ahead.take(ONE) is None
    assert not ahead.busy


@pytest.mark.parametrize("how", ["drop", "another sweep"])
def test_work_that_nobody_wants_stops(how):
    ahead, begun, steps = Ahead(), threading.Event(), []

    def endless(progress):
        while True:
            steps.append(1)
            progress.advance(1)
            begun.set()

    ahead.start(ONE, endless)
    assert begun.wait(10)
    assert ahead.busy
    ahead.drop() if how == "drop" else ahead.take(TWO)
    count = len(steps)
    assert not ahead.busy
    assert ahead.take(ONE) is None
    assert len(steps) == count


def test_dropping_nothing_is_nothing():
    Ahead().drop()
