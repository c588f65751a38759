"""Show text and a table with rich, or as HTML in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

LABEL = 10
"""Characters at the start of a line, except the first, that hold its label."""


def rich(lines: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    """Render the lines and a table for rich."""
    from rich.console import Group
    from rich.text import Text

    from probebench.reporting.terminal.console import table

    return Group(*(Text(line) for line in lines), table(columns, rows, ascii_only=False))


def html(lines: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render the lines and a table as HTML."""
    first, *others = lines
    facts = "".join(
        f"<tr><th style='text-align:left'>{escape(line[:LABEL].strip())}</th>"
        f"<td style='text-align:left'>{escape(line[LABEL:])}</td></tr>"
        for line in others
    )
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f"<p><b>{escape(first)}</b></p><table>{facts}</table>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
