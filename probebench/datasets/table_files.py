"""Read the files that list images and labels: tables with a header, JSON lines, and lists of `path label`."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from probebench._format import counted, list_some
from probebench.datasets.columns import IMAGE, LABEL, SPLIT, find_column, guess_column
from probebench.datasets.locate import is_image
from probebench.errors import DataError
from probebench.fetch.local import NotOnDisk

TABLES = (".csv", ".tsv", ".jsonl")
LISTS = (".txt", ".lst", ".list")


@dataclass(frozen=True)
class Row:
    """One listed image.

    Attributes:
        name: its path as written
        label: as written
        split: as written, or empty
        line: where it is in the file, from 1
        cells: of all columns, where the table has named columns
    """

    name: str
    label: str
    split: str
    line: int
    cells: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """The rows of a file, and what was guessed to read them.

    Attributes:
        columns: their names, where it has named columns; empty for a list
    """

    path: Path
    rows: list[Row]
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


def read_table(
    path: Path,
    image: str | None = None,
    label: str | None = None,
    split: str | None = None,
    *,
    unlabelled: bool = False,
) -> Table:
    """Read a file that lists images and labels; the ending of its name decides how.

    Args:
        path: ``.csv``, ``.tsv`` or ``.jsonl`` with named columns; other endings: such a table, or a path and a label in
            each line, or paths alone, of which the folder of each image is its class
        image, label, split: names of columns; by default they are guessed
        unlabelled: leave labels to the caller, who reads them from `Row.cells`

    Raises:
        NotOnDisk: if there is no such file
        DataError: if it cannot be read, has no such columns, or a row lacks an image or a label
    """
    kind, given = path.suffix.lower(), (image, label, split)
    text = read_text(path)
    if unlabelled:
        lines = kind == ".jsonl"
        return _from_columns(path, *(_json_lines if lines else _separated)(path, text), given, unlabelled=True)
    if kind == ".jsonl":
        return _from_columns(path, *_json_lines(path, text), given)
    if kind in TABLES:
        columns, cells = _separated(path, text)
        if len(columns) == 2 and is_image(columns[0]) and given == (None, None, None):
            rows = [Row(name, its_label, "", line) for line, (name, its_label) in [(1, columns), *cells]]
            return _checked(Table(path, rows, (f"{path.name} has no header: its columns are images and labels",)))
        return _from_columns(path, columns, cells, given)
    columns = re.split(r"[\t,;]", text.strip().splitlines()[0])
    if guess_column(columns, IMAGE) is not None and guess_column(columns, LABEL) is not None:
        return _from_columns(path, *_separated(path, text), given)
    return _checked(_list(path, text.splitlines()))


def read_text(path: Path) -> str:
    """Read a text file. Raises NotOnDisk if there is none, DataError if it is not UTF-8 or has no text."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise NotOnDisk(f"file {path.absolute()} does not exist; correct the path") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text in UTF-8 ({error.reason}); save it in that encoding") from error
    if not text.strip():
        raise DataError(f"{path} is empty; it should list images and their labels")
    return text


_Cells = list[tuple[int, list[str]]]
"""The number of each line, and its cells."""


def _separated(path: Path, text: str) -> tuple[list[str], _Cells]:
    """Split a table into the names of its columns, and its rows."""
    header = text.strip().splitlines()[0]
    tabs = path.suffix.lower() == ".tsv" or "\t" in header
    comma = "\t" if tabs else ";" if header.count(";") > header.count(",") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=comma, strict=True)
    found: _Cells = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                found.append((reader.line_num, [cell.strip() for cell in cells]))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not a row of a table ({error})") from error
    (_, columns), *rows = found
    for line, cells in rows:
        if len(cells) != len(columns):
            raise DataError(
                f"{path}, line {line}: {counted(len(cells), 'column')}, but the header has {len(columns)}; "
                "put values that contain the separator in quotes"
            )
    if twice := {column for column in columns if columns.count(column) > 1}:
        raise DataError(f"{path} has two columns {min(twice)!r}; rename one")
    return columns, rows


def _json_lines(path: Path, text: str) -> tuple[list[str], _Cells]:
    """Read objects of JSON, one per line, as `_separated` does tables."""
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: expected an object with named values, got {line[:80]!r}")
        rows.append((number, row))
    columns = list(dict.fromkeys(name for _, row in rows for name in row))
    return columns, [(number, [_as_text(row.get(name)) for name in columns]) for number, row in rows]


def _as_text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _from_columns(
    path: Path,
    columns: list[str],
    cells: _Cells,
    given: tuple[str | None, str | None, str | None],
    *,
    unlabelled: bool = False,
) -> Table:
    """Take images, labels and splits from the columns that are given, or from those whose names fit."""
    image = find_column(columns, given[0], IMAGE, "image", str(path))
    others = [column for column in columns if column != image]
    split = find_column(others, given[2], (), "split", str(path)) if given[2] else guess_column(others, SPLIT)
    guessed = [] if given[0] else [f"images are in column {image!r}"]
    if unlabelled:
        labels = ["-"] * len(cells)
    elif given[1] is None and guess_column(others, LABEL) is None and (hot := _one_hot(path, columns, cells, image)):
        labels = hot
        guessed.append("the other columns are classes, one of which is 1 for each image")
    else:
        label = find_column(others, given[1], LABEL, "label", str(path))
        labels = [row[columns.index(label)] for _, row in cells]
        _check_labels(path, label, labels)
        guessed += [] if given[1] else [f"labels are in column {label!r}"]
    notes = (f"{path.name}: {' and '.join(guessed)}, guessed from the header",) if guessed else ()
    place, part = columns.index(image), None if split is None else columns.index(split)
    rows = [
        Row(row[place], name, "" if part is None else row[part], line, tuple(row))
        for (line, row), name in zip(cells, labels, strict=True)
    ]
    return _checked(Table(path, rows, notes, tuple(columns)))


def _one_hot(path: Path, columns: list[str], cells: _Cells, image: str) -> list[str] | None:
    """Return the names of the classes in a table with a column per class, or None if it has no such columns.

    Raises:
        DataError: if images have several classes, or none
    """
    values = {"0": False, "0.0": False, "1": True, "1.0": True}
    places = [
        place
        for place, column in enumerate(columns)
        if column != image and cells and all(row[place] in values for _, row in cells)
    ]
    if len(places) < 2:
        return None
    names = [[columns[place] for place in places if values[row[place]]] for _, row in cells]
    if wrong := [(line, found) for (line, _), found in zip(cells, names, strict=True) if len(found) != 1]:
        line, found = wrong[0]
        raise DataError(
            f"{path} has {len(places)} columns of 0 and 1, and {counted(len(wrong), 'image')} with several of them or "
            f"none, the first in line {line} ({', '.join(found) or 'none'}): for several labels an image, give its "
            f"DatasetSpec task='multilabel'; or name the column to probe, such as label = {columns[places[0]]!r}"
        )
    return [found[0] for found in names]


def _check_labels(path: Path, column: str, labels: Sequence[str]) -> None:
    """Refuse columns that do not hold one class per image."""
    if lists := [label for label in labels if label.startswith(("[", "{", "(")) and _is_collection(label)]:
        raise DataError(
            f"{path}: column {column!r} holds several values per image, such as {lists[0][:60]}; make a column of 0 "
            "and 1 for each, and give its DatasetSpec task='multilabel'"
        )
    # 1.0 may be an integer in a column with gaps; 1.5 is a measurement.
    if all(re.fullmatch(r"-?\d*\.?\d+(e-?\d+)?", label) for label in labels if label):
        measured = [label for label in labels if label and float(label) % 1]
        if measured:
            raise DataError(
                f"{path}: column {column!r} holds numbers with decimals, such as {measured[0]}; classes are names or "
                "whole numbers; for real-valued targets, give its DatasetSpec task='regression'"
            )


def _is_collection(label: str) -> bool:
    try:
        return isinstance(ast.literal_eval(label), list | tuple | set | dict)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False


def _list(path: Path, lines: list[str]) -> Table:
    """Read lines of a path and a label, or of paths in class folders."""
    rows: list[Row] = []
    alone = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        if (found := _parse(line.strip())) is not None:
            rows.append(Row(*found, "", number))
        else:
            alone += 1
            rows.append(Row(line.strip(), Path(line.strip().replace("\\", "/")).parent.name, "", number))
    if not alone:
        return Table(path, rows)
    if alone < len(rows) or not all(row.label for row in rows):
        wrong = next(row for row in rows if not row.label or row.name == lines[row.line - 1].strip())
        raise DataError(
            f"{path}, line {wrong.line}: expected the path of an image and its label, or a path in a class folder, got "
            f"{wrong.name[:80]!r}"
        )
    return Table(path, rows, (f"{path.name} has no labels: the folder of each image is its class",))


def _parse(line: str) -> tuple[str, str] | None:
    """Split a line into path and label; None if it has no label."""
    if match := re.fullmatch(r"\d+\t(\d+)(\.0+)?\t(.+)", line):  # MXNet: number, label, path
        return match[3], match[1]
    for pattern in (r"(.+?)\t+(.+)", r"(.+[^\s,])\s+([^\s/\\]+)", r"(.+),([^,]+)"):
        if (match := re.fullmatch(pattern, line)) and not is_image(match[2]):  # a path may have blanks
            return match[1].strip(), match[2].strip()
    if match := re.fullmatch(r"([^\s/\\,]+)[\t,]\s*(.+)", line):  # the label first
        return match[2], match[1]
    return None


def _checked(table: Table) -> Table:
    """Refuse a table with empty cells, and one without rows."""
    if not table.rows:
        raise DataError(f"{table.path} has a header but no rows")
    for what in ("name", "label"):
        if empty := [str(row.line) for row in table.rows if not getattr(row, what)]:
            kind = "image" if what == "name" else "label"
            raise DataError(
                f"{table.path}: {counted(len(empty), 'row')} without {'an' if kind == 'image' else 'a'} {kind} "
                f"(line {list_some(empty)}); fill or remove them"
            )
    return table
