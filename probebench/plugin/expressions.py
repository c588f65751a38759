"""Parse pytest's -k and -m expressions and node ids for names of models and datasets."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from probebench.catalog.cases import SELECTORS
from probebench.catalog.taps import COMBINATIONS, POOLINGS, REFERENCES, SITES
from probebench.errors import nearest
from probebench.measure.availability import RequestedNames

if TYPE_CHECKING:
    from probebench.catalog.cases import Sweep

NAMED = (*REFERENCES, *COMBINATIONS)
"""Taps that are called by a name."""

_SHORT = 3  # letters: a shorter word of -k is part of too many names to request a download


def parse_requested_names(
    models: Iterable[str], datasets: Iterable[str], keyword: str, mark: str, arguments: Iterable[str]
) -> RequestedNames:
    """Collect the names on a command line that may be downloaded. Whatever stands under a ``not`` does not count.

    Args:
        models, datasets: exact names, from ``--probe-model`` and ``--probe-dataset``
        keyword, mark: the expressions of ``-k`` and ``-m``
        arguments: of the pytest run, node ids among them
    """
    ids = [part for argument in arguments for part in re.findall(r"\[([^\]]+)\]", argument)]
    exact = {"model": set(models), "dataset": set(datasets)}
    for kind, name in re.findall(r"""(model|dataset)\s*=\s*["']([^"']+)["']""", _strip_negated(mark)):
        exact[kind].add(name)
    for each in ids:
        for names in exact.values():  # other parameters may stand before or behind
            names.update(each.split("-"))
    words = {
        part.lower()
        for word in re.findall(r"[^\s()]+", _strip_negated(keyword))
        if word not in ("and", "or")
        for part in word.strip("[]").split("-")
    }
    return RequestedNames(frozenset(exact["model"]), frozenset(exact["dataset"]), frozenset(filter(_is_a_name, words)))


def find_unmatched(expression: str, sweeps: Collection[Sweep], deepest: int) -> list[str]:
    """Explain which parts of a -m expression match no case, one line each.

    Args:
        sweeps: all sweeps with cases
        deepest: number of layers of the deepest model
    """
    known: dict[str, set[str]] = {
        "model": {sweep.model for sweep in sweeps},
        "dataset": {sweep.dataset for sweep in sweeps},
        "site": {*SITES, *NAMED},
        "pooling": set(POOLINGS),
    }
    found = []
    for arguments in re.findall(r"\bprobe\(([^()]*)\)", expression):
        for key, quote, name in re.findall(r"""(\w+)\s*=\s*(["']?)([^"',]+)\2""", arguments):
            if key not in SELECTORS:
                found.append(f"-m: the probe mark has no {key!r}.{nearest(key, SELECTORS)}")
            elif key == "layer" and name not in (NAMED if quote else map(str, range(1, deepest + 1))):
                found.append(
                    f"-m: no case has layer={quote}{name}{quote}. Known: 1 to {deepest}, as numbers without quotes, "
                    f"{', '.join(map(repr, NAMED))}. --probe-layer takes ranges"
                )
            elif name not in known.get(key, [name]):
                found.append(f"-m: no case has {key}={name!r}.{nearest(name, known[key])}")
    return list(dict.fromkeys(found))


def _is_a_name(word: str) -> bool:
    return len(word) >= _SHORT and word not in (*SITES, *NAMED) and not re.fullmatch(r"l\d+", word)


def _strip_negated(expression: str) -> str:
    """Remove from an expression of -k or -m whatever stands under a ``not``."""
    return "".join(_keep_positive(expression))


def _keep_positive(expression: str) -> Iterator[str]:
    depth, negated, skipping = 0, False, -1  # skipping: the depth of brackets that a negation covers, or -1
    for piece in re.findall(r"""(?!(?:not|and|or)\b)\w+\([^()]*\)|\(|\)|[^\s()]+|\s+""", expression):
        if piece == "(":
            if negated and skipping < 0:
                skipping = depth
            depth, negated = depth + 1, False
        elif piece == ")":
            depth -= 1
            if depth == skipping:
                skipping = -1
        elif piece == "not":
            negated = True
        elif piece.isspace():
            yield " "
        else:
            if not negated and skipping < 0:
                yield piece
            negated = False
