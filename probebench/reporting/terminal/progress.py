"""Progress bars on the terminal: while a sweep extracts and fits, and while files are fetched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from probebench._format import human

_UNITS = {"extract": "images/s", "fit": "taps/s"}

_WIDE = 60
"""Characters of a terminal that has room for rate and remaining time; on others they would wrap."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if speed is None:
            return Text("")
        unit = task.fields["unit"]
        return Text(f"{speed:,.0f} {unit}" if unit else f"{human(int(speed))}/s")


class _Bar:
    """See `probebench.measure.sweep.Progress`."""

    def __init__(self, progress: Progress, title: str) -> None:
        self._progress, self._title = progress, title
        self._task = progress.add_task(title, total=None, unit="")

    def start(self, stage: str, total: int) -> None:
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(f"{self._title}: {stage}", total=total or None, unit=_UNITS.get(stage, ""))

    def advance(self, count: int) -> None:
        self._progress.advance(self._task, count)


@contextmanager
def bar(file: TextIO, title: str) -> Iterator[_Bar]:
    """A bar on a terminal that disappears when it is done.

    Args:
        file: the terminal
        title: which sweep this is
    """
    console = Console(file=file)
    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    if console.width >= _WIDE:
        columns += [_Rate(), TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bar(progress, title)


class _TransferBar:
    """See `probebench._progress.Progress`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None, visible=False)

    def start(self, what: str, total: int) -> None:
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(what, total=total or None)

    def advance(self, count: int) -> None:
        self._progress.advance(self._task, count)


class _TransferLines:
    """Progress without a terminal: a line at the start, and one for every quarter."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._total = self._done = 0

    def start(self, what: str, total: int) -> None:
        self._total, self._done = total, 0
        print(what + (f", {human(total)}" if total else ""), file=self._file, flush=True)

    def advance(self, count: int) -> None:
        before, self._done = self._done, self._done + count
        if self._total and 4 * self._done // self._total > 4 * before // self._total:
            print(f"  {human(self._done)} of {human(self._total)}", file=self._file, flush=True)


@contextmanager
def transfers(file: TextIO) -> Iterator[_TransferBar | _TransferLines]:
    """A bar on a terminal that disappears when it is done, plain lines elsewhere."""
    if not file.isatty():
        yield _TransferLines(file)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(file=file), transient=True) as progress:
        yield _TransferBar(progress)
