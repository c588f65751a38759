"""Render tables and text for a terminal, a log or a file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO, TypedDict

from rich import box
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from probebench.records.types import Verdict


class OutputStyle(TypedDict):
    """The way to write to a stream.

    Attributes:
        width: of the terminal in characters, None for as wide as the tables are
        color: whether to write colours
        ascii_only: whether to draw with ASCII characters only
    """

    width: int | None
    color: bool
    ascii_only: bool


def output_style(out: TextIO) -> OutputStyle:
    """The style that a stream can show; colours only on a terminal, and not if NO_COLOR is set."""
    tty = out.isatty()
    encoding = (getattr(out, "encoding", None) or "ascii").lower()
    return OutputStyle(
        width=Console(file=out).width if tty else None,
        color=tty and not os.environ.get("NO_COLOR"),
        ascii_only=not encoding.startswith("utf"),
    )


# Columns of words; of these, the ones that may wrap on a narrow terminal. Numbers never do.
_WORDS = ("dataset", "model", "tap", "site", "verdict", "earliest", "shift", "pooling", "depth", "contrast", "taps")
_FOLDED = ("dataset", "model", "verdict")
_ANY_WIDTH = 10_000
_LEAST = 16  # characters of a name on one line, before columns are left out


_VERDICT_STYLE: dict[Verdict, str] = {
    "regressed": "bold red",
    "improved": "green",
    "new": "cyan",
    "not comparable": "yellow",
}


def verdict_text(verdict: Verdict) -> Text:
    """A verdict in its colour."""
    return Text(verdict, style=_VERDICT_STYLE.get(verdict, ""))


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], ascii_only: bool) -> Table:
    """A table in probebench's style."""
    drawn = Table(box=box.ASCII if ascii_only else box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in columns:
        justify: JustifyMethod = "left" if name in _WORDS else "right"
        drawn.add_column(name, justify=justify, no_wrap=name not in _FOLDED, overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    return drawn


def fit_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str | Text]],
    *,
    width: int | None,
    ascii_only: bool,
    spare: Sequence[str],
) -> tuple[Table, list[str]]:
    """A table without the columns that the terminal has no room for.

    Args:
        width: of the terminal in characters, None for as wide as the table is
        spare: the columns that can be left out, in the order they go

    Returns:
        the table, and the columns that were left out
    """
    left_out: list[str] = []
    going = [name for name in spare if name in columns]
    while True:
        kept = [i for i, name in enumerate(columns) if name not in left_out]
        drawn = table([columns[i] for i in kept], [[row[i] for i in kept] for row in rows], ascii_only)
        if width is None or _least_width(drawn) <= width or not going:
            return drawn, left_out
        left_out.append(going.pop(0))


def _least_width(drawn: Table) -> int:
    """The characters that a table needs if names are wrapped, and numbers are not."""
    for column in drawn.columns:
        if column.header in _FOLDED:
            words = [word for cell in (column.header, *column.cells) for word in str(cell).split()]
            column.max_width = min(max(map(len, words)), _LEAST)
    needed = Console(width=_ANY_WIDTH).measure(drawn)
    for column in drawn.columns:
        if column.header in _FOLDED:
            column.max_width = None
    return needed.minimum if drawn.box is None else needed.maximum  # a grid of sentences, or a table


def _tables(part: RenderableType) -> Iterator[Table]:
    """The tables in a part of the output."""
    if isinstance(part, Table):
        yield part
    elif isinstance(part, Group):
        for each in part.renderables:
            yield from _tables(each)


def add_title(title: str, below: RenderableType) -> Group:
    """A table under its title. Not rich's own table title, which wraps to the width of the table."""
    return Group(Text(title, style="bold"), below)


def render_text(parts: Iterable[RenderableType], *, width: int | None, color: bool, ascii_only: bool) -> str:
    """The text to write for tables and texts; see `OutputStyle` for the arguments.

    On a terminal that is too narrow for a table, its lines are longer: they are not cropped, which would cut numbers.
    """
    out = io.StringIO()
    console = Console(
        file=out,
        width=_ANY_WIDTH,
        force_terminal=color,
        color_system="256" if color else None,
        no_color=not color,
        legacy_windows=False,
        safe_box=ascii_only,
        highlight=False,
        markup=False,  # names may have brackets
        emoji=False,
    )
    for part in parts:
        console.print(part, width=max([width or 200, *map(_least_width, _tables(part))]))
    # Rich pads to the full width; trailing blanks only make logs longer.
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))
