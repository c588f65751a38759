"""Places in the network compared in pairs, over datasets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from probebench.records.contrasts import CONTRASTS
from probebench.records.view import SweepView
from probebench.reporting.figures.curves import unit
from probebench.reporting.figures.rows import BY_DISTANCE, dataset_rows, draw_marks
from probebench.reporting.figures.style import INK, figure, look
from probebench.reporting.palette import of_model
from probebench.reporting.sentences import chosen_on

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
        heading.append(BY_DISTANCE)
    drawn, axes = figure(1.3 + row_height * len(sweeps), *heading)
    axes.axvline(0, color=INK, linewidth=0.6)
    for number, name in enumerate(names):
        places = [place for place, own in enumerate(found) if name in own]
        values = [each * found[place][name]["gain"] for place in places]
        ends = [[each * end for end in found[place][name]["ci95"]] for place in places]
        style = look(of_model(CONTRASTS.index(name)))
        draw_marks(axes, places, values, ends, number=number, count=len(names), label=name, style=style)
    dataset_rows(axes, sweeps)
    axes.set_xlabel("gain (points)" if task.percent else f"gain ({task.score})")
    drawn.legend(loc="outside lower center", ncols=2)
    return drawn
