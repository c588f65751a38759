"""Controls: the part of the chosen taps' gain over ``output`` that equal width and a random network leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from probebench.catalog.tasks import Task
from probebench.records.cases import task_of
from probebench.records.ranking import Row, best_taps
from probebench.records.types import Record

SHIFTS = ("none", "shift", "strong")


@dataclass(frozen=True)
class Controls:
    """The gains of one model's chosen taps, averaged over datasets, as fractions.

    Attributes:
        model: its name
        task: that all these datasets have
        datasets: the number averaged over: those that have the gain and every control below that is not None
        gain: over ``output``
        equal_width: the same, of probes that read no more features than the residual stream is wide
        random: the gain of the same taps of the random control over the control's ``output``
        survived: the part that both controls leave (`Row.survived`)
        survived_by_shift: the same over the datasets of each shift, if there are several
    """

    model: str
    task: Task
    datasets: int
    gain: float
    equal_width: float | None
    random: float | None
    survived: float | None
    survived_by_shift: dict[str, float]


def controls(record: Record, ranking: dict[str, list[Row]]) -> list[Controls]:
    """The controls of each model that has any, task by task; random controls themselves have no entry."""
    task_by_dataset = {sweep["dataset"]: task_of(sweep) for sweep in record["sweeps"]}
    shift_of = {sweep["dataset"]: sweep["shift"] for sweep in record["sweeps"]}
    random = {sweep["model"] for sweep in record["sweeps"] if sweep["control_of"]}
    by_model: dict[tuple[str, Task], list[Row]] = {}
    for row in best_taps(ranking):
        if row.case["model"] not in random and row.gain_output is not None:
            by_model.setdefault((row.case["model"], task_by_dataset[row.case["dataset"]]), []).append(row)
    found = []
    for (model, task), rows in by_model.items():
        both = [row for row in rows if row.survived is not None]
        width = [row for row in rows if row.gain_equal_width is not None]
        beside = [row for row in rows if row.gain_random is not None]
        # All averages over the same datasets, or they could not be subtracted.
        kept = both or width or beside
        if not kept:
            continue
        groups = {shift: [row for row in both if shift_of[row.case["dataset"]] == shift] for shift in SHIFTS}
        groups = {shift: members for shift, members in groups.items() if members}
        found.append(
            Controls(
                model=model,
                task=task,
                datasets=len(kept),
                gain=_mean([row.gain_output for row in kept]),
                equal_width=_mean([row.gain_equal_width for row in kept]) if both or width else None,
                random=_mean([row.gain_random for row in kept]) if both or not width else None,
                survived=_mean([row.survived for row in both]) if both else None,
                survived_by_shift={shift: _mean([row.survived for row in own]) for shift, own in groups.items()}
                if len(groups) > 1
                else {},
            )
        )
    return found


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known)
