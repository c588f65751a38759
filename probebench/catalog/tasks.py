"""Tasks: what the labels of a dataset are, the score that probes get for predicting them, and how that is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from probebench import _format
from probebench.errors import unknown


@dataclass(frozen=True)
class Task:
    """What is predicted of an image.

    Attributes:
        name: as in `DatasetSpec.task`
        metrics: names of the scores that publications report; the first is the one of verdicts and rankings
        score: the name of that score in sentences
        title: the name of that score above columns
        percent: whether the score is written in percent, and its changes in points
        labels: what a label of such a dataset is, for error messages
    """

    name: str
    metrics: tuple[str, ...]
    score: str
    title: str
    percent: bool
    labels: str

    def __reduce__(self) -> tuple[Callable[[str], Task], tuple[str]]:
        # There is one object of each task, also in other processes.
        return get_task, (self.name,)

    @property
    def heading(self) -> str:
        """Return the title of a column of its scores, such as ``acc %`` or ``mAP``."""
        return f"{self.title} %" if self.percent else self.title

    def number(self, value: float | None) -> str:
        """Return the score as a cell of a table: 87.4 of 0.874, or 0.874; empty for None."""
        if self.percent:
            return _format.percent(value)
        return "" if value is None else f"{value:z.3f}"

    def change(self, value: float | None) -> str:
        """Return a difference of scores as a cell of a table: +3.9 points of 0.039, or +0.039; empty for None."""
        if self.percent:
            return _format.signed(value)
        return "" if value is None else f"{value:+z.3f}"

    def interval(self, ends: Sequence[float], between: str = "-") -> str:
        """Return the ends of an interval: 85.1-89.4 or 0.851-0.894; with ``to`` between them if one is negative."""
        low, high = (self.number(end) for end in ends)
        return f"{low} to {high}" if low.startswith("-") else f"{low}{between}{high}"

    def text(self, value: float) -> str:
        """Return the score in a sentence: ``87.4%`` or ``mAP 0.874``."""
        return f"{self.number(value)}%" if self.percent else f"{self.score} {self.number(value)}"

    def points(self, value: float) -> str:
        """Return a difference of scores in a sentence: ``+3.9 points`` or ``+0.039``."""
        return f"{self.change(value)} points" if self.percent else self.change(value)

    def moved(self, lost: int, gained: int) -> str:
        """Return how many test images a case lost and gained, in a sentence."""
        if self is CLASSIFICATION:
            return f"{lost} test images lost, {gained} gained"
        return f"{lost} test images score lower, {gained} higher"


CLASSIFICATION = Task(
    "classification",
    metrics=("top1", "mean_per_class"),
    score="accuracy",
    title="acc",
    percent=True,
    labels="one class an image: int64 of shape (n,)",
)
MULTILABEL = Task(
    "multilabel",
    metrics=("map",),
    score="mAP",
    title="mAP",
    percent=False,
    labels="any number of labels an image: bool or integers of shape (n, labels), 1 for a label that an image has, "
    "0 for one that it has not, -1 for one of which it is not known",
)
REGRESSION = Task(
    "regression",
    metrics=("r2",),
    score="R2",
    title="R2",
    percent=False,
    labels="real numbers: floating point of shape (n,) or (n, targets)",
)

TASKS = {task.name: task for task in (CLASSIFICATION, MULTILABEL, REGRESSION)}


def get_task(name: str) -> Task:
    """Return the task of that name.

    Raises:
        UnknownName: with the nearest names
    """
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]


def task_of_metric(metric: str) -> Task:
    """Return the task that a metric belongs to, as the entry of a sweep in a run record names it."""
    return next((task for task in TASKS.values() if metric in task.metrics), CLASSIFICATION)
