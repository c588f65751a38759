"""Errors that a user can put right, and the notes that a run prints at its end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


class ProbebenchError(Exception):
    """Base of all errors below: what was wrong, where, and what to do about it."""


class UnknownName(ProbebenchError):
    """A model, dataset, layer, site or protocol that does not exist."""


class WeightsError(ProbebenchError):
    """A weights file that is missing, damaged, or of another architecture."""


class LayoutError(ProbebenchError):
    """A network whose blocks no layout describes, or that lacks what a protocol reads."""


class DataError(ProbebenchError):
    """A dataset that cannot be probed: wrong shapes, a class without training images."""


class FeatureError(ProbebenchError):
    """Features that cannot be probed: NaN or infinite values."""


class FetchError(ProbebenchError):
    """Weights or an archive that cannot be fetched, unpacked or put in place."""


class Unreachable(FetchError):
    """No network, no such host, or a host that does not answer."""


class EngineError(ProbebenchError):
    """The execution backend is unavailable, or one of its nodes is missing something required."""


class StoreError(ProbebenchError):
    """A baseline, run record or leaderboard file that cannot be read or written."""


@dataclass(frozen=True)
class Note:
    """A line that a run prints at its end.

    Attributes:
        severity: an error fails the run
        text: without the severity, which `str` puts before it
    """

    severity: Literal["info", "warning", "error"]
    text: str

    def __str__(self) -> str:
        return self.text if self.severity == "info" else f"{self.severity.upper()}: {self.text}"


def nearest(name: object, names: Iterable[str]) -> str:
    """`` Did you mean ...?``, with a blank before it; nothing where no name is near."""
    from difflib import get_close_matches

    near = get_close_matches(str(name), sorted(names), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""


def unknown(kind: str, name: object, known: Iterable[str], listing: str | None = None) -> UnknownName:
    """The error for a name that is not one of `known`, with the nearest ones, and the whole list if it is short.

    Args:
        listing: a clause that says where a list is that is too long for a message
    """
    names = sorted(known)
    hint = nearest(name, names)
    if listing is None or len(names) <= _SHORT_LIST:
        return UnknownName(f"unknown {kind} {name!r}.{hint} Known: {', '.join(names)}.")
    return UnknownName(f"unknown {kind} {name!r}.{hint} {listing}.")


_SHORT_LIST = 20
