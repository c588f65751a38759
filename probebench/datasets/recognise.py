"""Recognise what a path holds, and name the reader and its arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probebench._format import list_some
from probebench.datasets.columns import TEST, TRAIN, find_split
from probebench.datasets.flat import find_key, is_flat
from probebench.datasets.locate import Locator, is_image
from probebench.datasets.table_files import LISTS, TABLES, read_table
from probebench.datasets.tables import metadata_tables
from probebench.datasets.webdataset import is_shard
from probebench.errors import DataError

ARCHIVES = (".zip", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")

_CONTAINER = re.compile(
    r"(train|test|val|valid|validation|dev|image|img|jpg|jpeg|png|photo|picture|data|all)(ing)?s?([\W_\d].*)?"
)
"""Names of folders that hold images of all classes."""

_HF, _TABLE = "probebench.datasets.huggingface:dataset", "probebench.datasets.tables:image_table"
_SHARDS, _NPZ = "probebench.datasets.webdataset:shards", "probebench.datasets.arrays:npz"
_FLAT = "probebench.datasets.flat:flat_folder"


@dataclass(frozen=True)
class Recognised:
    """A reader and its arguments, as `DatasetSpec` has them.

    Attributes:
        note: which files were chosen; empty if there was nothing to choose
    """

    reader: str
    kwargs: Mapping[str, Any]
    note: str = ""


def recognise(path: Path, test_share: float) -> Recognised | None:
    """Find the reader of a file or a folder.

    Args:
        path: exists, or is a path of shards with wildcards or a range
        test_share: share of the images of each class to test on if there is no test split

    Returns:
        None for a folder that holds none of the formats, such as one with a folder per class

    Raises:
        DataError: for a file of no format that is read
    """
    if path.is_dir():
        return _in_folder(path, test_share)
    kind = path.suffix.lower()
    if kind == ".npz":
        return Recognised(_NPZ, {"path": str(path)})
    if kind == ".parquet":
        return Recognised(_HF, {"repo": str(path), "test_share": test_share})
    if kind == ".tar":
        return _shards(path.name, path.parent, test_share)
    if kind in (*TABLES, *LISTS):
        tested = _counterpart(path, [other for other in path.parent.iterdir() if other.suffix == path.suffix])
        return _chosen(_TABLE, path, tested, test_share)
    if kind in ARCHIVES:
        raise DataError(f"{path} is an archive; unpack it, and pass the folder")
    read = f"{', '.join((*TABLES, *LISTS))}, .npz, .parquet and .tar"
    raise DataError(f"{path} is a file of a kind that is not read; pass a folder of images, or one of {read}")


def _in_folder(folder: Path, test_share: float) -> Recognised | None:
    files = [entry for entry in folder.iterdir() if entry.is_file()]
    places = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    trained, tested = find_split(places, TRAIN), find_split(places, TEST)
    split = trained == "train" and _holds_classes(folder / trained)
    has_classes = split or _holds_classes(folder)
    if (tables := metadata_tables(folder)) and not (has_classes and _problem(tables[0])):
        return _chosen(_TABLE, tables[0], tables[1] if tables[1:] else None, test_share)
    if split and tested is not None and is_flat(folder / tested) and (key := find_key(folder, tested)) is not None:
        return Recognised(_FLAT, {"root": str(folder), "key": str(key), "test": tested})
    if has_classes:
        return None
    if isinstance(table := _choose_table(folder, test_share), Recognised):
        return table
    saved = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
    if saved or any(any(folder.glob(depth + "*.parquet")) for depth in ("", "*/", "*/*/")):
        return Recognised(_HF, {"repo": str(folder), "test_share": test_share})
    if tars := [file for file in files if is_shard(file)]:
        name = find_split({_stem(file) for file in tars}, TRAIN)
        return _shards(f"{name}*.tar" if name else "*.tar", folder, test_share)
    if trained is not None and any(is_shard(file) for file in (folder / trained).glob("*.tar")):
        return _chosen(_SHARDS, folder / trained, None if tested is None else folder / tested, test_share)
    arrays = [file for file in files if file.suffix == ".npz"]
    return Recognised(_NPZ, {"path": str(arrays[0])}) if len(arrays) == 1 else None


def explain_tables(folder: Path) -> DataError | None:
    """Return why the tables in a folder cannot be used; None if there are none, or if it has class folders."""
    if not folder.is_dir() or _holds_classes(folder):
        return None
    chosen = _choose_table(folder, 0.0)
    return chosen if isinstance(chosen, DataError) else None


def _holds_classes(folder: Path) -> bool:
    """Return whether a folder has several folders of images that are not named as those of all classes are."""
    found = [entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."]
    own = [entry for entry in found if not _CONTAINER.fullmatch(entry.name.lower())]
    return len([entry for entry in own if any(is_image(file.name) for file in entry.iterdir())]) > 1


def _shards(pattern: str, folder: Path, test_share: float) -> Recognised:
    """The reader of shards; those to test on are named like those to train on."""
    train = folder / pattern
    if any(pattern.lower().startswith(name) for name in TRAIN):
        for name in TEST:
            if any(folder.glob(f"{name}*.tar")):
                return _chosen(_SHARDS, train, folder / f"{name}*.tar", test_share)
    return _chosen(_SHARDS, train, None, test_share)


def _choose_table(folder: Path, test_share: float) -> Recognised | DataError | None:
    """Choose among the tables and lists in a folder.

    Returns:
        the reader; or an error if it is not clear which to train on, or no table can be used; None if there are none
    """
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in (*TABLES, *LISTS))
    found = {file: _problem(file) for file in files}
    usable = [file for file, problem in found.items() if problem is None]
    if not usable:  # lists do not count: any text may be beside images
        return next((found[file] for file in files if file.suffix.lower() in TABLES), None)
    trained = sorted((file for file in usable if find_split([_stem(file)], TRAIN)), key=_preference)
    if not trained and len(usable) > 1:
        names = list_some(file.name for file in usable)
        return DataError(f"{folder} has several tables ({names}); pass the one to train on, as --data {usable[0]}")
    chosen = trained[0] if trained else usable[0]
    return _chosen(_TABLE, chosen, _counterpart(chosen, usable), test_share)


def _problem(file: Path) -> DataError | None:
    """Return why a file is no table of images that exist, or None."""
    try:
        Locator().locate(file, [read_table(file).rows[0].name])
    except DataError as error:
        return error
    return None


def _preference(file: Path) -> tuple[bool, str]:
    """Put lists of train and validation images, as of VTAB, before those of train images alone."""
    return "val" not in file.stem.lower(), file.name


def _counterpart(train: Path, files: Iterable[Path]) -> Path | None:
    """Return the table to test on, if `train` is named as one to train on and there is one with labels."""
    if not find_split([_stem(train)], TRAIN):
        return None
    for name in TEST:
        if name.startswith("val") and "val" in train.stem.lower():  # these are training images here
            continue
        for file in sorted(files):
            # Kaggle's test images have no labels.
            if file.suffix == train.suffix and _stem(file).lower() == name and _problem(file) is None:
                return file
    return None


def _chosen(reader: str, train: Path, test: Path | None, test_share: float) -> Recognised:
    kwargs: dict[str, Any] = {"train": str(train), "test_share": test_share}
    if test is None:
        return Recognised(reader, kwargs)
    same = train.name == test.name  # metadata.csv in the folder of each split
    names = [path.relative_to(path.parents[1]) if same else path.name for path in (train, test)]
    return Recognised(reader, kwargs | {"test": str(test)}, f"trained on {names[0]}, tested on {names[1]}")


def _stem(file: Path) -> str:
    """``train`` of ``train800val200.txt`` and of ``train-000.tar``."""
    return re.split(r"[\W_\d]", file.name, maxsplit=1)[0]
