"""Accuracy by depth, a line for each site."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probebench.catalog.taps import SITES
from probebench.records.view import SweepView
from probebench.reporting.figures.curves import axis_label, of_site, references, unit
from probebench.reporting.figures.depth import heading
from probebench.reporting.figures.style import INK, figure, layer_axis, look, reference_line
from probebench.reporting.palette import OF_SITE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def by_site(sweep: SweepView) -> Figure | None:
    """One panel; None if fewer than two layers were measured."""
    curves = {site: of_site(sweep, site) for site in SITES}
    if max(len(curve.layers) for curve in curves.values()) < 2:
        return None
    drawn, axes = figure(2.7, *heading(sweep.model, sweep))
    for site, curve in curves.items():
        if curve.layers:
            style = look(OF_SITE[site])
            axes.fill_between(curve.layers, curve.low, curve.high, color=style["color"], alpha=0.07, linewidth=0)
            axes.plot(curve.layers, curve.accuracy, label=site, **style)
    for name, row in references(sweep).items():
        reference_line(axes, name, unit(sweep.task) * row.case["accuracy"], INK, name)
    layer_axis(axes, sweep.depth)
    axes.set_ylabel(axis_label(sweep.task))
    drawn.legend(loc="outside lower center", ncols=5)
    return drawn
