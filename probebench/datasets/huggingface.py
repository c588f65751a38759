"""Read datasets of the Hugging Face Hub, or in its formats on disk, with the library `datasets`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from probebench._format import list_some
from probebench.datasets import Split
from probebench.datasets.columns import IMAGE, LABEL, TEST, TRAIN, find_split, guess_column
from probebench.datasets.encoded import EncodedImages
from probebench.datasets.labels import describe_draw, draw_test_part, number_labels
from probebench.datasets.tables import image_table, metadata_tables
from probebench.errors import DataError, Note, ProbebenchError
from probebench.fetch.local import NotOnDisk


def dataset(
    repo: str,
    revision: str | None = None,
    config: str | None = None,
    train: str | None = None,
    test: str | None = None,
    image: str | None = None,
    label: str | None = None,
    *,
    test_share: float = 0.0,
    upright: bool = True,
) -> tuple[list[str], Split, Split]:
    """Read a dataset with a column of images and a column of labels: class names, train, test.

    Downloads nothing and runs no code of the repository. A folder with ``metadata.csv`` or ``metadata.jsonl`` is read
    by `probebench.datasets.tables.image_table`, because the library would read the label ``01`` as the number 1.

    Args:
        repo: ``owner/name`` on the Hub, read from the local cache; or a folder or a parquet file, relative to the
            directory that pytest is started in
        revision: the full hash of a commit, for a repository of the Hub
        config: name of a configuration
        train, test: names of splits, or slices of them such as ``train[:80%]``; a file is one split, ``train``. By
            default ``train``, and ``test`` or a split with another name of those
        image, label: names of columns, by default guessed, and the run prints the guess. Images are of type `Image`, or
            the bytes of image files; labels are of type `ClassLabel`, strings or integers
        test_share: share of the images of each class to test on if there is no test split, drawn with a fixed seed
        upright: whether to apply the EXIF orientation

    Raises:
        ProbebenchError: if `datasets` is not installed, or the revision is not a commit
        NotOnDisk: if that revision is not in the cache
        DataError: if the splits or columns do not exist
    """
    if test is not None and test == (train or "train"):
        raise DataError(
            f"{repo}: train and test are both {test!r}; slice the split, as in train = '{test}[:80%]', test = "
            f"'{test}[80%:]'"
        )
    source = _find_source(repo, revision)
    if config is None and (tables := metadata_tables(source, train, test)):
        classes, of_train, of_test = image_table(
            *tables, image=image, label=label, test_share=test_share, upright=upright
        )
        said = _describe_test_split(repo, test, tables[-1].parent.name if tables[1:] else "test")
        return classes, replace(of_train, notes=(*of_train.notes, *(Note("info", text) for text in said))), of_test
    try:
        import datasets
    except ImportError:
        raise ProbebenchError(f"reading {repo} needs the library datasets: pip install 'probebench[hf]'") from None
    splits = _choose_splits(datasets, repo, source, config, train, test, bool(test_share))
    parts = _load(datasets, repo, source, config, splits)
    image, label, notes = _choose_columns(datasets, repo, parts[0].features, image, label)
    feature, where = parts[0].features[label], [f"{repo}, {split}" for split in splits]
    labels = [_read_labels(part, label, each) for part, each in zip(parts, where, strict=True)]
    if len(parts) == 1:
        mask = draw_test_part([str(one) for one in labels[0]], test_share, repo)
        rows = np.flatnonzero(~mask), np.flatnonzero(mask)
        parts, labels = [parts[0].select(own) for own in rows], [[labels[0][row] for row in own] for own in rows]
        where = [f"{where[0]}, {which} images" for which in ("training", "test")]
        notes.append(describe_draw(repo, test_share))
    else:
        notes += _describe_test_split(repo, test, splits[1])
    if isinstance(feature, datasets.ClassLabel):
        # All splits use the label names of the README or of the first file.
        classes, numbers = list(feature.names), [np.asarray(own, dtype=np.int64) for own in labels]
    else:
        texts = [[str(one) for one in own] for own in labels]
        classes, *numbers = number_labels(texts[0], texts[1], None, (where[0], where[1]))
    of_train, of_test = (
        Split(
            Rows(part.select_columns(image).cast_column(image, datasets.Image(decode=False)), image, each, upright), own
        )
        for part, own, each in zip(parts, numbers, where, strict=True)
    )
    return classes, replace(of_train, notes=tuple(Note("info", text) for text in notes)), of_test


class Rows(EncodedImages):
    """A column of images as a lazy sequence."""

    _reading = Lock()  # shared by all instances: `datasets` does not document its tables as thread-safe

    def __init__(self, rows: Any, column: str, where: str, upright: bool) -> None:
        super().__init__(upright=upright)
        self.rows, self.column, self.where = rows, column, where

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        return f"image {index} of {self.where}"

    def encoded(self, index: int) -> bytes:
        with self._reading:
            value = self.rows[index][self.column]
        if value is None:
            raise DataError(f"{self.name(index)} is missing; remove the row from the dataset")
        if value["bytes"] is not None:
            return bytes(value["bytes"])
        try:
            return Path(value["path"]).read_bytes()
        except OSError as error:
            raise DataError(f"{self.name(index)} cannot be read ({error})") from error


def _find_source(repo: str, revision: str | None) -> Path:
    """Find the files of a repository on this machine."""
    path = Path(repo).expanduser()
    if path.exists():
        return path
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise NotOnDisk(f"no folder or file {path.absolute()}.")
    if not re.fullmatch("[0-9a-f]{40}", revision or ""):
        raise ProbebenchError(
            f"{repo} needs a revision, the 40 hexadecimal digits of a commit, got {revision!r}; "
            "the content of a branch or a tag may change"
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ProbebenchError(f"reading {repo} needs the library datasets: pip install 'probebench[hf]'") from None
    try:
        return Path(snapshot_download(repo, repo_type="dataset", revision=revision, local_files_only=True))
    except Exception as error:  # the errors differ between versions
        raise NotOnDisk(
            f"revision {revision} of {repo} is not in the Hugging Face cache. "
            f"Run: hf download {repo} --repo-type dataset --revision {revision}."
        ) from error


def _choose_splits(
    datasets: Any, repo: str, source: Path, config: str | None, train: str | None, test: str | None, draw: bool
) -> list[str]:
    """Return the names of the splits to train and to test on; the first alone if a test part is to be drawn from it."""
    if train is not None and test is not None:
        return [train, test]
    found = list(_load(datasets, repo, source, config, None))
    trained = train or find_split(found, TRAIN)
    tested = test or find_split([name for name in found if name != trained], TEST)
    if trained is None:
        raise DataError(f"{repo} has no split 'train'; it has {list_some(found, 10)}: name one with train = '...'")
    if tested is not None:
        return [trained, tested]
    if draw:
        return [trained]
    raise DataError(
        f"{repo} has no test split; it has {list_some(found, 10)}: name one with test = '...', slice one, as in "
        f"train = '{trained}[:80%]', test = '{trained}[80%:]', or set test_share = 0.2 to test on a fifth of the "
        "images of each class"
    )


def _describe_test_split(repo: str, given: str | None, chosen: str) -> list[str]:
    """Say that another split than the usual one was chosen."""
    return [] if given is not None or chosen == "test" else [f"{repo} has no split 'test', and is tested on {chosen!r}"]


def _load(datasets: Any, repo: str, source: Path, config: str | None, splits: list[str] | None) -> Any:
    """Load a list of splits, or all by name, without decoding images."""
    try:
        if source.is_file():
            # load_dataset("parquet", ...) would send usage statistics.
            file = {"train": str(source)}
            return datasets.Dataset.from_parquet(file, split=splits) if splits else file
        if (source / "state.json").is_file():  # a single split that save_to_disk has written
            saved = {"train": datasets.load_from_disk(str(source))}
            return [saved[split] for split in splits] if splits else saved
        # A README may refer to files elsewhere, which may change.
        local = datasets.DownloadConfig(local_files_only=True)
        return datasets.load_dataset(str(source), name=config, split=splits, download_config=local)
    except Exception as error:  # a damaged file, an unknown split or configuration: many kinds
        cause = error.__cause__ or error
        raise DataError(f"{repo} cannot be read ({type(cause).__name__}: {cause})") from error


def _choose_columns(
    datasets: Any, repo: str, features: Any, image: str | None, label: str | None
) -> tuple[str, str, list[str]]:
    """Return the columns of images and labels, and notes on those that were guessed.

    Raises:
        DataError: if there are none of the right types
    """

    def holds_images(feature: Any) -> bool:
        keys = feature.keys() if isinstance(feature, dict) else ()
        return isinstance(feature, datasets.Image) or _dtype(feature) == "binary" or "bytes" in keys

    def holds_labels(feature: Any) -> bool:
        kind = _dtype(feature).removeprefix("large_").rstrip("0123456789")
        return isinstance(feature, datasets.ClassLabel) or kind in ("int", "uint", "string", "bool")

    found: list[str] = []
    notes: list[str] = []
    for what, given, guesses, fits, wanted in (
        ("image", image, IMAGE, holds_images, "Image, or of bytes"),
        ("label", label, LABEL, holds_labels, "ClassLabel, or of integers or strings"),
    ):
        fitting = [name for name, feature in features.items() if fits(feature)]
        # A single column of strings may hold the names of files.
        typed = [name for name in fitting if what == "image" or isinstance(features[name], datasets.ClassLabel)]
        guess = (
            guess_column(typed, guesses) or guess_column(fitting, guesses) or (typed[0] if len(typed) == 1 else None)
        )
        name = guess if given is None else given
        if name is None or name not in fitting:
            columns = ", ".join(f"{each} ({_describe(feature)})" for each, feature in features.items())
            raise DataError(
                f"{repo} has no column {given or what!r} of type {wanted}; it has {columns}. Set another column with "
                "image or label, or convert it with Dataset.cast_column and save the dataset again"
            )
        found.append(name)
        if given is None and name != what:
            notes.append(f"{repo}: {what}s are in column {name!r}, guessed")
    return found[0], found[1], notes


def _dtype(feature: Any) -> str:
    return str(getattr(feature, "dtype", ""))


def _describe(feature: Any) -> str:
    """``Image``, ``int64``, ``List``."""
    return _dtype(feature) if type(feature).__name__ == "Value" else type(feature).__name__


def _read_labels(part: Any, label: str, where: str) -> list[Any]:
    labels = part.select_columns(label).with_format(None)[label][:]
    if None in labels:
        raise DataError(f"{where}: row {labels.index(None)} has no label; remove it from the dataset")
    return list(labels)
