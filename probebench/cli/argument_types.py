"""Parse arguments that several commands have."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from probebench.errors import unknown


def names(text: str) -> list[str]:
    """Parse names that are separated by commas."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} contains no name")
    return found


def known_names(kind: str, known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Return a parser of names that are separated by commas and must be known."""

    def parse(text: str) -> tuple[str, ...]:
        found = tuple(name.strip() for name in text.split(","))
        for name in found:
            if name not in known:
                raise argparse.ArgumentTypeError(str(unknown(kind, name, known)))
        return found

    return parse


def number(allowed: Callable[[float], bool], what: str) -> Callable[[str], float]:
    """Return a parser of numbers, which says that text is not `what` if its number is not allowed."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not allowed(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return parse


def positive(text: str) -> int:
    """Parse a positive whole number."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return value
