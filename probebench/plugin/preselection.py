"""Find the cases that -k and -m select before pytest makes tests of them: a project may describe many thousands.

pytest itself applies both expressions once more to the tests that were made. So a case is left out here only if it is
certain that pytest would deselect it, and nothing is left out by an expression that cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from probebench.catalog.cases import Case
from probebench.plugin.items import CASE, SWEEP

if TYPE_CHECKING:
    import pytest

    from probebench.catalog.cases import Sweep
    from probebench.catalog.taps import Tap

Truth = bool | None
"""The value of an expression for several cases: that of all of them, or None if they differ or it is not known."""

Expression = Callable[[Callable[[str], Truth]], Truth]
"""An expression as a function of what its words are worth; a word may have arguments, as ``probe(layer=6)`` does."""

_WORD = r"[\w:+\-.\[\]\\/]+"
_TOKEN = re.compile(rf"\s*({_WORD}\s*\([^()]*=[^()]*\)|{_WORD}|[()])")


def parse(text: str) -> Expression | None:
    """Parse an expression of -k or -m; None if it is empty, or not valid, which pytest reports."""
    tokens, place = [], 0
    text = text.strip()
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            return None
        tokens.append(found[1])
        place = found.end()
    left = iter([*tokens, ""])
    try:
        return _Parser(left).whole()
    except ValueError:
        return None


class _Parser:
    """Parses tokens, of which the last is empty. Raises ValueError for an expression that is not valid."""

    def __init__(self, tokens: Iterator[str]) -> None:
        self._tokens = tokens
        self._next = next(tokens)

    def whole(self) -> Expression:
        found = self._any_of()
        if self._next:
            raise ValueError(self._next)
        return found

    def _take(self) -> str:
        token, self._next = self._next, next(self._tokens, "")
        return token

    def _any_of(self) -> Expression:
        parts = [self._all_of()]
        while self._next == "or":
            self._take()
            parts.append(self._all_of())
        return lambda word: _any(part(word) for part in parts)

    def _all_of(self) -> Expression:
        parts = [self._one()]
        while self._next == "and":
            self._take()
            parts.append(self._one())
        return lambda word: _not(_any(_not(part(word)) for part in parts))

    def _one(self) -> Expression:
        token = self._take()
        if token == "not":
            negated = self._one()
            return lambda word: _not(negated(word))
        if token == "(":
            inner = self._any_of()
            if self._take() != ")":
                raise ValueError(token)
            return inner
        if token in ("", ")", "and", "or"):
            raise ValueError(token)
        return lambda word: word(token)


def _any(values: Iterator[Truth]) -> Truth:
    result: Truth = False
    for value in values:
        if value:
            return True
        if value is None:
            result = None
    return result


def _not(value: Truth) -> Truth:
    return None if value is None else not value


class Preselection:
    """The expressions of -k and -m, for the cases of one test function."""

    def __init__(self, metafunc: pytest.Metafunc) -> None:
        option, definition = metafunc.config.option, metafunc.definition
        # Another parameter would be part of the names of the tests, and could have marks.
        alone = set(metafunc.fixturenames) <= {"probe", "request", SWEEP, CASE}
        self._keyword = parse(option.keyword) if alone and "=" not in option.keyword else None
        self._mark = parse(option.markexpr) if alone else None
        self._marks: dict[str, list[Mapping[str, object]]] = {"probe": []}
        for mark in definition.iter_markers():
            self._marks.setdefault(mark.name, []).append(mark.kwargs)
        attributes = [name for name in vars(metafunc.function) if not name.startswith("_") and name != "pytestmark"]
        names = [*_name_parents(definition), *definition.listextrakeywords(), *attributes, *self._marks]
        self._names = "\n".join(names).lower()
        self._function = f"{definition.name}["
        self._ends: dict[int, str] = {}  # by the number of taps

    def choose(self, sweep: Sweep, taps: Sequence[Tap]) -> Sequence[Tap]:
        """The taps of a sweep whose cases may be selected."""
        if self._keyword is not None:
            taps = self._choose_by_name(self._keyword, sweep, taps)
        if self._mark is not None:
            taps = self._choose_by_mark(self._mark, sweep, taps)
        return taps

    def _choose_by_name(self, expression: Expression, sweep: Sweep, taps: Sequence[Tap]) -> Sequence[Tap]:
        """The taps that -k selects: pytest looks for its words in the names of a test and of what it is in."""
        shared = f"{self._names}\n{self._function}{sweep.id}-".lower()
        ends = self._name_ends(taps)

        def find_in_all(word: str) -> Truth:
            word = word.lower()
            if word in shared:
                return True
            # Or it may be part of the end of a name, or begin before it.
            begins = (shared.endswith(word[:place]) for place in range(1, len(word)) if word[place - 1] == "-")
            return None if word in ends or any(begins) else False

        value = expression(find_in_all)
        if value is not None:
            return taps if value else []
        texts = (f"{shared}{tap.id}]".lower() for tap in taps)
        return [tap for tap, text in zip(taps, texts, strict=True) if expression(partial(_find_in, text))]

    def _name_ends(self, taps: Sequence[Tap]) -> str:
        """The ends of the names of all tests of a sweep. They depend only on how deep the model is."""
        if len(taps) not in self._ends:
            self._ends[len(taps)] = "\n".join(f"-{tap.id}]" for tap in taps).lower()
        return self._ends[len(taps)]

    def _choose_by_mark(self, expression: Expression, sweep: Sweep, taps: Sequence[Tap]) -> Sequence[Tap]:
        """The taps that -m may select: pytest looks for marks of these names, with these arguments."""
        marks = [Case(sweep, tap).marks for tap in taps]
        chosen = (expression(partial(self._has_mark, each)) is not False for each in marks)
        return [tap for tap, keep in zip(taps, chosen, strict=True) if keep]

    def _has_mark(self, own: Mapping[str, object], word: str) -> Truth:
        """Tell if a case has a mark, or one of the function that it is a case of."""
        name, _, text = word.rstrip(")").partition("(")
        marks = self._marks.get(name.strip(), [])
        if name.strip() == "probe":
            marks = [*marks, own]
        arguments = dict(_read_arguments(text))
        if len(arguments) != text.count("="):
            return None
        return any(all(key in mark and mark[key] == arguments[key] for key in arguments) for mark in marks)


def _find_in(text: str, word: str) -> bool:
    return word.lower() in text


def _name_parents(definition: pytest.Item) -> list[str]:
    """The names of a test function and of all that it is in, but for the root folder, as -k looks at them."""
    import pytest

    return [
        node.name
        for node in definition.listchain()
        if not isinstance(node, pytest.Session)
        and not (isinstance(node, pytest.Directory) and isinstance(node.parent, pytest.Session))
    ]


def _read_arguments(text: str) -> Iterator[tuple[str, object]]:
    for key, quote, value in re.findall(r"""(\w+)\s*=\s*(["']?)([^"',=]+)\2""", text):
        yield key, value if quote else int(value) if re.fullmatch(r"-?\d+", value.strip()) else value.strip()


def takes_whole(config: pytest.Config, definition: pytest.Item) -> bool:
    """Return True if the command line names a test function, or what it is in, and not only cases of it."""
    inside = [node.name for node in definition.listchain() if node.path == definition.path][1:]
    for argument in config.args:
        path, *names = argument.split("::")
        folder = Path(config.invocation_params.dir, path).resolve()
        if definition.path.resolve().is_relative_to(folder) and names == inside[: len(names)]:
            return True
    return False
