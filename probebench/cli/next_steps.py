"""A list of commands to type next, each with its purpose below it."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text


def next_steps(steps: Iterable[tuple[str, str]]) -> list[RenderableType]:
    """Return the lines of the list, for `probebench.reporting.terminal.console.render_text`.

    Args:
        steps: commands, and what each of them is for
    """
    lines: list[RenderableType] = [Text("Next:")]
    for command, purpose in steps:
        lines += [Padding(Text(command, style="bold"), (0, 0, 0, 2)), Padding(Text(purpose), (0, 0, 0, 6))]
    return lines
