"""Read several labels an image, or real-valued targets, from the columns of a table."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from probebench._format import counted, list_some
from probebench.catalog.tasks import MULTILABEL
from probebench.datasets.columns import LABEL, find_column, guess_column
from probebench.datasets.table_files import Row, Table
from probebench.errors import DataError

_BITS = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1, "-1": -1, "-1.0": -1, "": -1}
_SEPARATORS = r"[;,|\s]+"


def read_targets(
    parts: Sequence[tuple[Table, list[Row]]], task: str, label: str | Sequence[str] | None
) -> tuple[list[str], list[npt.NDArray[np.float64]], str]:
    """Return the names of labels or targets, their values for the rows of each part, and what was guessed.

    Labels are columns of 0 and 1 (or empty, if it is not known), or names in one column, with blanks, commas,
    semicolons or bars between them. Targets are columns of numbers.

    Args:
        parts: the tables of train and of test, and the rows that are used
        label: the columns; by default all of 0 and 1, or the one that is named like a label

    Returns:
        float64, shape (rows, names), for each part; -1 for a label that is not known

    Raises:
        DataError: if there are no such columns, or a value is none
    """
    table = parts[0][0]
    columns = [label] if isinstance(label, str) else list(label or ())
    for column in columns:
        find_column(table.columns, column, (), "label", str(table.path))
    if task == MULTILABEL.name:
        bits = columns or [name for name in table.columns if _all_bits(parts, name)]
        if len(bits) > 1:
            said = "" if columns else f"{table.path.name}: labels are its columns of 0 and 1, {list_some(bits, 5)}"
            return bits, [_numbers(one, rows, bits, _BITS) for one, rows in parts], said
    guessed = guess_column(table.columns, LABEL)
    if not columns and guessed is None:
        raise DataError(
            f"{table.path} has no columns of 0 and 1, and none that is named like labels are; it has "
            f"{list_some(table.columns, 10)}: name one with label = '...'"
        )
    columns = columns or [str(guessed)]
    said = "" if label else f"{table.path.name}: labels are in column {columns[0]!r}, guessed from the header"
    if task == MULTILABEL.name:
        return (*_named(parts, columns[0]), said)
    return columns, [_numbers(one, rows, columns, None) for one, rows in parts], said


def _all_bits(parts: Sequence[tuple[Table, list[Row]]], column: str) -> bool:
    values = {
        row.cells[table.columns.index(column)].lower()
        for table, rows in parts
        if column in table.columns
        for row in rows
    }
    return values <= _BITS.keys() and bool(values & {"1", "1.0", "true"})


def _place(table: Table, column: str) -> int:
    if column not in table.columns:
        raise DataError(f"{table.path} has no column {column!r}; test images need the labels of the training images")
    return table.columns.index(column)


def _numbers(
    table: Table, rows: list[Row], columns: Sequence[str], known: dict[str, int] | None
) -> npt.NDArray[np.float64]:
    found = np.empty((len(rows), len(columns)))
    for place, name in enumerate(columns):
        cell = _place(table, name)
        for number, row in enumerate(rows):
            try:
                text = row.cells[cell]
                found[number, place] = float(text) if known is None else known[text.lower()]
            except (ValueError, KeyError):
                wanted = "a number" if known is None else "0, 1 or nothing"
                raise DataError(
                    f"{table.path}, line {row.line}: column {name!r} holds {row.cells[cell][:60]!r}, not {wanted}"
                ) from None
    return found


def _named(parts: Sequence[tuple[Table, list[Row]]], column: str) -> tuple[list[str], list[npt.NDArray[np.float64]]]:
    """Read a column with the names of the labels that an image has."""
    held = []
    for table, rows in parts:
        place = _place(table, column)
        held.append([set(filter(None, re.split(_SEPARATORS, row.cells[place]))) for row in rows])
    names = sorted(set().union(*held[0]))
    if len(names) < 2:
        raise DataError(f"{parts[0][0].path}: column {column!r} holds {counted(len(names), 'label')}; two are needed")
    if unknown := sorted(set().union(*held[1]) - set(names)):
        raise DataError(
            f"{parts[1][0].path}: test images have the labels {list_some(unknown)}, which no training image has; add "
            "training images with them, or remove them"
        )
    return names, [np.array([[name in found for name in names] for found in part], dtype=np.float64) for part in held]
