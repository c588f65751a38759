"""Accuracy by depth of one base model: pretrained, fine-tuned and with random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probebench.catalog.taps import OUTPUT
from probebench.records.view import SweepView
from probebench.reporting.figures.choice import Family
from probebench.reporting.figures.curves import axis_label, best_by_layer, of_site, unit
from probebench.reporting.figures.style import (
    INK,
    LETTERS,
    MARKERS,
    figure,
    layer_axis,
    look,
    reference_line,
    reference_look,
)
from probebench.reporting.palette import of_model
from probebench.reporting.sentences import chosen_on

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GREY = 6  # the mark whose colour controls have
_SHAPES = MARKERS[1], MARKERS[3]  # their shapes, which can be recognised when hollow


def by_depth(family: Family, site: str | None) -> Figure | None:
    """One panel; None if fewer than two layers were measured.

    Args:
        site: the one to show; None for the best one of each layer
    """
    curves = [(sweep, of_site(sweep, site) if site else best_by_layer(sweep)) for sweep in family.members]
    curves = [(sweep, curve) for sweep, curve in curves if curve.layers]
    if max((len(curve.layers) for _, curve in curves), default=0) < 2:
        return None
    drawn, axes = figure(2.4, *heading(family.base, family.members[0]), _subtitle(family, site))
    depths = {sweep.depth for sweep, _ in curves}
    trained = [sweep.model for sweep in family.members if sweep.control_of is None]
    controls = [sweep.model for sweep in family.controls]
    for sweep, curve in curves:
        if sweep.control_of is None:
            style = look(of_model(trained.index(sweep.model)), dashed=False)
        else:
            style = look(_GREY, dashed=True) | {"marker": _SHAPES[controls.index(sweep.model) % 2]}
        x = [layer if len(depths) == 1 else 100 * layer / sweep.depth for layer in curve.layers]
        axes.fill_between(x, curve.low, curve.high, color=style["color"], alpha=0.16, linewidth=0.3)
        axes.plot(x, curve.accuracy, label=_label(sweep, family), **style)
        if sweep.output is not None:
            accuracy = unit(sweep.task) * sweep.output.case["accuracy"]
            reference_line(axes, OUTPUT, accuracy, style["color"], f"_output {sweep.model}")
            # The mark at its end identifies the model without colour.
            axes.plot([1], [accuracy], transform=axes.get_yaxis_transform(), clip_on=False, zorder=5, **style)
    if len(depths) == 1:
        layer_axis(axes, depths.pop())
    else:
        axes.set_xlabel("layer / depth (%)")
    axes.set_ylabel(axis_label(family.members[0].task))
    if any(sweep.output is not None for sweep, _ in curves):
        axes.plot([], [], label=OUTPUT, **reference_look(OUTPUT, INK))
    labels = [str(label) for label in axes.get_legend_handles_labels()[1]]
    drawn.legend(loc="outside lower left", ncols=2 if max(map(len, labels)) < LETTERS // 2 else 1)
    return drawn


def _subtitle(family: Family, site: str | None) -> str:
    if site:
        return f"{site} of each layer"
    on = chosen_on([sweep.selection for sweep in family.members])
    return f"best site of each layer, chosen on {on} images"


def heading(model: str, sweep: SweepView) -> list[str]:
    """A model and the dataset of a sweep: one line if there is room, else two."""
    parts = [model, title(sweep)]
    line = ", ".join(parts)
    return [line] if len(line) <= LETTERS else parts


def title(sweep: SweepView) -> str:
    """The dataset, and the one that the probe was fitted on if it is another."""
    return sweep.dataset + (f" (trained on {sweep.trained_on})" if sweep.trained_on else "")


def _label(sweep: SweepView, family: Family) -> str:
    """The label of a line, with the model's name if there are several of its kind."""
    if sweep.model == family.base:
        return "pretrained"
    kind, like = ("random control", family.controls) if sweep.control_of else ("fine-tuned", family.tuned)
    return kind if len(like) == 1 else f"{kind}: {sweep.model}"
