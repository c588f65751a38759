"""Accuracy by depth, a line for each pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probebench.catalog.taps import POOLINGS
from probebench.records.view import SweepView
from probebench.reporting.figures.curves import axis_label, best_by_layer, references, unit
from probebench.reporting.figures.depth import heading
from probebench.reporting.figures.style import INK, figure, layer_axis, look, reference_line
from probebench.reporting.palette import of_model
from probebench.reporting.sentences import chosen_on

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def has_poolings(sweep: SweepView) -> bool:
    """Whether a layer of a sweep was measured with another pooling than that of the protocol."""
    return any(tap.pooling and isinstance(tap.layer, int) for tap in sweep.rows)


def by_pooling(sweep: SweepView) -> Figure | None:
    """The best site of each layer with each pooling, in one panel; None if fewer than two layers were measured."""
    curves = {pooling: best_by_layer(sweep, pooling) for pooling in ("", *POOLINGS)}
    if max(len(curve.layers) for curve in curves.values()) < 2:
        return None
    subtitle = f"best site of each layer, chosen on {chosen_on([sweep.selection])} images"
    drawn, axes = figure(2.6, *heading(sweep.model, sweep), subtitle)
    for index, (pooling, curve) in enumerate((key, curve) for key, curve in curves.items() if curve.layers):
        style = look(of_model(index), dashed=False)
        axes.fill_between(curve.layers, curve.low, curve.high, color=style["color"], alpha=0.12, linewidth=0)
        axes.plot(curve.layers, curve.accuracy, label=pooling or sweep.pooling or "of the protocol", **style)
    for name, row in references(sweep).items():
        reference_line(axes, name, unit(sweep.task) * row.case["accuracy"], INK, name)
    layer_axis(axes, sweep.depth)
    axes.set_ylabel(axis_label(sweep.task))
    drawn.legend(loc="outside lower center", ncols=3)
    return drawn
