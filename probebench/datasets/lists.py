"""Read text files that list images and their labels, one image per line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from probebench.errors import DataError


class Line(NamedTuple):
    """One image of a list: its first column, its label as written, and its position in the file for messages."""

    name: str
    label: int
    where: str


def read_list(path: Path, columns: int) -> list[Line]:
    """Read a file with `columns` columns, of which the second is an integer.

    Raises:
        DataError: if the file cannot be read or a line has another format; the message has the line
    """
    return list(_lines(path, columns))


def _lines(path: Path, columns: int) -> Iterator[Line]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); get it again from the official source") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split()
        if len(parts) != columns or not parts[1].isdecimal():
            raise DataError(
                f"{path}, line {number}: expected {columns} columns, the second an integer, got {line[:80]!r}; "
                "get the file again from the official source"
            )
        yield Line(parts[0], int(parts[1]), f"{path}, line {number}")


def class_names(named: Iterable[tuple[str, Line]], first: int) -> list[str]:
    """Return class names in the order of labels.

    Args:
        named: the class name of each line, and the line
        first: the smallest label

    Raises:
        DataError: if a label has two names, or none
    """
    names: dict[int, str] = {}
    for name, line in named:
        if names.setdefault(line.label, name) != name:
            raise DataError(f"{line.where}: label {line.label} is {name!r} here but {names[line.label]!r} before")
    wanted = range(first, first + len(names))
    if missing := [label for label in wanted if label not in names]:
        raise DataError(
            f"labels should run from {first} without a gap, but no line has label {missing[0]}; "
            "the list is truncated or edited: get it again from the official source"
        )
    return [names[label] for label in wanted]
