"""One line for every finished sweep, while a run goes on: its result, and about how long the others will take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from probebench._format import counted, duration

if TYPE_CHECKING:
    from probebench.catalog.cases import Sweep
    from probebench.catalog.tasks import Task
    from probebench.measure.outcome import SweepOutcome
    from probebench.records.ranking import Row
    from probebench.records.types import Record


def gain_over_reference(row: Row, task: Task) -> str:
    """The gain that a leaderboard shows for a tap, and what it is relative to; empty if that is unknown."""
    return "" if row.gain_output is None else f"{task.change(row.gain_output)} over output"


class FinishedSweeps:
    """The sweeps of a run, those that have finished, and their lines.

    The time left is estimated from the seconds a tap that the finished sweeps took: of those on the same dataset if
    there are any, else of those of the same model, else of all.

    Args:
        taps: number of taps of each sweep of the run
        places: how many sweeps are measured at a time
    """

    def __init__(self, taps: Mapping[Sweep, int], places: int) -> None:
        self._left, self._count, self._places = dict(taps), len(taps), places
        self._seconds: dict[Sweep, float] = {}  # a tap

    def add(self, outcome: SweepOutcome) -> str:
        """Note that a sweep is over.

        Returns:
            its line; empty if it was added before, or is not complete: it failed, or was interrupted
        """
        taps = self._left.pop(outcome.sweep, None)
        if taps is None or not outcome.complete or outcome.record is None:
            return ""
        seconds = outcome.record["wall_seconds"]
        self._seconds[outcome.sweep] = seconds / taps
        done = f"{self._count - len(self._left)} of {counted(self._count, 'sweep')}"
        if self._left:
            done += f", about {duration(self._estimate_left())} left"
        took = "measured before" if outcome.recalled else duration(seconds)
        return f"{_describe(outcome)}, {took} ({done})"

    def drop(self, sweep: Sweep) -> None:
        """Note that a sweep is not going to be measured."""
        self._left.pop(sweep, None)

    def _estimate_left(self) -> float:
        """Seconds until the last sweep ends, from when none of the others had begun."""
        each = [taps * self._rate(sweep) for sweep, taps in self._left.items()]
        return max(sum(each) / self._places, *each)

    def _rate(self, sweep: Sweep) -> float:
        """Seconds that a tap of a sweep will take. At least one sweep has finished."""
        for alike in (lambda one: one.dataset == sweep.dataset, lambda one: one.model == sweep.model, lambda one: True):
            if found := [rate for one, rate in self._seconds.items() if alike(one)]:
                return sum(found) / len(found)
        raise AssertionError("no sweep has finished")


def _describe(outcome: SweepOutcome) -> str:
    """The result of a sweep, as the leaderboard of a run that had only this sweep would show it."""
    from probebench.records.view import RecordView

    (sweep,) = RecordView(cast("Record", {"sweeps": [outcome.record], "cases": outcome.cases})).sweeps
    gain = gain_over_reference(sweep.chosen, sweep.task)
    score = sweep.task.text(sweep.chosen.case["accuracy"])
    leaked = f", {counted(sweep.leaked, 'test image')} in train" if sweep.leaked else ""
    return f"{sweep.model} on {sweep.dataset}: {sweep.chosen.tap.id} {score}{f', {gain}' if gain else ''}{leaked}"
