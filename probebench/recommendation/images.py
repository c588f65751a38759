"""Resolve `--data`: images on disk in any format that is read, split if they have no split, or a dataset by name."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from probebench import datasets
from probebench._format import counted
from probebench.catalog import Catalog, DatasetSpec
from probebench.catalog.catalog import DATASETS_LISTED
from probebench.catalog.tasks import CLASSIFICATION
from probebench.datasets import Split
from probebench.datasets.files import ImageFiles, as_text, printable
from probebench.datasets.folder import unsplit_class_folders
from probebench.datasets.labels import draw_of_class
from probebench.datasets.layout import TRAIN, find_classes, find_layout, find_split, folders_in
from probebench.datasets.recognise import explain_tables, recognise
from probebench.datasets.walk import Walk
from probebench.errors import DataError, UnknownName, unknown

TEST_SHARE = 0.2
LEAST_TRAIN = 2
"""Minimum training images per class: one to fit on, one to choose the tap and the regularisation on."""


@dataclass(frozen=True)
class Images:
    """A resolved dataset.

    Attributes:
        spec: spec of the dataset
        title: its name in the output
        note: which files were chosen, or how a test split was made; empty if there is nothing to say
    """

    spec: DatasetSpec
    title: str
    note: str = ""


def find_images(data: str | Path | DatasetSpec, catalog: Catalog, task: str | None = None) -> Images:
    """Resolve a path or a dataset name. What exists on disk takes precedence over a dataset of the same name.

    A folder contains ``train/`` and ``test/`` (or ``val/``), each with one folder per class. If it contains only the
    class folders, or only a ``train/`` with class folders, a test split is made. A file, or a folder of other content,
    is one of the formats that `probebench.datasets.recognise.recognise` finds.

    Args:
        task: of images at a path, as in `DatasetSpec.task`; by default classification

    Raises:
        UnknownName: if neither a path nor a dataset of that name exists
        DataError: for images that cannot be probed: fewer than two classes, or too few images in a class
    """
    if isinstance(data, DatasetSpec):
        if task is not None:
            raise DataError(f"dataset {data.name!r} has the task of its DatasetSpec, {data.task}; leave task out")
        return Images(data, data.name)
    if not isinstance(data, str | Path):
        raise DataError(f"data must be a path, a dataset's name or a DatasetSpec, got {type(data).__name__}")
    folder = Path(data).expanduser()
    # os.path.exists, because Path.exists raises OSError for a name that is too long for a file's.
    if os.path.exists(folder) or (folder.suffix == ".tar" and re.search(r"[*?{]", folder.name)):
        name = re.sub("[^A-Za-z0-9]", "_", folder.resolve().name) or "images"
        if (found := recognise(folder.absolute(), TEST_SHARE)) is not None:
            spec = DatasetSpec(name, found.reader, found.kwargs, task=task or CLASSIFICATION.name)
            loaded = datasets.load(spec)
            if spec.task == CLASSIFICATION.name:
                _check_classes(loaded, folder)
            return Images(spec, printable(data), found.note)
        if task not in (None, CLASSIFICATION.name):
            raise DataError(
                f"{printable(data)}: class folders have one class an image; for task {task}, pass a table or "
                "an npz file"
            )
        try:
            return _resolve_folder(folder, name, printable(data))
        except DataError as error:
            if (problem := explain_tables(folder)) is not None:
                raise problem from error
            raise
    if isinstance(data, Path) or "/" in data or "\\" in data:
        raise DataError(f"{data} does not exist; pass a folder or a file, or the name of a dataset")
    if task is not None:
        raise DataError(f"{data} is a dataset of the catalog, which has a task of its own; leave task out")
    try:
        return Images(catalog.dataset(data), data)
    except UnknownName:
        raise unknown("path or dataset", data, catalog.datasets, DATASETS_LISTED) from None


def _resolve_folder(folder: Path, name: str, title: str) -> Images:
    root = str(folder.resolve())
    if find_layout(folder) is not None:
        images = Images(DatasetSpec(name, "probebench.datasets.folder:image_folder", {"root": root}), title)
    else:
        train = find_split(folder, folders_in(folder), TRAIN)
        where = folder / train if train and folders_in(folder / train) else find_classes(folder)
        images = Images(
            DatasetSpec(name, f"{__name__}:split_folder", {"root": str(where.resolve())}),
            title,
            f"{where} has no test split: {TEST_SHARE:.0%} of the images of each class, drawn with a fixed seed, are "
            "used for testing. If several images show the same object, split them yourself into train/ and test/",
        )
    _check_classes(datasets.load(images.spec), folder)
    return images


def _check_classes(data: datasets.Dataset, folder: Path) -> None:
    if len(data.classes) < 2:
        raise DataError(
            f"{folder} has only one class, {data.classes[0]}; a classifier needs at least two, such as one folder of "
            "images for each"
        )
    counts = np.bincount(data.train.labels, minlength=len(data.classes))
    present = np.unique(np.concatenate([data.train.labels, data.test.labels]))  # lists of names may have more
    if few := [data.classes[label] for label in present if counts[label] < LEAST_TRAIN]:
        more = f" and {len(few) - 3} more" if len(few) > 3 else ""
        raise DataError(
            f"{folder}: too few training images in class {', '.join(few[:3])}{more}: at least {LEAST_TRAIN} are "
            "needed, one to fit on and one to choose the tap on; a few dozen are better"
        )


def split_folder(root: str) -> tuple[list[str], Split, Split]:
    """Read a folder with one folder per class: class names, train, test.

    The choice of test images in a class depends only on its name and the number of its images.

    Args:
        root: an absolute path

    Raises:
        DataError: if a class has too few images
    """
    base = Path(root)
    walk = Walk(base)
    classes = unsplit_class_folders(base, walk)
    images = {name: walk.images(base / name) for name in classes}
    notes = walk.notes()
    names: dict[str, list[str]] = {"train": [], "test": []}
    labels: dict[str, list[int]] = {"train": [], "test": []}
    for label, (name, found) in enumerate(images.items()):
        if len(found) <= LEAST_TRAIN:
            raise DataError(
                f"class folder {printable(base / name)} has {counted(len(found), 'image')}; at least "
                f"{LEAST_TRAIN + 1} are needed, to fit on, to choose on and to test on; a few dozen are better"
            )
        tested = set(draw_of_class(name, len(found), TEST_SHARE).tolist())
        for part in names:
            files = [file for i, file in enumerate(found) if (i in tested) == (part == "test")]
            names[part] += files
            labels[part] += [label] * len(files)
    train, test = (
        Split(ImageFiles(base, names[part], upright=True), np.array(labels[part], dtype=np.int64)) for part in names
    )
    return [as_text(name) for name in classes], replace(train, notes=notes), test
