"""Layer x site maps of accuracy."""

from __future__ import annotations

from dataclasses import dataclass

from probebench.catalog.taps import EMBED, FINAL, REFERENCES, SITES, Tap
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
        references: the cells of ``embed`` and ``final``, where those were measured
        low, high: the scores of the first and the last colour, as text
    """

    sites: list[str]
    layers: list[tuple[int, list[Cell | None]]]
    references: dict[str, Cell]
    low: str
    high: str


def heat_map(sweep: SweepView) -> HeatMap:
    """The map of a sweep, coloured from the lowest accuracy of its layers to the highest.

    ``embed`` is often so far below them that it would leave them one colour; it has the lowest then.
    """
    scale = [row.case["accuracy"] for tap, row in sweep.rows.items() if tap.layer != EMBED]
    scale = scale or [row.case["accuracy"] for row in sweep.rows.values()]
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

    there = [tap for tap in sweep.rows if tap.layer not in REFERENCES]
    sites = [site for site in SITES if any(tap.site == site for tap in there)]
    layers = sorted({tap.layer for tap in there if isinstance(tap.layer, int)})
    references = {name: cell(sweep.rows.get(Tap(name, name))) for name in (EMBED, FINAL)}
    return HeatMap(
        sites=sites,
        layers=[(layer, [cell(sweep.rows.get(Tap(layer, site))) for site in sites]) for layer in layers],
        references={name: found for name, found in references.items() if found is not None},
        low=_number(low, sweep.task),
        high=_number(high, sweep.task),
    )


def _number(score: float, task: Task) -> str:
    """A score in a cell, which has room for two decimals."""
    return task.number(score) if task.percent else f"{score:z.2f}"
