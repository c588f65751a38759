"""Which models and datasets a command line asks for by name, and so may download."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from probebench.catalog.cases import ARGUMENTS
from probebench.catalog.taps import REFERENCES, SITES
from probebench.errors import nearest

if TYPE_CHECKING:
    from probebench.catalog.cases import Sweep

_SHORT = 3  # letters: a shorter word of -k is in too many names to be meant for one


@dataclass(frozen=True)
class RequestedNames:
    """What was named by ``--probe-model``, ``--probe-dataset``, ``-k``, ``-m`` and node ids.

    Attributes:
        models, datasets: exact names
        words: parts of names, in lower case, as ``-k`` matches them
    """

    models: frozenset[str]
    datasets: frozenset[str]
    words: frozenset[str]

    def model(self, name: str) -> bool:
        """Whether a model is asked for."""
        return name in self.models or self._word_in(name)

    def dataset(self, name: str) -> bool:
        """Whether a dataset is asked for."""
        return name in self.datasets or self._word_in(name)

    def _word_in(self, name: str) -> bool:
        return any(word in name.lower() for word in self.words)

    @classmethod
    def parse(
        cls, models: Iterable[str], datasets: Iterable[str], keyword: str, mark: str, arguments: Iterable[str]
    ) -> RequestedNames:
        """From the exact selections, the expressions of ``-k`` and ``-m``, and the arguments of a pytest run.

        What stands under a ``not`` is not asked for.
        """
        ids = [part for argument in arguments for part in re.findall(r"\[([^\]]+)\]", argument)]
        exact = {"model": set(models), "dataset": set(datasets)}
        for kind, name in re.findall(r"""(model|dataset)\s*=\s*["']([^"']+)["']""", _positive(mark)):
            exact[kind].add(name)
        for each in ids:
            parts = each.split("-")
            if len(parts) > 2:  # without a tap it is the id of a withheld sweep, which names nothing to download
                for names in exact.values():  # other parameters may stand before or behind
                    names.update(parts)
        words = {
            part.lower()
            for word in re.findall(r"[^\s()]+", _positive(keyword))
            if word not in ("and", "or")
            for part in word.strip("[]").split("-")
        }
        return cls(frozenset(exact["model"]), frozenset(exact["dataset"]), frozenset(filter(_is_a_name, words)))


def unmatched(expression: str, sweeps: Collection[Sweep], deepest: int) -> list[str]:
    """What in an expression of -m no case has, a line each.

    Args:
        sweeps: all that there are
        deepest: number of layers of the deepest model
    """
    known = {
        "model": {sweep.model for sweep in sweeps},
        "dataset": {sweep.dataset for sweep in sweeps},
        "site": {*SITES, *REFERENCES},
    }
    found = []
    for arguments in re.findall(r"\bprobe\(([^()]*)\)", expression):
        for key, quote, name in re.findall(r"""(\w+)\s*=\s*(["']?)([^"',]+)\2""", arguments):
            if key not in ARGUMENTS:
                found.append(f"-m: the probe mark has no {key!r}.{nearest(key, ARGUMENTS)}")
            elif key == "layer" and name not in (REFERENCES if quote else map(str, range(1, deepest + 1))):
                found.append(
                    f"-m: no case has layer={quote}{name}{quote}. Known: 1 to {deepest}, as numbers without quotes, "
                    f"{' and '.join(map(repr, REFERENCES))}. --probe-layer takes ranges"
                )
            elif name not in known.get(key, [name]):
                found.append(f"-m: no case has {key}={name!r}.{nearest(name, known[key])}")
    return list(dict.fromkeys(found))


def _is_a_name(word: str) -> bool:
    return len(word) >= _SHORT and word not in (*SITES, *REFERENCES) and not re.fullmatch(r"l\d+", word)


def _positive(expression: str) -> str:
    """An expression of -k or -m without what stands under a ``not``."""
    return "".join(_kept(expression))


def _kept(expression: str) -> Iterator[str]:
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
