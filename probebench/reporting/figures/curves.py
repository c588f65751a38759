"""The numbers of figures: accuracy by layer, and the best layer of each site."""

from __future__ import annotations

from dataclasses import dataclass

from probebench.catalog.taps import FINAL, OUTPUT, SITES
from probebench.catalog.tasks import Task
from probebench.records.ranking import Row, best_row
from probebench.records.view import SweepView


@dataclass(frozen=True)
class Curve:
    """Accuracy by layer with 95% intervals, in percent, or another score in its own unit.

    Attributes:
        layers: those that were measured, from 1
        accuracy, low, high: of each
    """

    layers: list[int]
    accuracy: list[float]
    low: list[float]
    high: list[float]


def best_by_layer(sweep: SweepView, pooling: str = "") -> Curve:
    """The best site of each layer, chosen as taps are: on held-out images if there are any.

    Args:
        pooling: of the taps; empty for that of the protocol
    """
    rows: dict[int, list[Row]] = {}
    for tap, row in sweep.rows.items():
        if isinstance(tap.layer, int) and tap.pooling == pooling:
            rows.setdefault(tap.layer, []).append(row)
    return _curve({layer: best_row(own) for layer, own in rows.items()}, sweep.task)


def of_site(sweep: SweepView, site: str) -> Curve:
    """One site of each layer."""
    rows = {tap.layer: row for tap, row in sweep.plain.items() if tap.site == site and isinstance(tap.layer, int)}
    return _curve(rows, sweep.task)


def best_by_site(sweep: SweepView) -> dict[str, Row]:
    """The best layer of each measured site, chosen in the same way, and `references`."""
    found = {}
    for site in SITES:
        if own := [row for tap, row in sweep.plain.items() if tap.site == site]:
            found[site] = best_row(own)
    return found | references(sweep)


def references(sweep: SweepView) -> dict[str, Row]:
    """``final``, and ``output``, which gains are relative to, as far as they were measured."""
    return {name: row for name, row in ((FINAL, sweep.final), (OUTPUT, sweep.output)) if row is not None}


def unit(task: Task) -> int:
    """The number that a score is multiplied with on an axis."""
    return 100 if task.percent else 1


def axis_label(task: Task) -> str:
    """The label of an axis of scores."""
    return f"{task.score} (%)" if task.percent else task.score


def _curve(rows: dict[int, Row], task: Task) -> Curve:
    layers = sorted(rows)
    cases = [rows[layer].case for layer in layers]
    return Curve(
        layers,
        [unit(task) * case["accuracy"] for case in cases],
        [unit(task) * case["ci95"][0] for case in cases],
        [unit(task) * case["ci95"][1] for case in cases],
    )
