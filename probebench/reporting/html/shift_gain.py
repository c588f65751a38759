"""The gain of the chosen tap over ``output`` against the shift of the dataset: measured, or as in the catalog."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import asinh
from statistics import median

from probebench.catalog.tasks import Task
from probebench.records.view import RecordView, SweepView
from probebench.reporting.html.axes import Frame, Tick, padded, steps
from probebench.reporting.html.numbers import significant
from probebench.reporting.palette import OF_SITE

CLASSES = ("none", "shift", "strong", "")
_CLASS_LABELS = ("none", "shifted", "strong", "unknown")
_FAR = 8  # times the median distance: an axis that goes farther has room for the near ones
_SPREAD = 0.2  # between marks of one class, in widths of a class


@dataclass(frozen=True)
class Point:
    """One dataset of one model.

    Attributes:
        number: from 1 within the model; beside the mark and in the table
        x, y: position of the mark
        error: left and right end of the distance plus and minus its standard error, if there is one
        distance: as text, with its standard error; empty if there is none
        why: the reason why there is no distance; empty if there is one or no reason is known
        mark: of the chosen tap's site; None for a tap outside of the blocks
        control: the gain of the same tap of the random control over its own ``output``, in points; empty if unknown
    """

    number: int
    sweep: SweepView
    x: float
    y: float
    error: tuple[float, float] | None
    distance: str
    why: str
    mark: int | None
    gain: str
    gain_on_test: str
    control: str


@dataclass(frozen=True)
class Plot:
    """The datasets of one model on one axis: the measured distance, or the classes of the catalog."""

    model: str
    task: Task
    measured: bool
    axis: str
    frame: Frame
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    zero: float | None
    points: list[Point]

    @property
    def label(self) -> str:
        gains = ", ".join(f"{point.sweep.dataset} {point.gain}" for point in self.points)
        unit = "points" if self.task.percent else self.task.score
        return f"Gain of the chosen tap of {self.model} over output in {unit}, by {self.axis}: {gains}"


def plots(contents: RecordView) -> list[Plot]:
    """One plot a model, two if only some of its datasets have a measured distance; none for random controls.

    Distances are measured in the model's own features, so two models have no common axis. Neither have gains of two
    tasks: each has a plot of its own.
    """
    found = []
    for model in contents.models:
        sweeps = [
            s for s in contents.sweeps if s.model == model and s.control_of is None and s.chosen.gain_output is not None
        ]
        groups: dict[tuple[Task, bool], list[SweepView]] = {}
        for sweep in sorted(sweeps, key=lambda sweep: sweep.distance is None):
            groups.setdefault((sweep.task, sweep.distance is not None), []).append(sweep)
        numbers = {s.number: number for number, s in enumerate((s for own in groups.values() for s in own), start=1)}
        found += [_plot(contents, model, group, numbers) for group in groups.values()]
    return found


def _plot(contents: RecordView, model: str, sweeps: Sequence[SweepView], numbers: dict[int, int]) -> Plot:
    distances = [sweep.distance for sweep in sweeps]
    measured = distances[0] is not None
    task = sweeps[0].task
    gains = [_unit(task) * (sweep.chosen.gain_output or 0.0) for sweep in sweeps]
    y_low, y_high = padded([0.0, *gains], 0.02 * _unit(task))
    scale, at, axis = _scale(distances), _identity, "shift, as the catalog says"
    if measured:
        at = (lambda value: asinh(value / scale)) if scale else _identity
        ends = [at(end) for value, error in filter(None, distances) for end in (value - error, value + error)]
        x_low, x_high = padded(ends, max(1e-6, 0.1 * max(abs(end) for end in ends)))
        axis = _distance_axis(sweeps[0]) + (", large ones drawn nearer" if scale else "")
    else:
        x_low, x_high = -0.5, len(CLASSES) - 0.5 if any(s.shift == "" for s in sweeps) else len(CLASSES) - 1.5
    frame = Frame(360, 240, 44, 350, 12, 194, x_low, x_high, y_low, y_high)
    if measured:
        values = [value for value, _ in filter(None, distances)]
        ticks = _round_distances(scale, max(values)) if scale else steps(x_low, x_high, 4)
        x_ticks = [Tick(frame.x(at(value)), f"{value:g}" if scale else significant(value, 3)) for value in ticks]
        places = [at(value) for value in values]
    else:
        x_ticks = [Tick(frame.x(i), label) for i, label in enumerate(_CLASS_LABELS) if i <= x_high]
        places = _spread([CLASSES.index(sweep.shift) for sweep in sweeps])
    return Plot(
        model=model,
        task=task,
        measured=measured,
        axis=axis,
        frame=frame,
        x_ticks=x_ticks,
        y_ticks=[Tick(frame.y(value), f"{value:+g}" if value else "0") for value in steps(y_low, y_high, 5)],
        zero=frame.y(0),
        points=[
            _point(contents, sweep, numbers[sweep.number], frame, place, distance, at)
            for sweep, place, distance in zip(sweeps, places, distances, strict=True)
        ],
    )


def _identity(value: float) -> float:
    return value


def _scale(distances: Sequence[tuple[float, float] | None]) -> float:
    """The distance up to which an axis is about even; 0 where all of it is, because no distance is far from the others.

    Sketches may be forty times as far from photographs as other datasets are, which would all be in one place.
    """
    values = [abs(value) for value, _ in filter(None, distances)]
    return median(values) if values and max(values) > _FAR * median(values) > 0 else 0.0


def _round_distances(scale: float, most: float) -> list[float]:
    """The values for the ticks of an axis that is not even: 0, and 1 and 3 times powers of ten from `scale` on."""
    found = [factor * 10.0**power for power in range(-6, 7) for factor in (1, 3)]
    return [0.0, *(value for value in found if scale / 2 <= value <= most)]


def _point(
    contents: RecordView,
    sweep: SweepView,
    number: int,
    frame: Frame,
    x: float,
    distance: tuple[float, float] | None,
    at: Callable[[float], float],
) -> Point:
    chosen = sweep.chosen
    best = max(row.gain_output for row in sweep.rows.values() if row.gain_output is not None)
    control = contents.control(sweep.model, sweep.dataset)
    same = control.rows.get(chosen.tap) if control else None
    return Point(
        number=number,
        sweep=sweep,
        x=frame.x(x),
        y=frame.y(_unit(sweep.task) * (chosen.gain_output or 0.0)),
        error=None
        if distance is None
        else (frame.x(at(distance[0] - distance[1])), frame.x(at(distance[0] + distance[1]))),
        distance="" if distance is None else f"{significant(distance[0], 3)} ± {significant(distance[1], 1)}",
        why=_why_unavailable(sweep),
        mark=OF_SITE.get(chosen.tap.site),
        gain=sweep.task.change(chosen.gain_output),
        gain_on_test=sweep.task.change(best),
        control=sweep.task.change(same.gain_output) if same else "",
    )


def _unit(task: Task) -> int:
    """The units of a gain on the axis that make a whole score: points, or one."""
    return 100 if task.percent else 1


def _spread(classes: list[int]) -> list[float]:
    """Places around each class, so that marks of one class stand side by side."""
    placed = []
    for position, which in enumerate(classes):
        before, members = classes[:position].count(which), classes.count(which)
        width = min(_SPREAD, 0.9 / max(members, 1))
        placed.append(which + (before - (members - 1) / 2) * width)
    return placed


def _distance_axis(sweep: SweepView) -> str:
    found = sweep.record.get("shift_distance")
    return "" if found is None or "unavailable" in found else f"{found['measure'].upper()} to {found['reference']}"


def _why_unavailable(sweep: SweepView) -> str:
    found = sweep.record.get("shift_distance")
    return found["unavailable"] if found is not None and "unavailable" in found else ""
