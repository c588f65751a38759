"""Accuracy by depth of one base model: pretrained, fine-tuned and with random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probebench.figures.choice import Family
from probebench.figures.curves import Curve, best_by_layer, of_site
from probebench.figures.style import INK, figure, layer_axis, look
from probebench.report.contents import Sweep
from probebench.report.marks import of_model
from probebench.wording import chosen_on

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def by_depth(family: Family, site: str | None) -> Figure | None:
    """One panel; None where fewer than two layers were measured.

    Args:
        site: the one to show; None for the best one of each layer
    """
    curves = [(sweep, of_site(sweep, site) if site else best_by_layer(sweep)) for sweep in family.members]
    curves = [(sweep, curve) for sweep, curve in curves if curve.layers]
    if max((len(curve.layers) for _, curve in curves), default=0) < 2:
        return None
    drawn, axes = figure(2.3)
    depths = {sweep.depth for sweep, _ in curves}
    looks = {id(sweep): number for number, sweep in enumerate([s for s in family.members if s.control_of is None])}
    for number, (sweep, curve) in enumerate(curves):
        control = sweep.control_of is not None
        # A control has the colour of its model, and its own shape.
        style = look(of_model(0 if control else looks[id(sweep)]), dashed=control)
        if control:
            style["marker"] = look(of_model(number))["marker"]
        x = _places(sweep, curve, depths)
        axes.fill_between(x, curve.low, curve.high, color=style["color"], alpha=0.16, linewidth=0.3)
        axes.plot(x, curve.accuracy, label=_label(sweep, family), **style)
        if sweep.final is not None:
            axes.axhline(
                100 * sweep.final.case["accuracy"],
                color=style["color"],
                linestyle=(0, (1, 1.4)),
                linewidth=0.9,
                label=f"_final {sweep.model}",
            )
    if len(depths) == 1:
        layer_axis(axes, depths.pop())
    else:
        axes.set_xlabel("layer / depth (%)")
    axes.set_ylabel("accuracy (%)")
    if any(sweep.final is not None for sweep, _ in curves):
        axes.plot([], [], color=INK, linestyle=(0, (1, 1.4)), linewidth=0.9, label="final, same colour")
    if site:
        what = f"{site} of each layer"
    else:
        what = f"best site of each layer, chosen on {chosen_on([sweep.selection for sweep, _ in curves])} images"
    axes.set_title(f"{title(family.members[0])}\n{what}", loc="left")
    drawn.legend(loc="outside lower center", ncols=2)
    return drawn


def title(sweep: Sweep) -> str:
    """The dataset, and where the probe was fitted if that is another one."""
    return sweep.dataset + (f" (trained on {sweep.trained_on})" if sweep.trained_on else "")


def _label(sweep: Sweep, family: Family) -> str:
    kind = "random control" if sweep.control_of else "pretrained" if sweep.model == family.base else "fine-tuned"
    return f"{sweep.model} ({kind})"


def _places(sweep: Sweep, curve: Curve, depths: set[int]) -> list[float]:
    return [layer if len(depths) == 1 else 100 * layer / sweep.depth for layer in curve.layers]
