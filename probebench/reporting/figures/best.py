"""The best layer of each site over datasets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from probebench.catalog.taps import FINAL, OUTPUT, SITES
from probebench.records.view import SweepView
from probebench.reporting.figures.curves import axis_label, best_by_site, unit
from probebench.reporting.figures.rows import BY_DISTANCE, dataset_rows, draw_marks
from probebench.reporting.figures.style import INK, figure, look, reference_look
from probebench.reporting.palette import OF_SITE
from probebench.reporting.sentences import chosen_on

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
        heading.append(BY_DISTANCE)
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
        ends = [[each * end for end in case["ci95"]] for case in cases]
        style = look(OF_SITE[site])
        draw_marks(axes, places, values, ends, number=number, count=len(sites), label=site, style=style)
    dataset_rows(axes, sweeps)
    axes.set_xlabel(axis_label(task))
    for name in (FINAL, OUTPUT):
        if any(name in rows for rows in found):
            axes.plot([], [], label=name, **reference_look(name, INK))
    handles, labels = axes.get_legend_handles_labels()
    # Lines come before marks there; references follow the sites here, as in data.
    order = sorted(range(len(labels)), key=lambda i: labels[i] in (FINAL, OUTPUT))
    drawn.legend([handles[i] for i in order], [labels[i] for i in order], loc="outside lower center", ncols=5)
    return drawn
