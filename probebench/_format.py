"""Numbers and names as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def counted(number: int, noun: str) -> str:
    """``1 case``, ``1,764 cases``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percent(value: float | None) -> str:
    """87.4 of 0.874."""
    return "" if value is None else f"{100 * value:.1f}"


def signed(value: float | None) -> str:
    """+3.9 of 0.039, in percentage points; +0.0 of what rounds to zero from either side."""
    return "" if value is None else f"{100 * value:+z.1f}"


def interval(ci95: Sequence[float]) -> str:
    """85.1-89.4 of [0.851, 0.894]."""
    return f"{100 * ci95[0]:.1f}-{100 * ci95[1]:.1f}"


def duration(seconds: float) -> str:
    """A time as people write it: 3.2 s, 94 s, 12 min, 2.5 h."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def list_some(items: Iterable[object], most: int = 3, separator: str = ", ") -> str:
    """``a, b, c and 4 more``: the first items, and how many others there are."""
    shown, rest = _split([str(item) for item in items], most)
    return " ".join([separator.join(shown), *rest])


def first_lines(lines: Iterable[str], most: int) -> list[str]:
    """The first lines, and a last one that counts the others: ``and 4 more``."""
    shown, rest = _split(list(lines), most)
    return shown + rest


def _split(items: list[str], most: int) -> tuple[list[str], list[str]]:
    left = len(items) - most
    return items[:most], [f"and {left} more"] if left > 0 else []


def human(size: int) -> str:
    """A number of bytes as people write it: 502 B, 170 MB, 2.9 GB."""
    number, unit = float(size), "B"
    for larger in ("kB", "MB", "GB"):
        if number < 1000:
            break
        number, unit = number / 1000, larger
    return f"{number:.1f} {unit}" if number < 10 and unit != "B" else f"{number:.0f} {unit}"
