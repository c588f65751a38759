"""Places in a network compared in pairs, in words and as a table."""

from __future__ import annotations

from collections.abc import Mapping

from probebench.catalog.tasks import CLASSIFICATION, Task
from probebench.records.contrasts import ContrastAnswer, MeanContrast
from probebench.records.types import ContrastName
from probebench.records.view import RecordView, SweepView
from probebench.reporting.sentences import averages_line

_PLACES: Mapping[ContrastName, tuple[str, str]] = {
    "chosen over output": ("the chosen tap", "output"),
    "rc2 over last rc2": ("the best rc2", "the last"),
    "act over rc2": ("the best act", "the best rc2"),
    "ln2 over rc2": ("the best ln2", "the best rc2"),
    "act over ln2": ("the best act", "the best ln2"),
}


def contrast_lines(view: RecordView) -> list[str]:
    """Return a sentence for each model and shift: which place in the network is better."""
    return [_answer(answer) for answer in view.contrast_answers]


def _answer(answer: ContrastAnswer) -> str:
    datasets = max(each.datasets for each in answer.contrasts)
    texts = "; ".join(_contrast(each, answer.task, datasets) for each in answer.contrasts)
    if answer.on_test:
        texts += ". Taps are chosen on these test images, so that gains look larger than they are"
    return averages_line(answer.model, answer.shift, answer.task, datasets, answer.family, texts)


def _contrast(each: MeanContrast, task: Task, datasets: int) -> str:
    first, second = _PLACES[each.name]
    verdict = "is not distinguishable from"
    if each.differs:
        verdict = "is better than" if each.gain.value > 0 else "is worse than"
    ends = " to ".join(map(task.change, each.gain.ci95))
    text = f"{first} {verdict} {second}: {task.points(each.gain.value)} ({ends})"
    if each.equal_width is not None and abs(each.equal_width - each.gain.value) > 1e-9:  # one of the two is wider
        text += f", {task.change(each.equal_width)} at equal width"
    alone = [f"{word} on {count}" for word, count in (("better", each.better), ("worse", each.worse)) if count]
    if each.datasets > 1 and alone:
        text += f", by itself {' and '.join(alone)}{f' of {each.datasets}' if each.datasets < datasets else ''}"
    return text


def contrast_sweeps(view: RecordView) -> dict[tuple[str, Task], list[SweepView]]:
    """The sweeps that have contrasts, by model and task; controls left out."""
    found: dict[tuple[str, Task], list[SweepView]] = {}
    for sweep in view.sweeps:
        if sweep.record.get("contrasts") and not sweep.control_of:
            found.setdefault((sweep.model, sweep.task), []).append(sweep)
    return found


def contrast_title(model: str, task: Task) -> str:
    """The title of a table of `contrast_table`."""
    kind = "" if task is CLASSIFICATION else f" ({task.score})"
    return f"{model}: places compared on the same test images{kind}"


def contrast_table(sweeps: list[SweepView]) -> tuple[list[str], list[list[str]]]:
    """The contrasts of sweeps of one model and task, a row for each.

    Returns:
        header and rows
    """
    body = [
        [
            sweep.dataset,
            each["contrast"],
            f"{each['tap']} over {each['over']}",
            sweep.task.change(each["gain"]),
            " to ".join(map(sweep.task.change, each["ci95"])),
            sweep.task.change(each["gain_equal_width"]),
            f"{each['p_value']:.2g}",
            "yes" if each["differs"] else "no",
        ]
        for sweep in sweeps
        for each in sweep.record["contrasts"]
    ]
    return ["dataset", "contrast", "taps", "gain", "95% CI", "equal width", "p", "differs"], body
