"""The tables over datasets, as text: the terminal and files both draw them."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10

from probebench.catalog.taps import COMBINATIONS, EMBED, FINAL, OUTPUT, SITES
from probebench.catalog.tasks import Task
from probebench.records.cases import tap_of, task_of
from probebench.records.controls import SHIFTS
from probebench.records.poolings import PARTS
from probebench.records.ranking import choose
from probebench.records.trends import TREND_SITES, ShiftTrend
from probebench.records.types import CaseRecord, Record
from probebench.records.view import RecordView, SweepView


def best_per_site(record: Record, model: str, task: Task) -> tuple[list[str], list[list[str]]]:
    """The paper's table: for each site the accuracy of its best layer, averaged over the datasets of each shift.

    The layer is chosen per dataset, by the same rule as a tap; the chosen depth in percent, averaged over the same
    datasets, is in brackets. Taps with another pooling than the protocol's are left out.

    Args:
        task: of the datasets that are averaged over

    Returns:
        header and rows
    """
    shift_of = {sweep["dataset"]: sweep["shift"] for sweep in record["sweeps"] if task_of(sweep) is task}
    depth = next(sweep["depth"] for sweep in record["sweeps"] if sweep["model"] == model)
    of_site: dict[tuple[str, str], list[CaseRecord]] = {}
    for case in record["cases"]:
        if case["model"] == model and case["dataset"] in shift_of and not tap_of(case).pooling:
            of_site.setdefault((case["site"], case["dataset"]), []).append(case)
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for key, cases in of_site.items():
        case = choose(cases)
        layer = case["layer"]
        best[key] = case["accuracy"], 100 * layer / depth if isinstance(layer, int) else 0.0
    datasets = list(dict.fromkeys(dataset for _, dataset in best))
    groups = {s or "unknown": [d for d in datasets if shift_of[d] == s] for s in (*SHIFTS, "")}
    groups = {name: members for name, members in groups.items() if members}
    if len(groups) > 1:
        groups["all"] = datasets
    header = ["site", *(f"{name} ({len(members)})" for name, members in groups.items())]
    body = []
    for site in (*SITES, EMBED, FINAL, OUTPUT, *COMBINATIONS):
        cells = []
        for members in groups.values():
            found = [best[site, dataset] for dataset in members if (site, dataset) in best]
            if len(found) < len(members):
                cells.append("")
                continue
            accuracy = sum(a for a, _ in found) / len(found)
            at = sum(w for _, w in found) / len(found)
            cells.append(f"{task.number(accuracy)} [{at:.0f}%]" if site in SITES else task.number(accuracy))
        if any(cells):
            body.append([site, *cells])
    return header, body


def pooling_sweeps(view: RecordView) -> dict[tuple[str, Task], list[SweepView]]:
    """The sweeps that have several poolings, by model and task."""
    found: dict[tuple[str, Task], list[SweepView]] = {}
    for sweep in view.sweeps:
        if sweep.poolings:
            found.setdefault((sweep.model, sweep.task), []).append(sweep)
    return found


def pooling_table(sweeps: Sequence[SweepView]) -> tuple[list[str], list[list[str]]]:
    """Accuracy by pooling and depth, a row for each dataset and pooling, with the gain over the protocol's pooling.

    An asterisk marks a gain that is significant over all gains of its sweep.

    Args:
        sweeps: of one model and one task

    Returns:
        header and rows
    """
    body = []
    for sweep in sweeps:
        cells = {(each["pooling"], each["part"]): each for each in sweep.poolings}
        for pooling in dict.fromkeys(pooling for pooling, _ in cells):
            row = []
            for part in PARTS:
                each = cells.get((pooling, part))
                text = "" if each is None else sweep.task.number(each["accuracy"])
                if each is not None and each["gain"] is not None:
                    text += f" {sweep.task.change(each['gain'])}{'*' if each['differs'] else ''}"
                row.append(text)
            body.append([sweep.dataset, pooling, *row])
    return ["dataset", "pooling", *PARTS], body


def pooling_details(sweeps: Sequence[SweepView]) -> tuple[list[str], list[list[str]]]:
    """The same, a row for each part, with the chosen tap, the interval of the gain and its p-value.

    Returns:
        header and rows
    """
    body = []
    for sweep in sweeps:
        for each in sweep.poolings:
            task, ci95, p_value = sweep.task, each["ci95"], each["p_value"]
            ends = "" if ci95 is None else " to ".join(map(task.change, ci95))
            p_text = "" if p_value is None else f"{p_value:.2g}"
            verdict = "" if each["differs"] is None else "yes" if each["differs"] else "no"
            score = [task.number(each["accuracy"]), task.change(each["gain"]), ends, p_text, verdict]
            body.append([sweep.dataset, each["part"], each["pooling"], each["tap"], *score])
    plain = sweeps[0].pooling
    gain = f"vs {plain}" if plain else "gain"
    return ["dataset", "depth", "pooling", "tap", sweeps[0].task.heading, gain, "95% CI", "p", "differs"], body


def trend_table(trend: ShiftTrend) -> tuple[list[str], list[list[str]]]:
    """The datasets of one model by growing distance: the chosen tap, and the best layer of three sites.

    Returns:
        header and rows
    """
    # As many decimals as give the standard errors two digits.
    errors = [dataset.standard_error for dataset in trend.datasets if dataset.standard_error > 0]
    decimals = max(0, min(6, 1 - floor(log10(min(errors))))) if errors else 3
    header = ["dataset", "distance", "tap", "depth %", *TREND_SITES, "vs output"]
    body = [
        [
            dataset.name,
            f"{dataset.distance:.{decimals}f} ± {dataset.standard_error:.{decimals}f}",
            dataset.tap.id,
            f"{100 * dataset.depth:.0f}",
            *(trend.task.number(dataset.accuracy[site]) for site in TREND_SITES),
            trend.task.change(dataset.gain),
        ]
        for dataset in trend.datasets
    ]
    return header, body
