"""The leaderboards of a run record for files: markdown and LaTeX by tabulate, and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from probebench.catalog.tasks import CLASSIFICATION
from probebench.records.types import Record
from probebench.records.view import RecordView, SweepView
from probebench.reporting.columns import COLUMNS, FORMATS, Column, has_metric_column
from probebench.reporting.contrasts import contrast_lines, contrast_sweeps, contrast_table, contrast_title
from probebench.reporting.sentences import (
    chosen_on,
    controls_line,
    missing_output_line,
    pooling_title,
    selection_line,
    trend_title,
    trends_line,
    unavailable_lines,
)
from probebench.reporting.tables import best_per_site, pooling_details, pooling_sweeps, trend_table
from probebench.reporting.variants import combination_lines, pooling_lines, same_as_lines

_STYLES = {"md": "pipe", "tex": "latex_booktabs"}

_SCORES = ("accuracy", "interval", "output", "rc2", "equal_width", "random")
_REST = ("width", "selection", "verdict", "baseline")
_METRICS = ("per_class", "top5", "nll", "ece")
_ERRORS = ("rmse", "mae")
"""The metrics that only real-valued targets have: a record without any has no column for them in CSV either."""
_LINEAR = ("linear", "linear_p")
"""What only probes on tokens have, in the same way."""
_KEYS = {
    "csv": (
        *("dataset", "rank", "model", "layer", "site", "pooling", *_SCORES, *_REST),
        *(key for metric in _METRICS for key in (metric, f"{metric}_interval")),
    ),
    "md": ("dataset", "rank", "model", "layer", "site", "pooling", *_SCORES, *_REST, *_METRICS),
    "tex": ("dataset", "rank", "model", "tap", *_SCORES),  # a page is less wide than a screen
}
_OPTIONAL = ("pooling", "equal_width", "random", *_METRICS, *_ERRORS)  # left out of tables if they are empty throughout
_FORMATS = FORMATS | {"number": lambda value: f"{value:.3f}"}


def to_text(record: Record, kind: str) -> str:
    """The whole ranking as one table, the chosen taps, the best layer per site, shift trends and controls.

    Args:
        kind: ``md``, ``tex`` or ``csv``; CSV has the ranking only, numbers unrounded, accuracies in [0, 1]
    """
    view = RecordView(record)
    columns = [COLUMNS[key] for key in _keys(view, kind)]
    if kind == "csv":
        return _csv(view, columns)
    texts = [[column.text(row, view.by_key[row.key], _FORMATS) for row in view.rows] for column in columns]
    kept = [(column, cells) for column, cells in zip(columns, texts, strict=True) if _shown(column, cells)]
    titles = {"interval": "95% CI"} | ({} if view.task is CLASSIFICATION else {"accuracy": view.score_heading})
    header = [titles.get(column.key, column.name) for column, _ in kept]
    align = ["right" if column.numeric else "left" for column, _ in kept]
    parts = [_drawn(header, list(zip(*(cells for _, cells in kept), strict=True)), kind, align)]
    if lines := _selection_lines(view):
        parts.append(_lines("Chosen taps", lines, kind))
    if line := missing_output_line(view):
        parts.append(_plain(line, kind))
    if view.data_notes:
        parts.append(_lines("Images", view.data_notes, kind))
    for model, task in dict.fromkeys((sweep.model, sweep.task) for sweep in _by_model(view)):
        on = chosen_on(sweep.selection for sweep in view.sweeps if sweep.model == model and sweep.task is task)
        title = f"Best layer of each site, chosen on {on} images, {task.score} averaged over datasets: {model}"
        parts.append(f"{_title(title, kind)}\n\n{_drawn(*best_per_site(record, model, task), kind)}")
    for (model, task), sweeps in pooling_sweeps(view).items():
        header, body = pooling_details(sweeps)
        align = ["left"] * 4 + ["right"] * (len(header) - 4)
        parts.append(f"{_title(pooling_title(model, task), kind)}\n\n{_drawn(header, body, kind, align)}")
    for title, lines in (
        ("Best pooling by depth and shift", pooling_lines(view)),
        ("Combinations", combination_lines(view)),
        ("Equal taps", same_as_lines(view)),
    ):
        parts += [_lines(title, lines, kind)] if lines else []
    for trend in view.shift_trends:
        table = _drawn(*trend_table(trend), kind)
        parts.append(f"{_title(trend_title(trend), kind)}\n\n{table}\n\n{_plain(trends_line(trend), kind)}")
    for (model, task), sweeps in contrast_sweeps(view).items():
        header, body = contrast_table(sweeps)
        align = ["left"] * 3 + ["right"] * (len(header) - 3)
        parts.append(f"{_title(contrast_title(model, task), kind)}\n\n{_drawn(header, body, kind, align)}")
    if lines := contrast_lines(view):
        parts.append(_lines("Best place by shift", lines, kind))
    if lines := unavailable_lines(view.unavailable_distances):
        parts.append(_lines("Shift not measured", lines, kind))
    if lines := [controls_line(found) for found in view.controls]:
        parts.append(_lines("Controls", lines, kind))
    return "\n\n".join(parts) + "\n"


def _keys(view: RecordView, kind: str) -> tuple[str, ...]:
    """The columns of a table; some only if the score of a dataset is not an accuracy, or probes read tokens."""
    keys = _KEYS[kind] + (_LINEAR if any("linear" in case for case in view.record["cases"]) else ())
    if not has_metric_column(view):
        return keys
    place = keys.index("accuracy")
    errors = tuple(key for one in _ERRORS for key in ((one, f"{one}_interval") if kind == "csv" else (one,)))
    return (*keys[:place], "metric", *keys[place:], *(errors if kind != "tex" else ()))


def _by_model(view: RecordView) -> list[SweepView]:
    """The sweeps, model by model."""
    return sorted(view.sweeps, key=lambda sweep: view.models.index(sweep.model))


def _csv(view: RecordView, columns: Sequence[Column]) -> str:
    """One column for each value, two for each interval."""
    names: list[str] = []
    for column in columns:
        name = column.name.replace(" ", "_")
        names += [f"{name}_low", f"{name}_high"] if column.kind == "interval" else [name]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in view.rows:
        cells: list[object] = []
        for column in columns:
            value = column.value(row, view.by_key[row.key])
            cells += (value or (None, None)) if column.kind == "interval" else [value]
        writer.writerow(cells)
    return out.getvalue()


def _shown(column: Column, cells: Sequence[str]) -> bool:
    return column.key not in _OPTIONAL or any(cells)


def _selection_lines(view: RecordView) -> list[str]:
    return [
        f"{sweep.model} on {sweep.dataset}: "
        f"{selection_line(sweep.selection, sweep.chosen.case['ci95'], len(sweep.rows), sweep.task)}"
        for sweep in view.sweeps
    ]


def _drawn(header: Sequence[str], body: Sequence[Sequence[str]], kind: str, align: Sequence[str] | None = None) -> str:
    """A table; by default the first column has words and the others have numbers."""
    from tabulate import tabulate

    align = align or ["left", *["right"] * (len(header) - 1)]
    text: str = tabulate(body, headers=header, tablefmt=_STYLES[kind], disable_numparse=True, colalign=align)
    return text


def _title(text: str, kind: str) -> str:
    return f"% {text}" if kind == "tex" else f"**{text}**"


def _lines(title: str, lines: Sequence[str], kind: str) -> str:
    return f"{_title(title, kind)}\n\n" + "\n".join(f"% {line}" if kind == "tex" else f"- {line}" for line in lines)


def _plain(text: str, kind: str) -> str:
    # In LaTeX all text outside tables is a comment: the words of a paper are its author's.
    return f"% {text}" if kind == "tex" else text
