"""Find the columns of a table that hold images, labels and splits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from probebench._format import list_some
from probebench.errors import DataError, nearest

IMAGE = (
    "image", "file_name", "file", "image_path", "file_path", "path", "image_file", "image_name", "img", "photo",
    "picture", "image_id", "img_id", "id", "id_code", "fname", "name",
)  # fmt: skip
LABEL = (
    "label", "labels", "class", "class_name", "target", "category", "label_name", "species", "breed", "diagnosis",
    "dx", "class_id", "class_index", "label_id", "category_id", "fine_label", "cls", "y",
)  # fmt: skip
SPLIT = ("split", "subset", "partition", "set")
"""Names that columns are guessed by, the likelier first, in any case and with any separators."""

TRAIN = ("train", "training", "trn")
TEST = ("test", "testing", "tst", "val", "valid", "validation", "dev", "eval")
"""Names of splits, those preferred first."""


def find_column(columns: Sequence[str], given: str | None, guesses: Iterable[str], what: str, where: str) -> str:
    """Return the column that is given, or the first that is named like one of the guesses.

    Args:
        what: the keyword that names the column, in error messages
        where: name of the table in error messages

    Raises:
        DataError: if there is none
    """
    held = f"it has {list_some(columns, 10)}"
    if given is not None:
        if given not in columns:
            raise DataError(f"{where} has no column {given!r}.{nearest(given, columns)} {held[0].upper()}{held[1:]}")
        return given
    if (guessed := guess_column(columns, guesses)) is not None:
        return guessed
    raise DataError(f"{where} has no column that is named like {what}s are; {held}: name one with {what} = '...'")


def guess_column(columns: Sequence[str], guesses: Iterable[str]) -> str | None:
    """Return the first column that is named like one of the guesses, or None."""
    plain = {_plain(column): column for column in reversed(columns)}
    return next((plain[_plain(guess)] for guess in guesses if _plain(guess) in plain), None)


def _plain(name: str) -> str:
    """``imageid`` of ``Image_ID``."""
    return re.sub(r"[\W_]", "", name).lower()


def find_split(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    """Return the name among `names` that comes first in `wanted`, in upper or lower case, or None."""
    found = {name.lower(): name for name in names}
    return next((found[each] for each in wanted if each in found), None)
