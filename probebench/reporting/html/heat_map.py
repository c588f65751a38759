"""Layer x site maps of accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from probebench.catalog.taps import COMBINATIONS, EMBED, FINAL, OUTPUT, SITES, Tap
from probebench.catalog.tasks import Task
from probebench.records.ranking import Row
from probebench.records.view import SweepView

STEPS = 9  # colours, in report.css


@dataclass(frozen=True)
class Cell:
    """One case on the map: its number, its colour from 0 (lowest) to STEPS - 1, and what marks it."""

    text: str
    step: int
    chosen: bool
    verdict: str


@dataclass(frozen=True)
class HeatMap:
    """The map of one sweep.

    Attributes:
        sites: of the columns
        layers: number and cells of each row from the input on; a cell is None if nothing was measured
        before: the cells of taps that data meets before the layers, by id: of ``embed``
        after: the same of ``final``, ``output`` and combinations, and of the chosen tap if it has another pooling than
            the protocol
        low, high: the scores of the first and the last colour, as text
    """

    sites: list[str]
    layers: list[tuple[int, list[Cell | None]]]
    before: dict[str, Cell]
    after: dict[str, Cell]
    low: str
    high: str


def heat_map(sweep: SweepView) -> HeatMap:
    """The map of a sweep, coloured from the lowest accuracy of its layers to the highest.

    ``embed`` is often so far below them that it would leave them one colour; it has the lowest then.
    """
    shown = sweep.plain | {sweep.chosen.tap: sweep.chosen}
    scale = [row.case["accuracy"] for tap, row in shown.items() if tap.layer != EMBED]
    scale = scale or [row.case["accuracy"] for row in shown.values()]
    low, high = min(scale), max(scale)

    def cell(row: Row | None) -> Cell | None:
        if row is None:
            return None
        accuracy = row.case["accuracy"]
        share = (accuracy - low) / (high - low) if high > low else float(accuracy >= high)
        return Cell(
            _number(accuracy, sweep.task),
            round(min(1.0, max(0.0, share)) * (STEPS - 1)),
            row.tap == sweep.chosen.tap,
            row.case["verdict"],
        )

    def beside(taps: Iterable[Tap]) -> dict[str, Cell]:
        cells = {tap.id: cell(shown.get(tap)) for tap in taps}
        return {name: found for name, found in cells.items() if found is not None}

    there = [tap for tap in sweep.plain if isinstance(tap.layer, int)]
    sites = [site for site in SITES if any(tap.site == site for tap in there)]
    layers = sorted({tap.layer for tap in there if isinstance(tap.layer, int)})
    after = [Tap(name, name) for name in (FINAL, OUTPUT, *COMBINATIONS)]
    return HeatMap(
        sites=sites,
        layers=[(layer, [cell(shown.get(Tap(layer, site))) for site in sites]) for layer in layers],
        before=beside([Tap(EMBED, EMBED)]),
        after=beside([*after, *(tap for tap in shown if tap.pooling)]),
        low=_number(low, sweep.task),
        high=_number(high, sweep.task),
    )


def _number(score: float, task: Task) -> str:
    """A score in a cell, which has room for two decimals."""
    return task.number(score) if task.percent else f"{score:z.2f}"
