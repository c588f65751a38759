"""Selections: the tap that each sweep chose, the optimism of its best tap, and the taps that are tied with it."""

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
    """The mean in points over the sweeps whose tap was chosen on held-out images; empty if there is none."""
    gaps = [s.selection["optimism"] for s in contents.sweeps if s.selection["by"] == "held_out"]
    return signed(sum(gaps) / len(gaps)) if gaps else ""


def _choice(sweep: SweepView) -> Choice:
    selection, chosen = sweep.selection, sweep.chosen
    worse, better = selection["worse"], selection["better"]
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
        tied=selection["tied"],
        distinguished="" if worse is None or better is None else f"{worse} worse, {better} better",
    )
