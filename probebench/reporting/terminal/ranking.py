"""The ranking of one dataset, and the best tap of each model, as the terminal shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from probebench._format import interval, percent, signed
from probebench.catalog.taps import FINAL, Tap
from probebench.records.ranking import Row, best_taps, metric
from probebench.records.tap_selection import Selections
from probebench.reporting.sentences import SHIFT_WORDS, earliest, selection_line
from probebench.reporting.terminal.console import add_title, fit_table

TOP = 5  # rows of a ranking at the normal level

_STYLE = {"regressed": "bold red", "improved": "green", "new": "cyan", "not comparable": "yellow"}
_METRICS = {"per\nclass": "mean_per_class", "top-5": "top5", "NLL": "nll", "ECE %": "ece"}
_SPARE = ("ECE %", "NLL", "top-5", "per\nclass", "random", "equal\nwidth")  # the first go first


def verdict(case: dict[str, Any]) -> Text:
    """The verdict of a case, in its colour."""
    return Text(case["verdict"], style=_STYLE.get(case["verdict"], ""))


def ranking_table(
    record: dict[str, Any],
    dataset: str,
    rows: list[Row],
    selections: Selections,
    *,
    full: bool,
    width: int | None,
    ascii_only: bool,
) -> tuple[RenderableType, list[str]]:
    """The ranking of a dataset, and below it the tap that each model chooses.

    Args:
        rows: of the dataset
        selections: by (model, dataset)
        full: every case, and all metrics, and the taps that random controls choose
        width: of the terminal in characters, None for as wide as the table is

    Returns:
        the table with its title, and the columns that the terminal has no room for
    """
    sweeps = {sweep["model"]: sweep for sweep in record["sweeps"] if sweep["dataset"] == dataset}
    shift = SHIFT_WORDS.get(next(iter(sweeps.values()))["shift"], "")
    title = f"{dataset}{shift and f', {shift}'}: {rows[0].case['n_test']} test images, {rows[0].case['protocol']}"
    # Beside the accuracy, which rankings and verdicts go by, where publications report the other.
    per_class = any(sweep.get("metric") == "mean_per_class" for sweep in sweeps.values())
    columns = _columns(rows, full, per_class)
    shown = rows if full else _top(rows, sweeps)
    table, left_out = fit_table(
        list(columns),
        [[cell(row) for cell in columns.values()] for row in shown],
        width=width,
        ascii_only=ascii_only,
        spare=[name for name in _SPARE if not (per_class and name == "per\nclass")],
    )
    below = Table.grid(padding=(0, 2))
    for model, sweep in sweeps.items():
        own = [row for row in rows if row.case["model"] == model]
        if own and (full or not sweep["control_of"]):
            selection = selections[model, dataset]
            ci95 = next(row.case["ci95"] for row in own if row.tap.id == selection["tap"])
            below.add_row(model, selection_line(selection, ci95, len(own)))
    return add_title(title, Group(table, below, Text())), [name.replace("\n", " ") for name in left_out]


def _top(rows: list[Row], sweeps: dict[str, dict[str, Any]]) -> list[Row]:
    shown = rows[:TOP]
    # Whoever does not reach the top shows with its best tap.
    present = {row.case["model"] for row in shown}
    for row in rows[TOP:]:
        if row.case["model"] not in present:
            present.add(row.case["model"])
            shown.append(row)
    # The two references of the first model, where they are not among them.
    first = shown[0].case["model"]
    wanted = {Tap(FINAL, FINAL), Tap(sweeps[first]["depth"], "rc2")}
    shown += [row for row in rows if row.case["model"] == first and row.tap in wanted and row not in shown]
    return sorted(shown, key=rows.index)


def _columns(rows: list[Row], full: bool, per_class: bool) -> dict[str, Callable[[Row], str | Text]]:
    columns: dict[str, Callable[[Row], str | Text]] = {
        "#": lambda row: str(row.rank),
        "model": lambda row: str(row.case["model"]),
        "tap": lambda row: row.tap.id,
        "acc %": lambda row: percent(row.case["accuracy"]),
        "95% CI": lambda row: interval(row.case["ci95"]),
    }
    for title, name in _METRICS.items():
        wanted = full or (name == "mean_per_class" and per_class)
        if wanted and any(metric(row.case, name) for row in rows):
            columns[title] = lambda row, name=name: _metric(row, name)  # type: ignore[misc]
    equal_width = any(row.gain_equal_width is not None for row in rows)
    vs_final, vs_rc2 = ("vs\nfinal", "vs\nrc2") if equal_width else ("vs final", "vs rc2")
    columns |= {vs_final: lambda row: signed(row.gain_final), vs_rc2: lambda row: signed(row.gain_rc2)}
    if equal_width:
        columns["equal\nwidth"] = lambda row: signed(row.gain_equal_width)
    if any(row.gain_random is not None for row in rows):
        columns["random"] = lambda row: signed(row.gain_random)
    return columns | {"verdict": lambda row: verdict(row.case)}


def _metric(row: Row, name: str) -> str:
    found = metric(row.case, name)
    if found is None:
        return ""
    return f"{found[0]:.2f}" if name == "nll" else percent(found[0])


def best_table(
    ranking: dict[str, list[Row]], selections: Selections, *, width: int | None, ascii_only: bool
) -> RenderableType:
    """On each dataset the tap that each model chooses, how many are tied with it, and the earliest of those."""
    known = any(selection["tied"] is not None for selection in selections.values())
    gains = ["vs\nfinal", "vs\nrc2"] if known else ["vs final", "vs rc2"]
    columns = ["dataset", "model", "tap", "acc %", "95% CI", *gains, *(["tied", "earliest"] if known else [])]
    rows = []
    for row in best_taps(ranking):
        case = row.case
        cells = [case["dataset"], case["model"], row.tap.id, percent(case["accuracy"]), interval(case["ci95"])]
        cells += [signed(row.gain_final), signed(row.gain_rc2)]
        if known:
            selection = selections[case["model"], case["dataset"]]
            cells += ["" if selection["tied"] is None else str(len(selection["tied"])), earliest(selection)]
        rows.append(cells)
    table, _ = fit_table(columns, rows, width=width, ascii_only=ascii_only, spare=["earliest", "tied"])
    return add_title("Best tap of each model", table)
