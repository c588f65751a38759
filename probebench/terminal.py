"""Tables and text as a terminal, a log or a file takes them."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from typing import TextIO, TypedDict

from rich.console import Console, RenderableType


class Manners(TypedDict):
    """How to write to a stream.

    Attributes:
        width: of the terminal in characters, None for as wide as the tables are
        color: whether to write colours
        ascii_only: whether to draw with ASCII characters only
    """

    width: int | None
    color: bool
    ascii_only: bool


def manners(out: TextIO) -> Manners:
    """What a stream can show; colours only on a terminal, and not where NO_COLOR is set."""
    tty = out.isatty()
    encoding = (getattr(out, "encoding", None) or "ascii").lower()
    return Manners(
        width=Console(file=out).width if tty else None,
        color=tty and not os.environ.get("NO_COLOR"),
        ascii_only=not encoding.startswith("utf"),
    )


def printed(parts: Iterable[RenderableType], *, width: int | None, color: bool, ascii_only: bool) -> str:
    """The text to write for tables and texts; see `Manners` for the arguments."""
    out = io.StringIO()
    console = Console(
        file=out,
        width=width or 200,
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
        console.print(part)
    # Rich pads to the full width; trailing blanks only make logs longer.
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))
