"""Taps beside those of the protocol in words: equal ones, combinations, and which pooling is best where."""

from __future__ import annotations

from probebench._format import counted, list_some
from probebench.catalog.taps import SEARCHED
from probebench.catalog.tasks import Task
from probebench.records.poolings import PoolingAnswer, PoolingGain
from probebench.records.ranking import Row
from probebench.records.tap_selection import LEVEL
from probebench.records.types import Part
from probebench.records.view import RecordView, SweepView
from probebench.reporting.sentences import averages_line
from probebench.stats import holm


def same_as_lines(view: RecordView) -> list[str]:
    """The taps that were not fitted again because another one has the same features; a line for each model but
    controls, whose network is the same.
    """
    found: dict[tuple[str, tuple[tuple[str, str], ...]], list[str]] = {}
    for sweep in (sweep for sweep in view.sweeps if not sweep.control_of):
        if pairs := tuple(sweep.record.get("same_as", {}).items()):
            found.setdefault((sweep.model, pairs), []).append(sweep.dataset)
    lines = []
    for (model, pairs), datasets in found.items():
        measured = sum(sweep.model == model for sweep in view.sweeps)
        where = "" if len(datasets) == measured else f" on {list_some(datasets, most=2)}"
        equal = list_some([f"{tap} equals {other}" for tap, other in pairs], most=2)
        fitted = "was not fitted again" if len(pairs) == 1 else "were not fitted again"
        lines.append(f"{model}{where}: {equal} up to rounding and {fitted}.")
    return lines


def combination_lines(view: RecordView) -> list[str]:
    """Return a sentence for each sweep, controls left out: how combinations compare with their best members."""
    texts = [(sweep, _combinations(sweep)) for sweep in view.sweeps if not sweep.control_of]
    return [f"{sweep.model} on {sweep.dataset}: {text}." for sweep, text in texts if text]


def _combinations(sweep: SweepView) -> str:
    made = [row for row in sweep.rows.values() if "combination" in row.case]
    p_values = [p for row in made if (p := row.case["combination"]["p_value"]) is not None]
    # All that were compared with their members are one family.
    differs = iter(holm(p_values, LEVEL))
    return "; ".join(
        _combination(row, sweep.task, row.case["combination"]["p_value"] is not None and next(differs)) for row in made
    )


def _combination(row: Row, task: Task, differs: bool) -> str:
    made = row.case["combination"]
    found = row.tap.layer in SEARCHED  # which others a combination joins is told by its name
    name = f"the {row.tap.id} {' + '.join(made['members'])}" if found else row.tap.id
    best, gain, p_value = made["best_member"], made["gain"], made["p_value"]
    if best is None or gain is None or p_value is None:
        return f"{name} cannot be compared with its members, which were not measured alone"
    if not differs:
        verdict = f"is not distinguishable from {best} alone"
    else:
        verdict = f"is {'better' if gain > 0 else 'worse'} than {best} alone"
    tried = f", found among {counted(made['tried'], 'concatenation')}" if made["tried"] > 1 else ""
    return f"{name} {verdict}: {task.points(gain)}, p = {p_value:.2g}{tried}"


def pooling_lines(view: RecordView) -> list[str]:
    """Return a sentence for each model and shift: which pooling is best at which depth."""
    return [_answer(answer) for answer in view.pooling_answers]


def _answer(answer: PoolingAnswer) -> str:
    parts: dict[Part, list[PoolingGain]] = {}
    for gain in answer.gains:
        parts.setdefault(gain.part, []).append(gain)
    texts = "; ".join(_part(part, gains, answer) for part, gains in parts.items())
    return averages_line(answer.model, answer.shift, answer.task, answer.datasets, answer.family, texts)


_WHERE = {"early": "early", "middle": "in the middle", "late": "late", "final": "at final"}


def _part(part: Part, gains: list[PoolingGain], answer: PoolingAnswer) -> str:
    best, where, plain, task = max(gains, key=lambda gain: gain.gain), _WHERE[part], answer.plain, answer.task
    low, high = best.ci95
    if best.differs and best.gain > 0:
        gain, ends = best.gain, (low, high)
        text = f"{where}, {best.pooling} is better than {plain}"
    elif all(gain.differs and gain.gain < 0 for gain in gains):
        gain, ends = -best.gain, (-high, -low)
        text = f"{where}, {plain} is better than {best.pooling}{', the next' if len(gains) > 1 else ''}"
    else:
        gain, ends = best.gain, (low, high)
        text = f"{where}, the data do not tell {best.pooling} from {plain}"
    return f"{text}: {task.points(gain)} ({' to '.join(map(task.change, ends))})"
