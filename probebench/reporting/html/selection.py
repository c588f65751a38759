"""Selections: the tap that each sweep chose, the optimism of its best tap, and the taps that are tied with it."""

from __future__ import annotations

from dataclasses import dataclass

from probebench.catalog.tasks import Task
from probebench.records.view import RecordView, SweepView
from probebench.reporting.html.numbers import DASH

_BY = {"held_out": "held-out images", "test": "test images"}


@dataclass(frozen=True)
class Choice:
    """The choice of one sweep, as text.

    Attributes:
        by: the images that it was chosen on
        tied: ids of the taps that tests cannot distinguish from it; None if that is not known
        distinguished: the numbers of taps that are worse and better; empty if that is not known
    """

    sweep: SweepView
    tap: str
    by: str
    score: str
    accuracy: str
    interval: str
    gain: str
    best: str
    best_accuracy: str
    optimism: str
    tied: list[str] | None
    distinguished: str


def choices(contents: RecordView) -> list[Choice]:
    """One for each sweep, dataset by dataset."""
    return [_choice(sweep) for sweeps in contents.datasets.values() for sweep in sweeps]


def mean_optimism(contents: RecordView) -> str:
    """The mean over the sweeps whose tap was chosen on held-out images, of each task; empty if there is none."""
    gaps: dict[Task, list[float]] = {}
    for sweep in contents.sweeps:
        if sweep.selection["by"] == "held_out":
            gaps.setdefault(sweep.task, []).append(sweep.selection["optimism"])
    return " and ".join(
        f"{task.points(sum(own) / len(own))}{'' if task.percent else f' ({task.score})'}" for task, own in gaps.items()
    )


def _choice(sweep: SweepView) -> Choice:
    selection, chosen, task = sweep.selection, sweep.chosen, sweep.task
    worse, better = selection["worse"], selection["better"]
    best = next(row for tap, row in sweep.rows.items() if tap.id == selection["best"])
    return Choice(
        sweep=sweep,
        tap=chosen.tap.id,
        by=_BY[selection["by"]],
        score=task.number(selection["score"]),
        accuracy=task.number(chosen.case["accuracy"]),
        interval=task.interval(chosen.case["ci95"], DASH),
        gain=task.change(chosen.gain_output),
        best=best.tap.id,
        best_accuracy=task.text(best.case["accuracy"]) if task.percent else task.number(best.case["accuracy"]),
        optimism=task.change(selection["optimism"]),
        tied=selection["tied"],
        distinguished="" if worse is None or better is None else f"{worse} worse, {better} better",
    )
