"""A progress bar on the terminal while a sweep extracts and fits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

_UNITS = {"extract": "images/s", "fit": "taps/s"}


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {task.fields['unit']}")


class _Bar:
    """See `probebench.sweep.Progress`."""

    def __init__(self, progress: Progress, title: str) -> None:
        self._progress, self._title = progress, title
        self._task = progress.add_task(title, total=None, unit="")

    def start(self, stage: str, total: int) -> None:
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(f"{self._title}: {stage}", total=total, unit=_UNITS[stage])

    def advance(self, count: int) -> None:
        self._progress.advance(self._task, count)


@contextmanager
def bar(file: TextIO, title: str) -> Iterator[_Bar]:
    """A bar on a terminal that disappears when it is done.

    Args:
        file: the terminal
        title: which sweep this is
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=file), transient=True) as progress:
        yield _Bar(progress, title)
