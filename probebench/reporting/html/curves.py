"""Accuracy by depth: all sites of one model, and one site of all models, with the intervals of the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from probebench.catalog.taps import EMBED, FINAL, OUTPUT, SITES, Tap
from probebench.catalog.tasks import CLASSIFICATION, REGRESSION, Task
from probebench.records.view import SweepView
from probebench.reporting.html.axes import Frame, Tick, band, line, padded, steps
from probebench.reporting.palette import OF_SITE, of_model

SHOWN = 6  # models of a comparison that are drawn at first, controls included


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: of the site or the model
        mark: the index of its shape in `probebench.reporting.palette.SHAPES` and of its colour in ``COLOURS``
        control: whether it is a random control, drawn in the colour of its model, dashed and hollow
        sweep: the number of the sweep
        line, band: SVG paths of the accuracies and of the 95% intervals
    """

    name: str
    mark: int
    control: bool
    sweep: int
    line: str
    band: str


@dataclass(frozen=True)
class Level:
    """The score of a reference tap, as a line across a chart.

    Attributes:
        name: ``output``, or ``final``, whose line is thinner
        score: as text
        y: position of the line
        text_y: position of its name, which keeps off the other's
    """

    name: str
    score: str
    y: float
    text_y: float


@dataclass(frozen=True)
class Chart:
    """A chart of accuracy by depth; `label` describes it in a sentence.

    Attributes:
        site: the one it is about, or empty
        levels: of the reference taps that were measured
    """

    frame: Frame
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    series: list[Series]
    label: str
    site: str = ""
    levels: Sequence[Level] = ()


@dataclass(frozen=True)
class Entry:
    """A model in the legend of a comparison; `shown` is whether its lines are drawn at first."""

    sweep: SweepView
    mark: int
    shown: bool


@dataclass(frozen=True)
class Comparison:
    """All models of a dataset, one chart for each site."""

    entries: list[Entry]
    charts: list[Chart]


def sites_by_depth(sweep: SweepView) -> Chart | None:
    """All sites of one sweep in one chart; None if no layer was measured."""
    if not any(isinstance(tap.layer, int) for tap in sweep.plain):
        return None
    low, high = _range([sweep])
    last = max(sweep.depth, 2)
    frame = Frame(560, 330, 40, 508, 12, 286, 1, last, low, high)
    series = [
        Series(site, OF_SITE[site], False, sweep.number, *_paths(sweep, site, frame, by_layer=True))
        for site in SITES
        if any(tap.site == site for tap in sweep.plain)
    ]
    every = 1 if last <= 14 else 2 if last <= 28 else 4
    numbers = [n for n in range(1, last + 1) if n in (1, last) or (n % every == 0 and last - n >= every)]
    chosen, task, levels = sweep.chosen, sweep.task, _levels(sweep, frame)
    return Chart(
        frame=frame,
        x_ticks=[Tick(frame.x(n), str(n)) for n in numbers],
        y_ticks=_ticks(frame, 6, sweep.task),
        series=series,
        label=f"{_title(task)} by layer of {sweep.model} on {sweep.dataset}, a line for each site. Chosen: "
        f"{chosen.tap.id} with {task.text(chosen.case['accuracy'])}"
        + "".join(f"; {level.name} {level.score}" for level in levels),
        levels=levels,
    )


_APART = 12.0  # between the names of two levels


def _levels(sweep: SweepView, frame: Frame) -> list[Level]:
    measured = {name: row.case["accuracy"] for name, row in ((OUTPUT, sweep.output), (FINAL, sweep.final)) if row}
    places = {name: frame.y(score) for name, score in measured.items()}
    texts = dict(places)
    if len(places) == 2 and abs(places[OUTPUT] - places[FINAL]) < _APART:
        middle, sign = sum(places.values()) / 2, -1 if places[OUTPUT] <= places[FINAL] else 1
        texts = {OUTPUT: middle + sign * _APART / 2, FINAL: middle - sign * _APART / 2}
    return [Level(name, sweep.task.text(measured[name]), places[name], round(texts[name], 1)) for name in measured]


def compare_models(sweeps: Sequence[SweepView]) -> Comparison | None:
    """All sweeps of a dataset against each other; None if no layer was measured."""
    sites = [site for site in SITES if any(tap.site == site for sweep in sweeps for tap in sweep.plain)]
    if not sites:
        return None
    families = list(dict.fromkeys(_family(sweep, sweeps) for sweep in sweeps))
    best = sorted(
        families, key=lambda name: -max(s.chosen.case["accuracy"] for s in sweeps if _family(s, sweeps) == name)
    )
    shown: set[str] = set()
    for name in best:
        drawn = sum(_family(sweep, sweeps) in shown | {name} for sweep in sweeps)
        if drawn <= SHOWN or not shown:
            shown.add(name)
    entries = [
        Entry(sweep, of_model(families.index(_family(sweep, sweeps))), _family(sweep, sweeps) in shown)
        for sweep in sweeps
    ]
    low, high = _range(sweeps)
    frame = Frame(300, 215, 36, 280, 10, 184, 0, 1, low, high)
    return Comparison(entries, [_one_site(site, entries, frame) for site in sites])


def _one_site(site: str, entries: Sequence[Entry], frame: Frame) -> Chart:
    series = [
        Series(
            entry.sweep.model,
            entry.mark,
            entry.sweep.control_of is not None,
            entry.sweep.number,
            *_paths(entry.sweep, site, frame, by_layer=False),
        )
        for entry in entries
    ]
    tops = [
        f"{entry.sweep.model} at most {entry.sweep.task.text(max(found))}"
        for entry in entries
        if entry.shown
        and (found := [row.case["accuracy"] for tap, row in entry.sweep.plain.items() if tap.site == site])
    ]
    return Chart(
        frame=frame,
        x_ticks=[Tick(frame.x(depth), label) for depth, label in ((0, "0"), (0.5, "50%"), (1, "100%"))],
        y_ticks=_ticks(frame, 4, entries[0].sweep.task),
        series=[each for each in series if each.line],
        label=f"{_title(entries[0].sweep.task)} by depth at {site}: {', '.join(tops)}",
        site=site,
    )


def _family(sweep: SweepView, others: Sequence[SweepView]) -> str:
    """The model that a sweep is drawn with: for a control its model, if that was measured, too."""
    base = sweep.control_of
    return base if base is not None and any(other.model == base for other in others) else sweep.model


def _range(sweeps: Sequence[SweepView]) -> tuple[float, float]:
    ends = [
        end
        for sweep in sweeps
        for tap, row in sweep.plain.items()
        if tap.layer != EMBED and not tap.is_combination
        for end in row.case["ci95"]
    ]
    return padded(ends, 0.02, (-inf if sweeps[0].task is REGRESSION else 0.0, 1.0))


def _title(task: Task) -> str:
    return "Accuracy" if task is CLASSIFICATION else task.score


def _ticks(frame: Frame, count: int, task: Task) -> list[Tick]:
    unit = 100 if task.percent else 1
    values = steps(unit * frame.y_low, unit * frame.y_high, count)
    return [Tick(frame.y(value / unit), f"{value:g}") for value in values]


def _paths(sweep: SweepView, site: str, frame: Frame, *, by_layer: bool) -> tuple[str, str]:
    found: list[tuple[float, float] | None] = []
    around: list[tuple[float, float, float] | None] = []
    for layer in range(1, sweep.depth + 1):
        row = sweep.rows.get(Tap(layer, site))
        if row is None:
            found.append(None)
            around.append(None)
            continue
        x, (low, high) = frame.x(layer if by_layer else layer / sweep.depth), row.case["ci95"]
        found.append((x, frame.y(row.case["accuracy"])))
        around.append((x, frame.y(low), frame.y(high)))
    return line(found), band(around)
