"""The leaderboards of a run record in the terminal; `probebench.reporting.export` writes those of files."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from probebench._format import list_some
from probebench.catalog.taps import SITES
from probebench.catalog.tasks import Task
from probebench.records.cases import change_of, tap_of
from probebench.records.trends import ShiftTrend
from probebench.records.types import Record
from probebench.records.view import MOVED, RecordView, SweepView
from probebench.reporting.contrasts import contrast_lines, contrast_sweeps, contrast_table, contrast_title
from probebench.reporting.sentences import (
    chosen_on,
    controls_line,
    missing_output_line,
    optimism_line,
    pooling_title,
    tally,
    trend_title,
    trends_line,
    unavailable_lines,
)
from probebench.reporting.tables import best_per_site, pooling_details, pooling_sweeps, pooling_table, trend_table
from probebench.reporting.terminal.console import add_title, render_text, table, verdict_text
from probebench.reporting.terminal.heat_map import heat_maps
from probebench.reporting.terminal.ranking import best_table, ranking_table
from probebench.reporting.variants import combination_lines, pooling_lines, same_as_lines


def render(record: Record, *, level: str, width: int | None, color: bool, ascii_only: bool) -> str:
    """The leaderboards as the text to write to a terminal.

    Args:
        level: ``none``; ``brief`` (best tap of each model on each dataset, best tap per site); ``normal`` (the top of
            each ranking, the chosen tap and the taps tied with it, accuracy by pooling, what wins as shift grows, and
            heat maps if there is colour); ``full`` (every case and metric)
        width: of the terminal in characters, None for as wide as the tables are
        color: whether to write colours
        ascii_only: whether to draw with ASCII characters only
    """
    if level == "none" or not record["cases"]:
        return ""
    view = RecordView(record)
    parts: list[RenderableType] = []
    if moved := _moved(view, ascii_only):
        parts.append(moved)
    if level == "brief":
        parts.append(best_table(view, width=width, ascii_only=ascii_only))
    else:
        full = level == "full"
        left_out: set[str] = set()
        for dataset in view.ranking:
            drawn, without = ranking_table(view, dataset, full=full, width=width, ascii_only=ascii_only)
            parts.append(drawn)
            left_out.update(without)
            if color and (maps := heat_maps(view, dataset, controls=full)):
                parts.append(maps)
        if left_out:
            names = ", ".join(sorted(left_out))
            parts.append(Text(f"(No room for the columns {names}: a wider terminal or a file shows them.)\n"))
    for model in view.models:
        tasks = dict.fromkeys(sweep.task for sweep in view.sweeps if sweep.model == model)
        parts += [_site_table(view, model, task, ascii_only) for task in tasks]
    if level != "brief":
        for (model, task), sweeps in pooling_sweeps(view).items():
            if level == "full" or not sweeps[0].control_of:
                parts.append(_pooling_table(model, task, sweeps, level == "full", ascii_only))
        parts += [Text(f"Pooling: {line}") for line in pooling_lines(view)]
        parts += [Text(f"Combined: {line}") for line in combination_lines(view)]
        parts += map(Text, same_as_lines(view))
        if level == "full":
            for (model, task), sweeps in contrast_sweeps(view).items():
                parts.append(add_title(contrast_title(model, task), table(*contrast_table(sweeps), ascii_only)))
        parts += [_trend_table(trend, ascii_only) for trend in view.shift_trends]
        parts += map(Text, unavailable_lines(view.unavailable_distances))
    parts += [Text(f"Places: {line}") for line in contrast_lines(view)]
    parts += [Text(f"Controls: {controls_line(found)}") for found in view.controls]
    if line := missing_output_line(view):
        parts.append(Text(line))
    if line := optimism_line(view, _exceptions(view)):
        parts.append(Text(line))
    parts.append(Text(tally(record)))
    return render_text(parts, width=width, color=color, ascii_only=ascii_only)


def _site_table(view: RecordView, model: str, task: Task, ascii_only: bool) -> RenderableType:
    header, body = best_per_site(view.record, model, task)
    # The best site of each column in bold.
    sites = [row for row in body if row[0] in SITES]
    drawn = []
    for row in body:
        cells: list[str | Text] = [row[0]]
        for column in range(1, len(header)):
            values = [float(r[column].split()[0]) for r in sites if r[column]]
            top = bool(row[column]) and row in sites and float(row[column].split()[0]) == max(values)
            cells.append(Text(row[column], style="bold" if top else ""))
        drawn.append(cells)
    on = chosen_on(sweep.selection for sweep in view.sweeps if sweep.model == model and sweep.task is task)
    score = f"{task.score} %" if task.percent else task.score
    title = f"{model}: best layer of each site, chosen on {on} images; mean {score} [depth]"
    return add_title(title, table(header, drawn, ascii_only))


def _exceptions(view: RecordView) -> str:
    """The sweeps without held-out images, in a record where others have them."""
    without = [f"{sweep.model} on {sweep.dataset}" for sweep in view.sweeps if sweep.selection["by"] != "held_out"]
    if not without:
        return ""
    return f" (on the test images for {list_some(without)}, where none could be held out)"


def _trend_table(trend: ShiftTrend, ascii_only: bool) -> RenderableType:
    header, body = trend_table(trend)
    drawn = []
    for cells in body:
        # The best of the three sites in bold.
        best = max((float(cell) for cell in cells[4:7] if cell), default=None)
        texts = [Text(cell.replace("±", "+-") if ascii_only else cell) for cell in cells]
        for text in texts[4:7]:
            if text.plain and float(text.plain) == best:
                text.stylize("bold")
        drawn.append(texts)
    return add_title(trend_title(trend), Group(table(header, drawn, ascii_only), Text(trends_line(trend) + "\n")))


def _pooling_table(model: str, task: Task, sweeps: Sequence[SweepView], full: bool, ascii_only: bool) -> RenderableType:
    header, body = (pooling_details if full else pooling_table)(sweeps)
    about = "" if full else f"; gains over {sweeps[0].pooling}, * significant on its dataset"
    on = chosen_on(sweep.selection for sweep in sweeps)
    title = f"{pooling_title(model, task)}, taps chosen on {on} images{about}"
    return add_title(title, table(header, body, ascii_only))


def _moved(view: RecordView, ascii_only: bool) -> RenderableType | None:
    """The cases whose verdict is regressed or improved, the largest drop first."""
    cases = [case for case in view.record["cases"] if case["verdict"] in MOVED]
    if not cases:
        return None
    rows: list[list[str | Text]] = [
        [
            case["dataset"],
            case["model"],
            tap_of(case).id,
            view.tasks[case["dataset"]].number(case["accuracy"]),
            view.tasks[case["dataset"]].number(case["baseline_accuracy"]),
            str(case["lost"]),
            str(case["gained"]),
            verdict_text(case["verdict"]),
        ]
        for case in sorted(cases, key=lambda case: change_of(case) or 0.0)
    ]
    header = ("dataset", "model", "tap", view.score_heading, "baseline", "lost", "gained", "verdict")
    return add_title("Changed against the baselines", table(header, rows, ascii_only))
