"""The tables over datasets, as text: what the terminal and files both draw."""

from __future__ import annotations

from math import floor, log10
from typing import Any

from probebench._format import percent, signed
from probebench.catalog.taps import EMBED, FINAL, SITES
from probebench.records.controls import SHIFTS
from probebench.records.ranking import chosen
from probebench.records.trends import TREND_SITES as REGIME_SITES
from probebench.records.trends import ShiftTrend


def models(record: dict[str, Any]) -> list[str]:
    """The models of a record, in its order."""
    return list(dict.fromkeys(sweep["model"] for sweep in record["sweeps"]))


def best_per_site(record: dict[str, Any], model: str) -> tuple[list[str], list[list[str]]]:
    """The paper's table: for each site the accuracy of its best layer, averaged over the datasets of each shift.

    The layer is chosen per dataset as a tap is; in brackets the chosen depth in percent, averaged likewise.

    Returns:
        header and rows
    """
    shift_of = {sweep["dataset"]: sweep["shift"] for sweep in record["sweeps"]}
    depth = next(sweep["depth"] for sweep in record["sweeps"] if sweep["model"] == model)
    of_site: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for case in record["cases"]:
        if case["model"] == model:
            of_site.setdefault((case["site"], case["dataset"]), []).append(case)
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for key, cases in of_site.items():
        case = chosen(cases)
        best[key] = case["accuracy"], 100 * case["layer"] / depth if isinstance(case["layer"], int) else 0.0
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
            accuracy = sum(a for a, _ in found) / len(found)
            at = sum(w for _, w in found) / len(found)
            cells.append(f"{100 * accuracy:.1f} [{at:.0f}%]" if site in SITES else f"{100 * accuracy:.1f}")
        if any(cells):
            body.append([site, *cells])
    return header, body


def trend_table(regime: ShiftTrend) -> tuple[list[str], list[list[str]]]:
    """The datasets of one model by growing distance: what was chosen, and the best layer of three sites.

    Returns:
        header and rows
    """
    # As many decimals as give the standard errors two digits.
    errors = [dataset.standard_error for dataset in regime.datasets if dataset.standard_error > 0]
    decimals = max(0, min(6, 1 - floor(log10(min(errors))))) if errors else 3
    header = ["dataset", "distance", "tap", "depth %", *REGIME_SITES, "vs final"]
    body = [
        [
            dataset.name,
            f"{dataset.distance:.{decimals}f} ± {dataset.standard_error:.{decimals}f}",
            dataset.tap.id,
            f"{100 * dataset.depth:.0f}",
            *(percent(dataset.accuracy[site]) for site in REGIME_SITES),
            signed(dataset.gain),
        ]
        for dataset in regime.datasets
    ]
    return header, body
