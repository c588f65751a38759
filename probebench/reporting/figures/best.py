"""The best layer of each site over datasets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from probebench.catalog.taps import FINAL, OUTPUT, SITES
from probebench.records.view import SweepView
from probebench.reporting.figures.curves import axis_label, best_by_site, unit
from probebench.reporting.figures.depth import title
from probebench.reporting.figures.style import INK, LINE, figure, look, reference_look, wrapped
from probebench.reporting.palette import OF_SITE
from probebench.reporting.sentences import chosen_on

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SPREAD = 0.76  # of a dataset's row that the marks of its sites take


def best_of_sites(sweeps: Sequence[SweepView], *, by_distance: bool) -> Figure | None:
    """A dot plot of one model, one row for each dataset; None if no layer was measured.

    Args:
        sweeps: from the top down, of one task
        by_distance: whether that is the order of their distance from the pretraining data
    """
    found = [best_by_site(sweep) for sweep in sweeps]
    sites = [site for site in SITES if any(site in rows for rows in found)]
    if not sites:
        return None
    task = sweeps[0].task
    each = unit(task)
    row_height = min(0.4, max(0.22, 7.5 / len(sweeps)))
    on = chosen_on([sweep.selection for sweep in sweeps])
    heading = [sweeps[0].model, f"best layer of each site, chosen on {on} images"]
    if by_distance:
        heading.append("datasets by growing distance from pretraining data")
    drawn, axes = figure(1.1 + row_height * len(sweeps), *heading)
    for position, rows in enumerate(found):
        edge = position - 0.45, position + 0.45
        if OUTPUT in rows:
            low, high = (each * end for end in rows[OUTPUT].case["ci95"])
            axes.fill_betweenx(edge, low, high, color=INK, alpha=0.09, linewidth=0)
        for name in (FINAL, OUTPUT):
            if name in rows:
                value = each * rows[name].case["accuracy"]
                axes.plot([value] * 2, edge, label=f"_{name} {position}", **reference_look(name, INK))
    for number, site in enumerate(sites):
        places = [position for position, rows in enumerate(found) if site in rows]
        cases = [found[position][site].case for position in places]
        values = [each * case["accuracy"] for case in cases]
        around = [
            # Rounding may leave an end of the interval a hair on the wrong side of 0 or 100%.
            [max(0.0, value - each * case["ci95"][0]) for value, case in zip(values, cases, strict=True)],
            [max(0.0, each * case["ci95"][1] - value) for value, case in zip(values, cases, strict=True)],
        ]
        offset = (number / (len(sites) - 1) - 0.5) * _SPREAD if len(sites) > 1 else 0.0
        style = look(OF_SITE[site]) | {"linestyle": "none"}
        axes.errorbar(
            values, [place + offset for place in places], xerr=around, label=site, elinewidth=0.6, **style, ms=2.6
        )
    for between in range(1, len(sweeps)):
        axes.axhline(between - 0.5, color=LINE, linewidth=0.4)
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    axes.set_yticks(range(len(sweeps)), [wrapped(title(sweep), 18) for sweep in sweeps])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(sweeps) - 0.5, -0.5)
    axes.set_xlabel(axis_label(task))
    for name in (FINAL, OUTPUT):
        if any(name in rows for rows in found):
            axes.plot([], [], label=name, **reference_look(name, INK))
    handles, labels = axes.get_legend_handles_labels()
    # Lines come before marks there; references follow the sites here, as in data.
    order = sorted(range(len(labels)), key=lambda i: labels[i] in (FINAL, OUTPUT))
    drawn.legend([handles[i] for i in order], [labels[i] for i in order], loc="outside lower center", ncols=5)
    return drawn
