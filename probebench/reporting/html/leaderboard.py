"""The leaderboard of the report: its columns, its first rows for a page without scripts, all rows for the script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from probebench._format import percent, signed
from probebench.catalog.taps import EMBED, SITES
from probebench.records.ranking import Row, metric
from probebench.records.view import RecordView, SweepView
from probebench.reporting.html.numbers import interval, significant, tenths

PAGE = 25  # rows that are shown at a time

_TEXT: dict[str, Callable[[Any], str]] = {
    "word": str,
    "verdict": str,
    "tap": str,
    "count": str,
    "percent": percent,
    "points": signed,
    "interval": interval,
    "number": lambda value: significant(value, 3),
}
# For the script: percent and points in tenths and numbers as text, so that it cannot round in another way.
_DATA: dict[str, Callable[[Any], int | str | None]] = {
    "count": int,
    "percent": tenths,
    "points": tenths,
    "number": lambda value: significant(value, 3) or None,
}


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: by which the script finds its values
        title, about: its heading, and what it is
        kind: how its values are written and sorted
        of: the value of a row, fractions unrounded
        place: ``first`` if it stands in a row on a narrow screen, ``later`` if on a wide one, ``more-numbers`` if only
            where a reader asks for all
        descending: whether a first click sorts from the largest value down
    """

    key: str
    title: str
    about: str
    kind: Literal["word", "verdict", "tap", "count", "percent", "points", "interval", "number"]
    of: Callable[[Row], Any]
    place: Literal["first", "later", "more-numbers"] = "more-numbers"
    descending: bool = True

    @property
    def numeric(self) -> bool:
        return self.kind not in ("word", "verdict", "tap")

    def text(self, row: Row) -> str:
        return _TEXT[self.kind](self.of(row))


def change(case: dict[str, Any]) -> float | None:
    """Accuracy minus that of the baseline; None without one that can be compared."""
    before = case["baseline_accuracy"]
    return None if before is None else case["accuracy"] - before


def _metric(name: str) -> Callable[[Row], float | None]:
    def of(row: Row) -> float | None:
        found = metric(row.case, name)
        return None if found is None else found[0]

    return of


def _matched(row: Row) -> float | None:
    found = row.case.get("width_matched")
    return None if found is None else found["accuracy"]


_COLUMNS = (
    Column("rank", "#", "rank within the dataset", "count", lambda row: row.rank, "later", False),
    Column("dataset", "dataset", "test images", "word", lambda row: row.case["dataset"], "first", False),
    Column("model", "model", "frozen network", "word", lambda row: row.case["model"], "first", False),
    Column("tap", "tap", "layer and site", "tap", lambda row: row.tap.id, "first", False),
    Column("accuracy", "acc %", "on the test images", "percent", lambda row: row.case["accuracy"], "first"),
    Column("interval", "95% CI", "of the accuracy", "interval", lambda row: row.case["ci95"], "first"),
    Column("final", "vs final", "gain in points over the model's final", "points", lambda row: row.gain_final, "first"),
    Column("rc2", "vs rc2", "the same over the last layer's block output", "points", lambda row: row.gain_rc2, "later"),
    Column("verdict", "verdict", "against the baseline", "verdict", lambda row: row.case["verdict"], "first", False),
    Column("baseline", "baseline %", "accuracy", "percent", lambda row: row.case["baseline_accuracy"], "later"),
    Column("change", "change", "points since the baseline", "points", lambda row: change(row.case), "later"),
    Column("held_out", "held out %", "on held-out images", "percent", lambda row: row.case.get("held_out_accuracy")),
    Column("per_class", "per class %", "accuracy averaged over classes", "percent", _metric("mean_per_class")),
    Column("top5", "top 5 %", "the right class among the first five", "percent", _metric("top5")),
    Column("nll", "NLL", "negative log-likelihood of the right class, in nats", "number", _metric("nll")),
    Column("ece", "ECE %", "expected calibration error", "percent", _metric("ece")),
    Column("matched", "equal width %", "of as many features as the residual stream has", "percent", _matched),
    Column("width", "width", "number of features", "count", lambda row: row.case["width"]),
    Column("draws", "draws", "of the training set", "count", lambda row: row.case.get("draws", 1)),
    Column("seconds", "seconds", "attributed time", "number", lambda row: row.case["seconds"]),
)
_OF_FEW = {"draws": "1"} | dict.fromkeys(
    ("baseline", "change", "held_out", "per_class", "top5", "nll", "ece", "matched"), ""
)
"""Columns that are left out where every row says this."""


def columns(contents: RecordView) -> list[Column]:
    """The columns of this record: those that say something."""
    rows = _rows(contents)
    return [
        column
        for column in _COLUMNS
        if column.key not in _OF_FEW or any(column.text(row) != _OF_FEW[column.key] for row in rows)
    ]


def first_rows(contents: RecordView) -> list[tuple[SweepView, Row]]:
    """The rows that are shown at first, with their sweeps."""
    return [(contents.by_name[row.case["model"], row.case["dataset"]], row) for row in _rows(contents)[:PAGE]]


def data(contents: RecordView, shown: list[Column]) -> dict[str, Any]:
    """All rows for the script, column by column, words by their number: a few dozen bytes a case.

    ``layer`` is 0 for ``embed`` and the depth plus 1 for ``final``; ``site`` counts `SITES`, -1 for those two.
    """
    rows = _rows(contents)
    own = [contents.by_name[row.case["model"], row.case["dataset"]] for row in rows]
    verdicts = list(contents.counts)
    return {
        "sites": list(SITES),
        "verdicts": verdicts,
        "sweeps": [{"model": sweep.model, "dataset": sweep.dataset, "depth": sweep.depth} for sweep in contents.sweeps],
        "sweep": [sweep.number for sweep in own],
        "layer": [_layer(row, sweep) for row, sweep in zip(rows, own, strict=True)],
        "site": [SITES.index(row.tap.site) if row.tap.site in SITES else -1 for row in rows],
        "low": [tenths(row.case["ci95"][0]) for row in rows],
        "high": [tenths(row.case["ci95"][1]) for row in rows],
        "verdict": [verdicts.index(row.case["verdict"]) for row in rows],
    } | {column.key: [_DATA[column.kind](column.of(row)) for row in rows] for column in shown if column.kind in _DATA}


def _rows(contents: RecordView) -> list[Row]:
    return [row for ranked in contents.ranking.values() for row in ranked]


def _layer(row: Row, sweep: SweepView) -> int:
    if isinstance(row.tap.layer, int):
        return row.tap.layer
    return 0 if row.tap.layer == EMBED else sweep.depth + 1
