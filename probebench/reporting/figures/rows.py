"""Dot plots with a row for each dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from probebench.records.view import SweepView
from probebench.reporting.figures.depth import title
from probebench.reporting.figures.style import LINE, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BY_DISTANCE = "datasets by growing distance from pretraining data"
_SPREAD = 0.76  # of a dataset's row that the marks of its series take


def draw_marks(
    axes: Axes,
    rows: Sequence[int],
    values: Sequence[float],
    intervals: Sequence[Sequence[float]],
    *,
    number: int,
    count: int,
    label: str,
    style: dict[str, Any],
) -> None:
    """Draw the marks of one series with their intervals.

    Args:
        rows: that have a mark
        values, intervals: of each mark, in the unit of the axis
        number, count: the place of the series among those that share a row
    """
    around = [
        # Rounding may leave an end of the interval a hair on the wrong side of the value.
        [max(0.0, value - low) for value, (low, _) in zip(values, intervals, strict=True)],
        [max(0.0, high - value) for value, (_, high) in zip(values, intervals, strict=True)],
    ]
    offset = (number / (count - 1) - 0.5) * _SPREAD if count > 1 else 0.0
    places = [row + offset for row in rows]
    axes.errorbar(values, places, xerr=around, label=label, elinewidth=0.6, **style | {"linestyle": "none", "ms": 2.6})


def dataset_rows(axes: Axes, sweeps: Sequence[SweepView]) -> None:
    """Divide an axis into a row for each sweep, from the top down, with the name of its dataset."""
    for between in range(1, len(sweeps)):
        axes.axhline(between - 0.5, color=LINE, linewidth=0.4)
    axes.grid(False, axis="y")
    axes.grid(True, axis="x")
    axes.set_yticks(range(len(sweeps)), [wrapped(title(sweep), 18) for sweep in sweeps])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(sweeps) - 0.5, -0.5)
