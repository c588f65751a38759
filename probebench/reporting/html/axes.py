"""Axes and paths of the report's charts, in units of their SVG's view box."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Frame:
    """The rectangle in which a chart draws, and the values at its edges.

    Attributes:
        width, height: of the view box
        left, right, top, bottom: edges of the rectangle
        x_low, x_high, y_low, y_high: values at its edges
    """

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        span = self.x_high - self.x_low
        return round(self.left + (value - self.x_low) / span * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        span = self.y_high - self.y_low
        return round(self.bottom - (value - self.y_low) / span * (self.bottom - self.top), 1)


@dataclass(frozen=True)
class Tick:
    """A value on an axis: its position and its label."""

    at: float
    label: str


def steps(low: float, high: float, count: int) -> list[float]:
    """About `count` round values (1, 2, 2.5 or 5 times a power of ten apart) from `low` to `high`."""
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def padded(values: Iterable[float], least: float, bounds: tuple[float, float] | None = None) -> tuple[float, float]:
    """Low and high of an axis that holds `values`, a little apart from its edges and at least `least` long.

    Args:
        bounds: values that the axis never passes, such as 0 and 1 for an accuracy
    """
    known = list(values)
    low, high = min(known), max(known)
    margin = max(0.06 * (high - low), (least - (high - low)) / 2)
    low, high = low - margin, high + margin
    return (low, high) if bounds is None else (max(low, bounds[0]), min(high, bounds[1]))


def line(points: Sequence[tuple[float, float] | None]) -> str:
    """An SVG path through points; None is a gap."""
    return "".join(
        f"{'M' if i == 0 or points[i - 1] is None else 'L'}{point[0]:g},{point[1]:g}"
        for i, point in enumerate(points)
        if point is not None
    )


def band(points: Sequence[tuple[float, float, float] | None]) -> str:
    """An SVG path around (x, low, high); None is a gap. A single point is a vertical stroke."""
    path, run = "", []
    for point in [*points, None]:
        if point is not None:
            run.append(point)
        elif run:
            edge = [(x, high) for x, _, high in run] + [(x, low) for x, low, _ in reversed(run)]
            path += "M" + "L".join(f"{x:g},{y:g}" for x, y in edge) + "Z"
            run = []
    return path
