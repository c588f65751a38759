"""Read images that a table or a list names, with their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from probebench._format import counted, list_some
from probebench.catalog.tasks import CLASSIFICATION
from probebench.datasets import Split
from probebench.datasets.columns import TEST, TRAIN, find_split
from probebench.datasets.files import ImageFiles
from probebench.datasets.labels import describe_draw, draw_test_part, number_labels
from probebench.datasets.locate import Locator
from probebench.datasets.table_files import Row, Table, read_table
from probebench.datasets.table_targets import read_targets
from probebench.errors import DataError, Note

METADATA = ("metadata.jsonl", "metadata.csv")
"""The tables of a Hugging Face folder of images."""


def image_table(
    train: str | Path,
    test: str | Path | None = None,
    *,
    image: str | None = None,
    label: str | Sequence[str] | None = None,
    split: str | None = None,
    images: str | Path | None = None,
    classes: Sequence[str] | None = None,
    test_share: float = 0.0,
    upright: bool = True,
    task: str = CLASSIFICATION.name,
) -> tuple[list[str], Split, Split]:
    """Read images that tables or lists name: class names, train, test.

    A table (``.csv``, ``.tsv``, ``.jsonl``) has named columns. A list (any other text file) has a path and a label in
    each line, or paths alone, of which the folder of each image is its class.

    Args:
        train, test: tables or lists, relative to the directory that pytest is started in. Without `test`, the split is
            that of a column, or else of the folders that paths begin with, such as ``train/``
        image, label, split: names of columns; by default they are guessed, and the run prints the guess. For several
            labels or targets, `label` may be several columns, see `probebench.datasets.table_targets.read_targets`
        images: the folder that paths are relative to; by default that of the table, a folder beside it, or one above
        classes: names of the classes, if labels are numbers from 0
        test_share: share of the images of each class to test on if there is no split, drawn with a fixed seed
        upright: whether to apply the EXIF orientation
        task: of the dataset, as in `DatasetSpec.task`, from which it is filled in

    Raises:
        NotOnDisk: if a table does not exist
        DataError: if it cannot be read, or images are missing
    """
    path = Path(train).expanduser()
    of_classes = task == CLASSIFICATION.name
    if of_classes and label is not None and not isinstance(label, str):
        raise DataError(
            f"{path}: label names {len(label)} columns; for several labels an image, give its DatasetSpec "
            "task='multilabel', for real-valued targets task='regression'"
        )
    column = label if isinstance(label, str) and of_classes else None
    table = read_table(path, image, column, split, unlabelled=not of_classes)
    notes = list(table.notes)
    if test is not None:
        other = Path(test).expanduser()
        if other.exists() and path.samefile(other):
            raise DataError(f"{other} is {path}; use other images for testing than for fitting the probe")
        tested = read_table(other, image, column, split, unlabelled=not of_classes)
        notes += tested.notes
        parts = [(table, table.rows), (tested, tested.rows)]
        where = str(path), str(other)
    else:
        of_train, of_test, note = _divide(table, split, test_share)
        notes.append(note)
        parts = [(table, of_train), (table, of_test)]
        where = f"{path}, training images", f"{path}, test images"
    numbers: Sequence[npt.NDArray[Any]]
    if of_classes:
        labels = [[row.label for row in rows] for _, rows in parts]
        names, *numbers = number_labels(labels[0], labels[1], classes, where)
    else:
        names, numbers, guessed = read_targets(parts, task, label)
        notes += [guessed] if guessed else []
    locator = Locator(images)
    located = [locator.locate(one.path, [row.name for row in rows]) for one, rows in parts]
    notes += [
        f"the images of {one.path.name} are in {folder}"
        for (one, _), (folder, _) in zip(parts, located, strict=True)
        if images is None and folder.absolute() != one.path.absolute().parent
    ]
    train_split, test_split = (
        Split(ImageFiles(folder, files, upright=upright), numbered)
        for (folder, files), numbered in zip(located, numbers, strict=True)
    )
    said = tuple(Note("info", text) for text in dict.fromkeys(notes))
    return names, replace(train_split, notes=said), test_split


def metadata_tables(folder: Path, train: str | None = None, test: str | None = None) -> tuple[Path, ...]:
    """Return the files ``metadata.csv`` or ``metadata.jsonl`` that describe the images of a Hugging Face folder.

    Args:
        train, test: names of splits, which are folders

    Returns:
        one file for all splits, or that of train and, if there is one, that of test; empty if there are none
    """
    if not folder.is_dir() or _has_configurations(folder):
        return ()
    whole, *of_splits = [folder, *(entry for entry in sorted(folder.iterdir()) if entry.is_dir())]
    found = {place: place / name for name in METADATA for place in (whole, *of_splits) if (place / name).is_file()}
    if whole in found:
        return (found[whole],) if train is None and test is None else ()
    named = {place.name: path for place, path in found.items()}
    trained, tested = train or find_split(named, TRAIN), test or find_split(named, TEST)
    if trained not in named or (test is not None and test not in named):
        return ()
    return (named[trained], named[tested]) if tested is not None else (named[trained],)


def _has_configurations(folder: Path) -> bool:
    """Return whether the README of a Hugging Face folder says which files are which split."""
    readme = folder / "README.md"
    if not readme.is_file():
        return False
    text = readme.read_text(encoding="utf-8", errors="replace")
    return text.startswith("---") and "\nconfigs:" in text.split("\n---", 1)[0]


def _divide(table: Table, column: str | None, share: float) -> tuple[list[Row], list[Row], str]:
    """Divide the rows of a table into train and test, and describe how."""
    for how, parts in (
        (f"the column {column!r}" if column else "its column of splits", [row.split for row in table.rows]),
        ("the folders of the images", [row.name.replace("\\", "/").partition("/")[0] for row in table.rows]),
    ):
        trained, tested = find_split(parts, TRAIN), find_split(parts, TEST)
        if trained is not None and tested is not None:
            rows = [
                [row for row, part in zip(table.rows, parts, strict=True) if part == own] for own in (trained, tested)
            ]
            others = sorted({part for part in parts if part not in (trained, tested)})
            left = len(table.rows) - len(rows[0]) - len(rows[1])
            note = f"{table.path.name} is split by {how}: trained on {trained!r}, tested on {tested!r}"
            if left:
                note += f"; {counted(left, 'image')} of {list_some(map(repr, others))} not used"
            return rows[0], rows[1], note
    if column:
        held = list_some(sorted({row.split for row in table.rows}))
        raise DataError(
            f"{table.path}: column {column!r} holds {held}, but no splits such as train and test; name another with "
            "split = '...'"
        )
    if not share:
        raise DataError(
            f"{table.path} has no test split: name a second table with test = '...', or set test_share = 0.2 to test "
            "on a fifth of the images of each class"
        )
    mask = draw_test_part([row.label for row in table.rows], share, table.path)
    drawn = [[table.rows[place] for place in np.flatnonzero(chosen)] for chosen in (~mask, mask)]
    return drawn[0], drawn[1], describe_draw(table.path, share)
