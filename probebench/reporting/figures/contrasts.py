"""Places in the network compared in pairs, over datasets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from probebench.records.contrasts import CONTRASTS
from probebench.records.view import SweepView
from probebench.reporting.figures.curves import unit
from probebench.reporting.figures.depth import title
from probebench.reporting.figures.style import INK, LINE, figure, look, wrapped
from probebench.reporting.palette import of_model
from probebench.reporting.sentences import chosen_on

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SPREAD = 0.76  # of a dataset's row that the marks of its contrasts take


def by_contrast(sweeps: Sequence[SweepView], *, by_distance: bool) -> Figure | None:
    """A dot plot of one model, one row for each dataset; None if the record has no contrasts.

    Args:
        sweeps: from the top down, of one task
        by_distance: whether that is the order of their distance from the pretraining data
    """
    found = [{each["contrast"]: each for each in sweep.record.get("contrasts", ())} for sweep in sweeps]
    names = [name for name in CONTRASTS if any(name in own for own in found)]
    if not names:
        return None
    task = sweeps[0].task
    each = unit(task)
    row_height = min(0.5, max(0.26, 7.5 / len(sweeps)))
    heading = [sweeps[0].model, f"layers chosen on {chosen_on(s.selection for s in sweeps)} images; 95% intervals"]
    if by_distance:
        heading.append("datasets by growing distance from pretraining data")
    drawn, axes = figure(1.3 + row_height * len(sweeps), *heading)
    axes.axvline(0, color=INK, linewidth=0.6)
    for number, name in enumerate(names):
        places = [place for place, own in enumerate(found) if name in own]
        values = [each * found[place][name]["gain"] for place in places]
        ends = [[each * end for end in found[place][name]["ci95"]] for place in places]
        around = [
            [max(0.0, value - low) for value, (low, _) in zip(values, ends, strict=True)],
            [max(0.0, high - value) for value, (_, high) in zip(values, ends, strict=True)],
        ]
        offset = (number / (len(names) - 1) - 0.5) * _SPREAD if len(names) > 1 else 0.0
        style = look(of_model(CONTRASTS.index(name))) | {"linestyle": "none"}
        rows = [place + offset for place in places]
        axes.errorbar(values, rows, xerr=around, label=name, elinewidth=0.6, **style, ms=2.6)
    for between in range(1, len(sweeps)):
        axes.axhline(between - 0.5, color=LINE, linewidth=0.4)
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    axes.set_yticks(range(len(sweeps)), [wrapped(title(sweep), 18) for sweep in sweeps])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(sweeps) - 0.5, -0.5)
    axes.set_xlabel("gain (points)" if task.percent else f"gain ({task.score})")
    drawn.legend(loc="outside lower center", ncols=2)
    return drawn
