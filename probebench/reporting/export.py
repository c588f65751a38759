"""The leaderboards of a run record for files: markdown and LaTeX by tabulate, and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from probebench._format import interval, percent, signed
from probebench.records.controls import controls
from probebench.records.ranking import Row, metric, rank
from probebench.records.tap_selection import Selections, selections
from probebench.records.trends import shift_trends, unavailable
from probebench.reporting.sentences import (
    chosen_on,
    controls_line,
    selection_line,
    trend_title,
    trends_line,
    unavailable_lines,
)
from probebench.reporting.tables import best_per_site, models, trend_table

_STYLES = {"md": "pipe", "tex": "latex_booktabs"}

_EVERYWHERE = ("csv", "md", "tex")
_NOT_ON_PAPER = ("csv", "md")
"""A page is less wide than a screen."""


@dataclass(frozen=True)
class _Column:
    """One column of the ranking.

    Attributes:
        name: its title; in CSV with underscores
        value: as CSV has it, unrounded
        text: that value as the other formats have it
        kinds: the formats that have it
        optional: left out of the other formats where it is empty throughout
        align: of its texts
    """

    name: str
    value: Callable[[Row], Any]
    text: Callable[[Any], str] = str
    kinds: tuple[str, ...] = _EVERYWHERE
    optional: bool = False
    align: str = "right"


def _estimate(title: str, name: str, text: Callable[[Any], str]) -> list[_Column]:
    def value(row: Row) -> float | None:
        found = metric(row.case, name)
        return None if found is None else found[0]

    def bound(row: Row, which: int) -> float | None:
        found = metric(row.case, name)
        return None if found is None or found[1] is None else found[1][which]

    return [
        _Column(title, value, text, _NOT_ON_PAPER, optional=True),
        _Column(f"{title} ci95 low", lambda row: bound(row, 0), kinds=("csv",)),
        _Column(f"{title} ci95 high", lambda row: bound(row, 1), kinds=("csv",)),
    ]


def _columns(selected: Selections) -> list[_Column]:
    def selection(row: Row) -> str:
        own = selected[row.case["model"], row.case["dataset"]]
        return "chosen" if row.tap.id == own["tap"] else "tied" if row.tap.id in (own["tied"] or ()) else ""

    return [
        _Column("dataset", lambda row: row.case["dataset"], align="left"),
        _Column("rank", lambda row: row.rank),
        _Column("model", lambda row: row.case["model"], align="left"),
        _Column("tap", lambda row: row.tap.id, kinds=("tex",), align="left"),
        _Column("layer", lambda row: row.case["layer"], kinds=_NOT_ON_PAPER),
        _Column("site", lambda row: row.case["site"], kinds=_NOT_ON_PAPER, align="left"),
        _Column("accuracy", lambda row: row.case["accuracy"], percent),
        _Column("95% CI", lambda row: row.case["ci95"], interval, ("md", "tex")),
        _Column("ci95 low", lambda row: row.case["ci95"][0], kinds=("csv",)),
        _Column("ci95 high", lambda row: row.case["ci95"][1], kinds=("csv",)),
        _Column("vs final", lambda row: row.gain_final, signed),
        _Column("vs last rc2", lambda row: row.gain_rc2, signed),
        _Column("equal width", lambda row: row.gain_equal_width, signed, optional=True),
        _Column("random", lambda row: row.gain_random, signed, optional=True),
        _Column("width", lambda row: row.case["width"], kinds=_NOT_ON_PAPER),
        _Column("selection", selection, kinds=_NOT_ON_PAPER, align="left"),
        _Column("verdict", lambda row: row.case["verdict"], kinds=_NOT_ON_PAPER, align="left"),
        _Column("baseline", lambda row: row.case["baseline_accuracy"], percent, _NOT_ON_PAPER),
        *_estimate("mean per class", "mean_per_class", percent),
        *_estimate("top5", "top5", percent),
        *_estimate("nll", "nll", lambda value: "" if value is None else f"{value:.3f}"),
        *_estimate("ece", "ece", percent),
    ]


def to_text(record: dict[str, Any], kind: str) -> str:
    """The whole ranking as one table, the chosen taps, the best layer per site, the controls and the regimes.

    Args:
        kind: ``md``, ``tex`` or ``csv``; CSV has the ranking only, numbers unrounded, accuracies in [0, 1]
    """
    ranking, selected = rank(record), selections(record)
    rows = [row for dataset in ranking.values() for row in dataset]
    columns = [column for column in _columns(selected) if kind in column.kinds]
    values = [[column.value(row) for column in columns] for row in rows]
    if kind == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(column.name.replace(" ", "_") for column in columns)
        writer.writerows(values)
        return out.getvalue()
    kept = [i for i, column in enumerate(columns) if not column.optional or any(row[i] is not None for row in values)]
    header, align = [columns[i].name for i in kept], [columns[i].align for i in kept]
    parts = [_drawn(header, [[columns[i].text(row[i]) for i in kept] for row in values], kind, align)]
    if lines := _selection_lines(ranking, selected):
        parts.append(_lines("Chosen taps", lines, kind))
    for model in models(record):
        on = chosen_on([selection for (name, _), selection in selected.items() if name == model])
        title = f"Best layer of each site, chosen on {on} images, accuracy averaged over datasets: {model}"
        parts.append(f"{_title(title, kind)}\n\n{_drawn(*best_per_site(record, model), kind)}")
    for regime in shift_trends(record, ranking):
        table = _drawn(*trend_table(regime), kind)
        parts.append(f"{_title(trend_title(regime), kind)}\n\n{table}\n\n{_plain(trends_line(regime), kind)}")
    if lines := unavailable_lines(unavailable(record)):
        parts.append(_lines("Shift not measured", lines, kind))
    if lines := [controls_line(found) for found in controls(record, ranking)]:
        parts.append(_lines("Controls", lines, kind))
    return "\n\n".join(parts) + "\n"


def _selection_lines(ranking: dict[str, list[Row]], selected: Selections) -> list[str]:
    lines = []
    for (model, dataset), selection in selected.items():
        own = [row for row in ranking[dataset] if row.case["model"] == model]
        ci95 = next(row.case["ci95"] for row in own if row.tap.id == selection["tap"])
        lines.append(f"{model} on {dataset}: {selection_line(selection, ci95, len(own))}")
    return lines


def _drawn(header: Sequence[str], body: Sequence[Sequence[str]], kind: str, align: Sequence[str] | None = None) -> str:
    """A table; by default the first column is words and the others are numbers."""
    from tabulate import tabulate

    align = align or ["left", *["right"] * (len(header) - 1)]
    text: str = tabulate(body, headers=header, tablefmt=_STYLES[kind], disable_numparse=True, colalign=align)
    return text


def _title(text: str, kind: str) -> str:
    return f"% {text}" if kind == "tex" else f"**{text}**"


def _lines(title: str, lines: Sequence[str], kind: str) -> str:
    return f"{_title(title, kind)}\n\n" + "\n".join(f"% {line}" if kind == "tex" else f"- {line}" for line in lines)


def _plain(text: str, kind: str) -> str:
    # LaTeX gets what is not a table as comments: the words around a table are its author's.
    return f"% {text}" if kind == "tex" else text
