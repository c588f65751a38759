"""The lines of finished sweeps, and the time left."""

from __future__ import annotations

import pytest

from probebench.catalog.cases import Sweep
from probebench.measure.outcome import SweepOutcome
from probebench.reporting.finished import FinishedSweeps
from tests.reporting import boards

NET, HARD, OTHER = (
    Sweep(model, dataset, "paper@1") for model, dataset in (("net", "easy"), ("net", "hard"), ("net_random", "easy"))
)
TAPS = {NET: 6, HARD: 6, OTHER: 6}


def outcome(sweep, seconds, **more):
    board = boards.record()
    (record,) = (one for one in board["sweeps"] if (one["model"], one["dataset"]) == (sweep.model, sweep.dataset))
    cases = [one for one in board["cases"] if (one["model"], one["dataset"]) == (sweep.model, sweep.dataset)]
    return SweepOutcome(sweep, record=record | {"wall_seconds": seconds}, cases=cases, **{"complete": True} | more)


def test_a_line_has_the_chosen_tap_its_gain_and_times():
    finished = FinishedSweeps(TAPS, places=1)
    # 60 s a sweep, as far as is known.
    first = "net on easy: L01-act 90.0%, +15.0 over output, 60 s (1 of 3 sweeps, about 2 min left)"
    assert finished.add(outcome(NET, 60.0)) == first
    assert finished.add(outcome(NET, 60.0)) == ""  # pytest may come back to a sweep
    second = "net on hard: L01-act 60.0%, +45.0 over output, measured before (2 of 3 sweeps, about 60 s left)"
    assert finished.add(outcome(HARD, 6.0, recalled=True)) == second  # the last one is on the first one's dataset
    last = "net_random on easy: embed 40.0%, +35.0 over output, 3.0 s (3 of 3 sweeps)"
    assert finished.add(outcome(OTHER, 3.0)) == last


def test_a_gain_that_is_not_known_is_left_out():
    found = outcome(NET, 1.0)
    found.cases = [case for case in found.cases if case["site"] == "act"]
    assert FinishedSweeps({NET: 2}, places=1).add(found) == "net on easy: L01-act 90.0%, 1.0 s (1 of 1 sweep)"


@pytest.mark.parametrize("more", [{"complete": False}, {"complete": False, "error": "DataError: it broke"}])
def test_what_did_not_finish_has_no_line_and_is_not_waited_for(more):
    finished = FinishedSweeps(TAPS, places=1)
    assert finished.add(outcome(NET, 1.0, **more)) == ""
    finished.drop(OTHER)
    assert finished.add(outcome(HARD, 1.0)).endswith("(3 of 3 sweeps)")


def test_sweeps_side_by_side_take_at_least_as_long_as_the_longest():
    def left(places, taps):
        return FinishedSweeps(TAPS | taps, places).add(outcome(NET, 60.0)).partition("about ")[2]

    assert left(1, {}) == "2 min left)"
    assert left(2, {}) == "60 s left)"
    assert left(8, {OTHER: 9}) == "90 s left)"
