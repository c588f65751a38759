"""The ranking of one dataset, and the best tap of each model, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from probebench.catalog.taps import FINAL, OUTPUT, Tap
from probebench.records.ranking import Row
from probebench.records.view import RecordView, SweepView
from probebench.reporting.columns import COLUMNS, FORMATS, has_metric_column
from probebench.reporting.sentences import SHIFT_WORDS, selection_line
from probebench.reporting.terminal.console import add_title, fit_table, verdict_text

TOP = 5  # rows of a ranking at the normal level

_METRICS = ("per_class", "top5", "nll", "ece", "rmse", "mae")
_CONTROLS = ("equal_width", "random")
_LINEAR = ("linear", "linear_p")
_SPARE = (*reversed(_METRICS), *reversed(_CONTROLS), "linear_p")  # the first go first
_TITLES = {"ece": "ECE %", "top5": "top-5"}  # other titles are those of all screens
_FORMATS = FORMATS | {"number": lambda value: f"{value:.2f}"}


def ranking_table(
    view: RecordView, dataset: str, *, full: bool, width: int | None, ascii_only: bool
) -> tuple[RenderableType, list[str]]:
    """The ranking of a dataset, and below it the tap that each model chooses.

    Args:
        full: every case, all metrics, and the taps that random controls choose
        width: of the terminal in characters, None for as wide as the table is

    Returns:
        the table with its title, and the columns that the terminal has no room for
    """
    rows = view.ranking[dataset]
    sweeps = {sweep.model: sweep for sweep in view.sweeps if sweep.dataset == dataset}
    shift = SHIFT_WORDS.get(next(iter(sweeps.values())).shift, "")
    title = f"{dataset}{shift and f', {shift}'}: {rows[0].case['n_test']} test images, {rows[0].case['protocol']}"
    if leaked := max(sweep.leaked for sweep in sweeps.values()):
        title += f"; {leaked:,} of the test images {'is' if leaked == 1 else 'are'} also among the training images"
    # Publications report accuracy per class for some datasets; rankings and verdicts go by plain accuracy anyway.
    per_class = any(sweep.record.get("metric") == "mean_per_class" for sweep in sweeps.values())
    titles = _titles(rows, sweeps, full, per_class) | {"accuracy": view.tasks[dataset].heading}
    shown = rows if full else _top(rows, sweeps)
    table, left_out = fit_table(
        list(titles.values()),
        [[_cell(key, row, sweeps[row.case["model"]]) for key in titles] for row in shown],
        width=width,
        ascii_only=ascii_only,
        spare=[titles[key] for key in _SPARE if key in titles and not (per_class and key == "per_class")],
    )
    below = Table.grid(padding=(0, 2))
    for sweep in sweeps.values():
        if full or not sweep.control_of:
            line = selection_line(sweep.selection, sweep.chosen.case["ci95"], len(sweep.rows), sweep.task)
            below.add_row(sweep.model, line)
    return add_title(title, Group(table, below, Text())), [name.replace("\n", " ") for name in left_out]


def _top(rows: Sequence[Row], sweeps: Mapping[str, SweepView]) -> list[Row]:
    shown = list(rows[:TOP])
    # A model that does not reach the top is shown with its best tap.
    present = {row.case["model"] for row in shown}
    for row in rows[TOP:]:
        if row.case["model"] not in present:
            present.add(row.case["model"])
            shown.append(row)
    # The references of the first model, if they are not among them.
    first = shown[0].case["model"]
    wanted = {Tap(OUTPUT, OUTPUT), Tap(FINAL, FINAL), Tap(sweeps[first].depth, "rc2")}
    shown += [row for row in rows if row.case["model"] == first and row.tap in wanted and row not in shown]
    return sorted(shown, key=rows.index)


def _titles(rows: Sequence[Row], sweeps: Mapping[str, SweepView], full: bool, per_class: bool) -> dict[str, str]:
    """The columns of a ranking, by key; those of metrics and controls only if the record has them."""

    def measured(key: str) -> bool:
        return any(COLUMNS[key].value(row, sweeps[row.case["model"]]) is not None for row in rows)

    metrics = [key for key in _METRICS if (full or (per_class and key == "per_class")) and measured(key)]
    controls = [key for key in (*_LINEAR, *_CONTROLS) if measured(key)]
    keys = ["rank", "model", "tap", "accuracy", "interval", *metrics, "output", "rc2", *controls, "verdict"]
    wrapped = {"per_class", "equal_width", *_LINEAR} | ({"output", "rc2"} if "equal_width" in keys else set())
    return {key: _title(key, wrap=key in wrapped) for key in keys}


def _title(key: str, *, wrap: bool) -> str:
    title = _TITLES.get(key, COLUMNS[key].title)
    return title.replace(" ", "\n") if wrap else title


def _cell(key: str, row: Row, sweep: SweepView) -> str | Text:
    return verdict_text(row.case["verdict"]) if key == "verdict" else COLUMNS[key].text(row, sweep, _FORMATS)


def best_table(view: RecordView, *, width: int | None, ascii_only: bool) -> RenderableType:
    """On each dataset the tap that each model chooses, how many are tied with it, and the earliest of those."""
    known = any(sweep.selection["tied"] is not None for sweep in view.sweeps)
    metric = ["metric"] if has_metric_column(view) else []
    rest = ["tied", "earliest"] if known else []
    keys = ["dataset", "model", "tap", *metric, "accuracy", "interval", "output", "rc2", *rest]
    titles = {key: _title(key, wrap=known and key in ("output", "rc2")) for key in keys}
    table, _ = fit_table(
        list((titles | {"accuracy": view.score_heading}).values()),
        [[_cell(key, row, view.by_key[row.key]) for key in keys] for row in view.best],
        width=width,
        ascii_only=ascii_only,
        spare=["earliest", "tied"],
    )
    return add_title("Best tap of each model", table)
