"""The leaderboard of the report: its columns, its first rows for a page without scripts, all rows for the script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from probebench.catalog.taps import COMBINATIONS, EMBED, POOLINGS, REFERENCES, SITES
from probebench.records.ranking import Row
from probebench.records.view import RecordView, SweepView
from probebench.reporting.columns import COLUMNS, FORMATS, Column, Kind, has_metric_column
from probebench.reporting.html.numbers import interval, significant, tenths

PLACES = (*REFERENCES, *COMBINATIONS)
PAGE = 25  # rows that are shown at a time

_FORMATS = FORMATS | {"interval": interval, "number": lambda value: significant(value, 3)}

# For the script: percent and points in tenths and numbers as text, so that it cannot round in another way.
_DATA: dict[Kind, Callable[[Any], int | str | None]] = {
    "count": int,
    "percent": tenths,
    "points": tenths,
    "number": lambda value: significant(value, 3) or None,
}

Place = Literal["first", "later", "more-numbers"]

_PLACES: dict[str, Place] = {
    "rank": "later",
    "dataset": "first",
    "model": "first",
    "tap": "first",
    "metric": "later",
    "accuracy": "first",
    "interval": "first",
    "output": "first",
    "rc2": "later",
    "linear": "first",
    "linear_p": "later",
    "verdict": "first",
    "baseline": "later",
    "change": "later",
    "held_out": "more-numbers",
    "per_class": "more-numbers",
    "top5": "more-numbers",
    "nll": "more-numbers",
    "ece": "more-numbers",
    "rmse": "more-numbers",
    "mae": "more-numbers",
    "matched": "more-numbers",
    "width": "more-numbers",
    "draws": "more-numbers",
    "seconds": "more-numbers",
}
"""The columns in their order: ``first`` is shown on a narrow screen, ``later`` on a wide one, ``more-numbers`` only to
a reader who asks for all."""

_OF_FEW = {"draws": "1"} | dict.fromkeys(
    (
        "linear",
        "linear_p",
        "baseline",
        "change",
        "held_out",
        "per_class",
        "top5",
        "nll",
        "ece",
        "rmse",
        "mae",
        "matched",
    ),
    "",
)
"""Columns that are left out if every row has this text."""


@dataclass(frozen=True)
class BoardColumn:
    """A column on the page; `place` is a value of `_PLACES`, and `heading` another title than the column's."""

    column: Column
    place: Place
    heading: str = ""

    @property
    def title(self) -> str:
        if self.heading:
            return self.heading
        return f"{self.column.title} %" if self.column.kind == "percent" else self.column.title

    @property
    def descending(self) -> bool:
        """True if the first click sorts from the largest value down."""
        return self.column.numeric and self.column.key != "rank"

    def text(self, row: Row, sweep: SweepView) -> str:
        return self.column.text(row, sweep, _FORMATS)


def columns(contents: RecordView) -> list[BoardColumn]:
    """The columns that this record has values for."""
    rows = _rows(contents)
    headings = _headings(contents)
    shown = [
        BoardColumn(COLUMNS[key], place, headings.get(key, ""))
        for key, place in _PLACES.items()
        if key != "metric" or has_metric_column(contents)
    ]
    return [
        each
        for each in shown
        if each.column.key not in _OF_FEW
        or any(each.text(row, sweep) != _OF_FEW[each.column.key] for sweep, row in rows)
    ]


def _headings(contents: RecordView) -> dict[str, str]:
    """Other titles of the columns of scores, which have no unit if a score is not written in percent."""
    if all(task.percent for task in contents.tasks.values()):
        return {}
    scores = [key for key in _PLACES if COLUMNS[key].of_score and COLUMNS[key].kind == "percent"]
    return {key: COLUMNS[key].title for key in scores} | {"accuracy": contents.score_heading}


def first_rows(contents: RecordView) -> list[tuple[SweepView, Row]]:
    """The rows that are shown at first, with their sweeps."""
    return _rows(contents)[:PAGE]


def data(contents: RecordView, shown: list[BoardColumn]) -> dict[str, Any]:
    """All rows for the script, column by column, words by their number: a few dozen bytes a case.

    What is in tenths of a percent is in thousandths if the score is not written in percent; the sweep then has the name
    of its ``score``.

    ``layer`` is 0 for ``embed`` and the depth plus 1 for other taps outside of the blocks; ``site`` counts `SITES`, and
    from -1 down ``places``, the taps outside of the blocks. ``pooling`` counts ``poolings``; it is left out if all taps
    have that of the protocol.
    """
    rows = _rows(contents)
    verdicts = list(contents.counts)
    poolings = ["", *POOLINGS]
    of_rows = [poolings.index(row.tap.pooling) for _, row in rows]
    found = {
        "sites": list(SITES),
        "places": list(PLACES),
        "verdicts": verdicts,
        "sweeps": [
            {"model": sweep.model, "dataset": sweep.dataset, "depth": sweep.depth}
            | ({} if sweep.task.percent else {"score": sweep.task.score})
            for sweep in contents.sweeps
        ],
        "sweep": [sweep.number for sweep, _ in rows],
        "layer": [_layer(row, sweep) for sweep, row in rows],
        "site": [_site(row.tap.site) for _, row in rows],
        "low": [tenths(row.case["ci95"][0]) for _, row in rows],
        "high": [tenths(row.case["ci95"][1]) for _, row in rows],
        "verdict": [verdicts.index(row.case["verdict"]) for _, row in rows],
    }
    if any(of_rows):
        found |= {"poolings": poolings, "pooling": of_rows}
    return found | {
        each.column.key: [_DATA[each.column.kind](each.column.value(row, sweep)) for sweep, row in rows]
        for each in shown
        if each.column.kind in _DATA
    }


def places(contents: RecordView) -> list[str]:
    """The taps outside of the blocks that this record has, to filter by."""
    return [name for name in PLACES if any(row.tap.layer == name for row in contents.rows)]


def _site(site: str) -> int:
    return SITES.index(site) if site in SITES else -1 - PLACES.index(site)


def _rows(contents: RecordView) -> list[tuple[SweepView, Row]]:
    return [(contents.by_key[row.key], row) for row in contents.rows]


def _layer(row: Row, sweep: SweepView) -> int:
    if isinstance(row.tap.layer, int):
        return row.tap.layer
    return 0 if row.tap.layer == EMBED else sweep.depth + 1
