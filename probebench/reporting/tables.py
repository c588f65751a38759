"""The tables over datasets, as text: the terminal and files both draw them."""

from __future__ import annotations

from math import floor, log10

from probebench.catalog.taps import COMBINATIONS, EMBED, FINAL, OUTPUT, SITES
from probebench.catalog.tasks import Task
from probebench.records.cases import tap_of, task_of
from probebench.records.controls import SHIFTS
from probebench.records.ranking import choose
from probebench.records.trends import TREND_SITES, ShiftTrend
from probebench.records.types import CaseRecord, Record


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
