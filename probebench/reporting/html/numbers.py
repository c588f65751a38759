"""Format numbers for the report, in addition to `probebench._format`."""

from __future__ import annotations

from probebench._format import percent

DASH = "–"
"""Between the ends of an interval."""


def interval(ends: list[float] | tuple[float, float] | None) -> str:
    """The ends of an interval of fractions, as percent: ``83.3–87.9``."""
    return "" if ends is None else f"{percent(ends[0])}{DASH}{percent(ends[1])}"


def tenths(value: float | None) -> int | None:
    """A fraction in tenths of a percent, rounded as `percent` rounds it, so that no reader rounds a second time."""
    return None if value is None else round(10 * float(f"{100 * value:.1f}"))


def significant(value: float | None, digits: int = 2) -> str:
    """A number with at least so many significant digits: ``1.2e-05``, ``0.31``, ``1234``."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def duration(seconds: float) -> str:
    """``48 s``, ``3 min 12 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
