"""Which tap each sweep chose, how much better its best tap looks, and which taps cannot be told from the choice."""

from __future__ import annotations

from dataclasses import dataclass

from probebench._format import percent, signed
from probebench.records.view import RecordView, SweepView
from probebench.reporting.html.numbers import interval

_BY = {"held_out": "held-out images", "test": "test images"}


@dataclass(frozen=True)
class Choice:
    """The choice of one sweep, as text.

    Attributes:
        by: on which images it was chosen
        tied: ids of the taps that tests cannot tell from it; None where that is not known
        told_apart: how many taps are worse and better than it; empty where that is not known
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
    told_apart: str


def choices(contents: RecordView) -> list[Choice]:
    """One for each sweep, dataset by dataset."""
    return [_choice(sweep) for sweeps in contents.datasets.values() for sweep in sweeps]


def mean_optimism(contents: RecordView) -> str:
    """In points, over the sweeps whose tap was chosen on held-out images; empty where there is none."""
    gaps = [s.selection["optimism"] for s in contents.sweeps if s.selection["by"] == "held_out"]
    return signed(sum(gaps) / len(gaps)) if gaps else ""


def _choice(sweep: SweepView) -> Choice:
    selection, chosen = sweep.selection, sweep.chosen
    worse, better = selection.get("worse"), selection.get("better")
    best = next(row for tap, row in sweep.rows.items() if tap.id == selection["best"])
    return Choice(
        sweep=sweep,
        tap=chosen.tap.id,
        by=_BY[selection["by"]],
        score=percent(selection["score"]),
        accuracy=percent(chosen.case["accuracy"]),
        interval=interval(chosen.case["ci95"]),
        gain=signed(chosen.gain_final),
        best=best.tap.id,
        best_accuracy=percent(best.case["accuracy"]),
        optimism=signed(selection["optimism"]),
        tied=selection.get("tied"),
        told_apart="" if worse is None or better is None else f"{worse} worse, {better} better",
    )
