"""Progress on the terminal: of a sweep, of a recommendation, and of files that are fetched."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
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

from probebench._format import counted, human

_UNITS = {
    "extract": "image",
    "screen": "tap",
    "fit": "tap",
    "search for the best pair": "pair",
    "search for the best triple": "triple",
}
"""Of the stages that count something else than bytes, the noun."""

_STAGES = {
    "read": "reading images and network",
    "extract": "extraction",
    "screen": "screening",
    "fit": "probing",
    "train": "training the chosen probe",
}

EVERY = 30.0
"""Seconds between the lines of a stage, where there is no terminal."""

_WIDE = 60
"""Characters of a terminal that has room for rate and remaining time; on others they would wrap."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if speed is None:
            return Text("")
        unit = task.fields["unit"]
        return Text(f"{speed:,.0f} {unit}s/s" if unit else f"{human(int(speed))}/s")


class _Bar:
    """See `probebench.measure.sweep.Progress`."""

    def __init__(self, progress: Progress, title: str) -> None:
        self._progress, self._title = progress, title
        self._task = progress.add_task(title, total=None, unit="")

    def start(self, stage: str, total: int) -> None:
        self._progress.remove_task(self._task)
        name = f"{self._title}: {_STAGES.get(stage, stage)}"
        self._task = self._progress.add_task(name, total=total or None, unit=_UNITS.get(stage, ""))

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


class _StageLines:
    """Progress without a terminal: a line at the start of a stage, and one from time to time.

    Args:
        clock: seconds
    """

    def __init__(self, file: TextIO, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._file, self._title, self._clock = file, title, clock
        self._stage = ""
        self._total = self._done = 0
        self._shown = clock()

    def start(self, stage: str, total: int) -> None:
        self._stage, self._total, self._done = stage, total, 0
        self._print(self._count(total) if total else "")

    def advance(self, count: int) -> None:
        self._done += count
        if self._clock() - self._shown >= EVERY and self._done < self._total:
            done = f"{self._done:,}" if self._stage in _UNITS else human(self._done)
            self._print(f"{done} of {self._count(self._total)}")

    def _count(self, number: int) -> str:
        return counted(number, _UNITS[self._stage]) if self._stage in _UNITS else human(number)

    def _print(self, detail: str) -> None:
        self._shown = self._clock()
        stage = _STAGES.get(self._stage, self._stage)
        print(f"{self._title}: {stage}{f', {detail}' if detail else ''}", file=self._file, flush=True)


@contextmanager
def stages(file: TextIO, title: str) -> Iterator[_Bar | _StageLines]:
    """A bar on a terminal that disappears when it is done, plain lines elsewhere.

    Args:
        title: which model and images these are
    """
    if not file.isatty():
        yield _StageLines(file, title)
        return
    with bar(file, title) as shown:
        yield shown


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
