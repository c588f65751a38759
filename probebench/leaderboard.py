"""Leaderboards of a run record: rich for the terminal, tabulate for markdown and LaTeX files, and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from rich import box
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from probebench.ranking import Row, best_taps, optimism, rank, selection_score
from probebench.sites import EMBED, FINAL, SITES, Tap
from probebench.terminal import printed

TOP = 5  # rows of a ranking at the normal level
SHIFTS = ("none", "shift", "strong")


def _shifts(record: dict[str, Any]) -> dict[str, str]:
    return {sweep["dataset"]: sweep["shift"] for sweep in record["sweeps"]}


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.1f}"


def _metric(case: dict[str, Any], name: str) -> float | None:
    """The value of a metric beside the accuracy; None in a record of before it was measured."""
    estimate = case.get("metrics", {}).get(name)
    return None if estimate is None else estimate["value"]


def _interval(case: dict[str, Any]) -> str:
    low, high = case["ci95"]
    return f"{100 * low:.1f}-{100 * high:.1f}"


# Plain text for files


COLUMNS = (
    *("dataset", "rank", "model", "layer", "site", "accuracy", "ci95 low", "ci95 high"),
    *("vs final", "vs last rc2", "width", "verdict", "baseline", "mean per class"),
)


def to_text(record: dict[str, Any], kind: str) -> str:
    """The whole ranking as one table, and the best tap per site.

    Args:
        kind: ``md``, ``tex`` or ``csv``; CSV has the ranking only, accuracies in [0, 1] unrounded
    """
    rows = [row for dataset in rank(record).values() for row in dataset]
    if kind == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(name.replace(" ", "_") for name in COLUMNS)
        writer.writerows(_cells(row) for row in rows)
        return out.getvalue()
    from tabulate import tabulate

    style = {"md": "github", "tex": "latex_booktabs"}[kind]
    cells = []
    for row in rows:
        *where, acc, low, high, final, rc2, width, verdict, baseline, per_class = _cells(row)
        cells.append(
            [*where, *map(_percent, (acc, low, high)), _signed(final), _signed(rc2)]
            + [width, verdict, _percent(baseline), _percent(per_class)]
        )
    parts = [tabulate(cells, headers=COLUMNS, tablefmt=style, disable_numparse=True)]
    for model in _models(record):
        header, body = _best_per_site(record, model)
        title = f"Best layer of each site, accuracy averaged over datasets: {model}"
        comment = f"% {title}" if kind == "tex" else f"**{title}**"
        parts.append(f"{comment}\n\n" + tabulate(body, headers=header, tablefmt=style, disable_numparse=True))
    return "\n\n".join(parts) + "\n"


def _cells(row: Row) -> list[Any]:
    case = row.case
    return [
        case["dataset"],
        row.rank,
        case["model"],
        case["layer"],
        case["site"],
        case["accuracy"],
        *case["ci95"],
        row.gain_final,
        row.gain_rc2,
        case["width"],
        case["verdict"],
        case["baseline_accuracy"],
        _metric(case, "mean_per_class"),
    ]


def _models(record: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(sweep["model"] for sweep in record["sweeps"]))


def _best_per_site(record: dict[str, Any], model: str) -> tuple[list[str], list[list[str]]]:
    """The paper's table: for each site the accuracy of its best layer, averaged over the datasets of each shift.

    The layer is chosen per dataset by `selection_score`; in brackets the chosen depth in percent, averaged likewise.
    """
    shift_of = _shifts(record)
    depth = next(sweep["depth"] for sweep in record["sweeps"] if sweep["model"] == model)
    best: dict[tuple[str, str], tuple[float, float, float]] = {}
    for case in record["cases"]:
        if case["model"] != model:
            continue
        key = (case["site"], case["dataset"])
        layer = case["layer"]
        where = 100 * layer / depth if isinstance(layer, int) else 0.0
        score = selection_score(case)
        if key not in best or score > best[key][0]:
            best[key] = (score, case["accuracy"], where)
    datasets = list(dict.fromkeys(dataset for _, dataset in best))
    groups = {s or "unknown": [d for d in datasets if shift_of[d] == s] for s in (*SHIFTS, "")}
    groups = {name: members for name, members in groups.items() if members}
    if len(groups) > 1:
        groups["all"] = datasets
    header = ["site", *(f"{name} ({len(members)})" for name, members in groups.items())]
    body = []
    for site in (*SITES, EMBED, FINAL):
        cells = []
        for members in groups.values():
            found = [best[site, dataset] for dataset in members if (site, dataset) in best]
            if len(found) < len(members):
                cells.append("")
                continue
            accuracy = sum(a for _, a, _ in found) / len(found)
            at = sum(w for _, _, w in found) / len(found)
            cells.append(f"{100 * accuracy:.1f} [{at:.0f}%]" if site in SITES else f"{100 * accuracy:.1f}")
        if any(cells):
            body.append([site, *cells])
    return header, body


# Rich for the terminal


def render(record: dict[str, Any], *, level: str, width: int | None, color: bool, ascii_only: bool) -> str:
    """The leaderboards as the text to write to a terminal.

    Args:
        level: ``none``; ``brief`` (best tap of each model on each dataset, best tap per site); ``normal`` (the top of
            each ranking, and heat maps where there is colour); ``full`` (every case)
        width: of the terminal in characters, None for as wide as the tables are
        color: whether to write colours
        ascii_only: whether to draw with ASCII characters only
    """
    if level == "none" or not record["cases"]:
        return ""
    parts: list[RenderableType] = []
    if moved := _moved(record, ascii_only):
        parts.append(moved)
    ranking = rank(record)
    if level == "brief":
        parts.append(_best_table(ranking, ascii_only))
    else:
        for dataset, rows in ranking.items():
            parts.append(_ranking_table(record, dataset, rows, TOP if level == "normal" else len(rows), ascii_only))
            if color and (maps := _heat_maps(record, dataset, controls=level == "full")):
                parts.append(maps)
    parts += [_site_table(record, model, ascii_only) for model in _models(record)]
    if (gap := optimism(record)) is not None:
        parts.append(
            Text(
                "Best taps and layers are chosen on held-out training images. Chosen on the test images they would "
                f"look {100 * gap:.1f} points better, averaged over models and datasets (optimism gap)."
            )
        )
    parts.append(Text(tally(record)))
    return printed(parts, width=width, color=color, ascii_only=ascii_only)


def _table(ascii_only: bool, columns: Iterable[str]) -> Table:
    table = Table(box=box.ASCII if ascii_only else box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in columns:
        table.add_column(
            name, justify="left" if name in _WORDS else "right", no_wrap=name not in _FOLDED, overflow="fold"
        )
    return table


# What may break into lines where the terminal is narrow; numbers never do.
_FOLDED = ("dataset", "model", "verdict")
_WORDS = ("dataset", "model", "tap", "site", "verdict")


def _titled(title: str, table: Table) -> Group:
    # Not rich's own table title, which wraps to the width of the table.
    return Group(Text(title, style="bold"), table)


_VERDICT_STYLE = {"regressed": "bold red", "improved": "green", "new": "cyan", "not comparable": "yellow"}


def _verdict(case: dict[str, Any]) -> Text:
    return Text(case["verdict"], style=_VERDICT_STYLE.get(case["verdict"], ""))


def _ranking_table(record: dict[str, Any], dataset: str, rows: list[Row], top: int, ascii_only: bool) -> RenderableType:
    shift = _shifts(record)[dataset]
    about = {"none": ", no shift", "shift": ", shifted", "strong": ", strongly shifted"}.get(shift, "")
    title = f"{dataset}{about}: {rows[0].case['n_test']} test images, {rows[0].case['protocol']}"
    # Beside the accuracy, which rankings and verdicts go by, where publications report the other.
    per_class = any(s["dataset"] == dataset and s.get("metric") == "mean_per_class" for s in record["sweeps"])
    more = ("per class %",) if per_class else ()
    table = _table(ascii_only, ("#", "model", "tap", "acc %", "95% CI", *more, "vs final", "vs rc2", "verdict"))
    shown = rows[:top]
    # Whoever does not reach the top shows with its best tap.
    present = {row.case["model"] for row in shown}
    for row in rows[top:]:
        if row.case["model"] not in present:
            present.add(row.case["model"])
            shown.append(row)
    # The two references of the first model, where they are not among them.
    first = shown[0].case["model"]
    depth = next(s["depth"] for s in record["sweeps"] if (s["model"], s["dataset"]) == (first, dataset))
    wanted = {Tap(FINAL, FINAL), Tap(depth, "rc2")}
    shown += [row for row in rows if row.case["model"] == first and row.tap in wanted and row not in shown]
    shown.sort(key=rows.index)
    for row in shown:
        table.add_row(
            str(row.rank),
            row.case["model"],
            row.tap.id,
            _percent(row.case["accuracy"]),
            _interval(row.case),
            *([_percent(_metric(row.case, "mean_per_class"))] if per_class else []),
            _signed(row.gain_final),
            _signed(row.gain_rc2),
            _verdict(row.case),
        )
    return _titled(title, table)


def _best_table(ranking: dict[str, list[Row]], ascii_only: bool) -> RenderableType:
    table = _table(ascii_only, ("dataset", "model", "tap", "acc %", "95% CI", "vs final", "vs rc2"))
    for row in best_taps(ranking):
        case, gains = row.case, (_signed(row.gain_final), _signed(row.gain_rc2))
        cells = (case["dataset"], case["model"], row.tap.id, _percent(case["accuracy"]), _interval(case), *gains)
        table.add_row(*cells)
    return _titled("Best tap of each model", table)


def _site_table(record: dict[str, Any], model: str, ascii_only: bool) -> RenderableType:
    header, body = _best_per_site(record, model)
    table = _table(ascii_only, header)
    # The best site of each column in bold.
    sites = [row for row in body if row[0] in SITES]
    for row in body:
        cells = [Text(row[0])]
        for column in range(1, len(header)):
            values = [float(r[column].split()[0]) for r in sites if r[column]]
            top = bool(row[column]) and row in sites and float(row[column].split()[0]) == max(values)
            cells.append(Text(row[column], style="bold" if top else ""))
        table.add_row(*cells)
    return _titled(f"{model}: best layer of each site by shift, mean accuracy % [depth]", table)


def _moved(record: dict[str, Any], ascii_only: bool) -> RenderableType | None:
    """The cases whose verdict is regressed or improved."""
    cases = [case for case in record["cases"] if case["verdict"] in ("regressed", "improved")]
    if not cases:
        return None
    table = _table(ascii_only, ("dataset", "model", "tap", "acc %", "baseline", "lost", "gained", "verdict"))
    for case in sorted(cases, key=lambda c: c["accuracy"] - c["baseline_accuracy"]):
        table.add_row(
            case["dataset"],
            case["model"],
            Tap(case["layer"], case["site"]).id,
            _percent(case["accuracy"]),
            _percent(case["baseline_accuracy"]),
            str(case["lost"]),
            str(case["gained"]),
            _verdict(case),
        )
    return _titled("Changed against the baselines", table)


def _heat_maps(record: dict[str, Any], dataset: str, controls: bool) -> RenderableType | None:
    """Layer x site, coloured from the lowest accuracy of the map to the highest."""
    maps = []
    for sweep in record["sweeps"]:
        if sweep["dataset"] != dataset or (sweep["control_of"] and not controls):
            continue
        cells = {
            (case["layer"], case["site"]): case["accuracy"]
            for case in record["cases"]
            if (case["model"], case["dataset"]) == (sweep["model"], dataset) and isinstance(case["layer"], int)
        }
        if cells:
            maps.append(_heat_map(sweep["model"], cells))
    if not maps:
        return None
    return Group(Columns(maps, padding=(0, 3)), Text())


def _heat_map(title: str, cells: dict[tuple[int, str], float]) -> Table:
    low, high = min(cells.values()), max(cells.values())
    sites = [site for site in SITES if any(s == site for _, s in cells)]
    table = Table(title=title, title_justify="left", box=None, padding=(0, 0), pad_edge=False)
    table.add_column("layer ")
    for site in sites:
        table.add_column(f" {site} ", justify="right")
    for layer in sorted({layer for layer, _ in cells}):
        table.add_row(f"L{layer:02d}", *(_heat_cell(cells.get((layer, site)), low, high) for site in sites))
    return table


# Steps of the viridis map (matplotlib): even in lightness, so that it also reads without colour vision.
_VIRIDIS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")


def _heat_cell(value: float | None, low: float, high: float) -> Text:
    if value is None:
        return Text("")
    step = round((value - low) / (high - low) * (len(_VIRIDIS) - 1)) if high > low else len(_VIRIDIS) - 1
    ink = "white" if step < len(_VIRIDIS) // 2 else "black"
    return Text(f" {100 * value:.0f} ".rjust(5), style=Style(color=ink, bgcolor=_VIRIDIS[step]))


def tally(record: dict[str, Any]) -> str:
    """One line: how many cases have which verdict."""
    counts: dict[str, int] = {}
    for case in record["cases"]:
        counts[case["verdict"]] = counts.get(case["verdict"], 0) + 1
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items(), key=lambda kv: -kv[1]))
    rate = record["images_per_second"]
    speed = f", {rate:,.0f} images/s" if rate else ""
    return f"{len(record['cases'])} cases in {len(record['sweeps'])} sweeps: {verdicts}{speed}"
