"""Results in words: the sentences that the terminal, files, pages and GitHub share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from probebench._format import counted, list_some
from probebench.catalog.taps import Tap
from probebench.catalog.tasks import CLASSIFICATION, Task
from probebench.records.cases import SweepKey
from probebench.records.controls import Controls
from probebench.records.trends import SMALL, ShiftTrend, Trend
from probebench.records.types import Record, SelectionRecord
from probebench.records.view import RecordView

SHIFT_WORDS = {"none": "no shift", "shift": "shifted", "strong": "strongly shifted", "": ""}
"""Descriptions of a dataset, by the shift that the catalog gives it."""

_UNDER = {"none": "without shift", "shift": "under shift", "strong": "under strong shift", "": "of unknown shift"}


def averages_line(model: str, shift: str, task: Task, datasets: int, family: int, gains: str) -> str:
    """Gains of a model that are averaged over its datasets of one shift, in one line.

    Args:
        shift: as the catalog has it
        datasets: the number averaged over
        family: the number of gains that Holm's procedure went over
        gains: in words
    """
    kind = "" if task is CLASSIFICATION else f", {task.score}"
    return (
        f"{model} {_UNDER[shift]} ({counted(datasets, 'dataset')}{kind}): {gains}. "
        f"95% intervals of one gain each; tests by Holm's procedure over {counted(family, 'gain')} of the model."
    )


def chosen_on(selections: Iterable[SelectionRecord]) -> str:
    """The images that taps and layers are chosen on: ``held-out``, ``test``, or both if some sweeps hold none out."""
    held_out = {selection["by"] == "held_out" for selection in selections}
    return "held-out" if held_out <= {True} else "test" if held_out == {False} else "held-out or, without any, on test"


def earliest(selection: SelectionRecord) -> str:
    """The first tied tap, if data meets it before the chosen one: the network can be cut there at no known loss."""
    first = min((Tap.parse(tap) for tap in selection["tied"] or ()), default=None)
    return first.id if first is not None and first < Tap.parse(selection["tap"]) else ""


def selection_line(selection: SelectionRecord, ci95: Sequence[float], taps: int, task: Task = CLASSIFICATION) -> str:
    """The chosen tap of a sweep, the taps that are tied with it, and those that are better on test.

    Args:
        selection: as the record has it
        ci95: of the accuracy of the chosen tap
        taps: the number of taps of the sweep
        task: of the dataset
    """
    parts = [
        f"{selection['tap']} chosen on {chosen_on([selection])} images: "
        f"{task.text(selection['accuracy'])} ({task.interval(ci95)})"
    ]
    tied, others = selection["tied"], taps - 1
    if tied is not None and others:
        text = (
            f"{len(tied)} of {counted(others, 'other tap')} {'is' if 1 in (len(tied), others) else 'are'} tied with it"
        )
        if tied:
            first = earliest(selection)
            text += f", the earliest {first}" if first else ", none earlier"
        worse, better = selection["worse"] or 0, selection["better"] or 0
        if unknown := others - len(tied) - worse - better:
            text += f", for {unknown} of them it is unknown"
        parts.append(text)
        if better:
            parts.append(f"{better} {'is' if better == 1 else 'are'} better on test")
    if selection["best"] != selection["tap"]:
        parts.append(f"best on test {selection['best']} {task.change(selection['optimism'])}")
    return "; ".join(parts)


_SHIFT = {"none": "no shift", "shift": "shift", "strong": "strong shift"}


def controls_line(found: Controls) -> str:
    """The gain of the chosen taps of a model, and the part of it that the controls leave."""
    change = found.task.change
    kind = "" if found.task is CLASSIFICATION else f" ({found.task.score})"
    text = f"{found.model}, {counted(found.datasets, 'dataset')}{kind}: "
    text += f"the chosen taps gain {found.task.points(found.gain)} over output"
    if found.equal_width is not None:
        text += f", {change(found.equal_width)} at equal width"
    if found.random is not None:
        text += f"; the same taps of the random control gain {change(found.random)}"
    if found.survived is not None:
        left = f"{change(found.survived)} of it" if found.survived > 0 else "nothing"
        text += f"; {'on average ' if found.datasets > 1 else ''}{left} survives both controls"
        if by_shift := [f"{_SHIFT[shift]} {change(value)}" for shift, value in found.survived_by_shift.items()]:
            text += f" ({', '.join(by_shift)})"
    return text + "."


def optimism_line(view: RecordView, exceptions: str = "") -> str:
    """Return how much better results would look if taps were chosen on test; empty for a record where they are.

    Args:
        exceptions: what is said of sweeps without held-out images
    """
    if not view.optimism:
        return ""
    *others, last = [
        f"{100 * gap:.1f} points" if task.percent else f"{task.number(gap)} ({task.score})"
        for task, gap in view.optimism.items()
    ]
    gaps = f"{', '.join(others)} and {last}" if others else last
    return (
        f"Best taps and layers are chosen on held-out training images{exceptions}. Chosen on the test images they "
        f"would look {gaps} better, averaged over models and datasets (optimism gap)."
    )


def missing_output_line(view: RecordView) -> str:
    """The sweeps that have no gains because their ``output`` was not measured; empty if there are none."""
    missing = [f"{sweep.model} on {sweep.dataset}" for sweep in view.sweeps if sweep.output is None]
    if not missing:
        return ""
    return f"No gain over output for {list_some(missing, most=2)}: the tap output was not measured there."


def pooling_title(model: str, task: Task) -> str:
    """The title of the tables `probebench.reporting.tables.pooling_table` and ``pooling_details``."""
    kind = "" if task is CLASSIFICATION else f" ({task.score})"
    return f"{model}: {'accuracy' if task is CLASSIFICATION else 'score'} by pooling and depth{kind}"


_MEASURE = {"kid": "KID"}


def trend_title(found: ShiftTrend) -> str:
    """The title of a table of `probebench.reporting.tables.trend_table`."""
    measure = _MEASURE.get(found.measure, found.measure)
    kind = "" if found.task is CLASSIFICATION else f", {found.task.score}"
    return f"{found.model}: what wins as shift grows{kind} (distance: {measure} to {found.reference})"


def trends_line(found: ShiftTrend) -> str:
    """The rank correlations with distance, with a warning if there are few datasets."""
    text = f"Spearman's rank correlation with distance: {'; '.join(map(_trend, found.trends))}"
    if (n := len(found.datasets)) < SMALL:
        text += f". n is small: with {n} datasets only a strong trend can be distinguished from chance"
    return text + "."


def _trend(trend: Trend) -> str:
    if trend.rho is None:
        return f"{trend.of}: undefined, as {counted(trend.n, 'value')} are too few or all equal"
    return f"{trend.of} {trend.rho:+z.2f} (n = {trend.n}, p = {trend.p:.2g})"


def unavailable_lines(reasons: Mapping[str, Sequence[SweepKey]]) -> list[str]:
    """The reasons why distances are missing, each once."""
    return [
        f"No distance for {list_some((f'{model} on {dataset}' for model, dataset in sweeps), most=2)}: {reason}"
        for reason, sweeps in reasons.items()
    ]


def tally(record: Record) -> str:
    """One line: the number of cases of each verdict."""
    counts: dict[str, int] = {}
    for case in record["cases"]:
        counts[case["verdict"]] = counts.get(case["verdict"], 0) + 1
    verdicts = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(counts.items(), key=lambda kv: -kv[1]))
    rate = record["images_per_second"]
    speed = f", {rate:,.0f} images/s" if rate else ""
    return f"{counted(len(record['cases']), 'case')} in {counted(len(record['sweeps']), 'sweep')}: {verdicts}{speed}"
