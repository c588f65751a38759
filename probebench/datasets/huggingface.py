"""Read datasets of the Hugging Face Hub, or in its formats on disk, with the library `datasets`."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from probebench.datasets import Split
from probebench.datasets.files import decode
from probebench.errors import DataError, ProbebenchError
from probebench.fetch.local import NotOnDisk


def dataset(
    repo: str,
    revision: str | None = None,
    config: str | None = None,
    train: str = "train",
    test: str = "test",
    image: str = "image",
    label: str = "label",
) -> tuple[list[str], Split, Split]:
    """Read a dataset with a column of images and a column of class labels: class names, train, test.

    Downloads nothing and runs no code of the repository.

    Args:
        repo: ``owner/name`` on the Hub, read from the local cache; or a folder or a parquet file, relative to the
            directory that pytest is started in
        revision: the full hash of a commit, for a repository of the Hub
        config: name of a configuration
        train, test: names of splits, or slices of them such as ``train[:80%]``; a file is one split, ``train``
        image, label: names of columns; labels are a `ClassLabel`

    Raises:
        ProbebenchError: if `datasets` is not installed, or the revision is not a commit
        NotOnDisk: if that revision is not in the cache
        DataError: if the splits or columns do not exist
    """
    if train == test:
        raise DataError(
            f"{repo}: train and test are both {test!r}; slice the split, as in train = '{train}[:80%]', test = "
            f"'{train}[80%:]'"
        )
    try:
        import datasets
    except ImportError:
        raise ProbebenchError(f"reading {repo} needs the library datasets: pip install 'probebench[hf]'") from None
    parts = _load(datasets, repo, _source(repo, revision), config, [train, test], image, label)
    of_train, of_test = (
        Split(Rows(part, image, f"{repo}, {split}"), _labels(part, label, f"{repo}, {split}"))
        for part, split in zip(parts, (train, test), strict=True)
    )
    # All splits use the label names of the README or of the first file.
    return list(parts[0].features[label].names), of_train, of_test


class Rows:
    """A column of images as a lazy sequence: uint8 arrays of shape (height, width, 3)."""

    concurrent = True
    _reading = Lock()  # shared by all instances: `datasets` does not document its tables as thread-safe

    def __init__(self, rows: Any, column: str, where: str) -> None:
        self.rows, self.column, self.where = rows, column, where

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int, /) -> npt.NDArray[np.uint8]:
        """Decode an image. Raises DataError if it is missing or damaged, or has more than 8 bits per channel."""
        return decode(io.BytesIO(self._bytes(index)), f"image {index} of {self.where}")

    def content(self) -> Iterator[bytes]:
        """Yield bytes that identify each image without decoding it: the SHA-256 of its bytes."""
        for index in range(len(self)):
            yield hashlib.sha256(self._bytes(index)).digest()

    def _bytes(self, index: int) -> bytes:
        if index >= len(self):  # `datasets` would raise an error of its own
            raise IndexError(index)
        with self._reading:
            value = self.rows[index][self.column]
        if value is None:
            raise DataError(f"image {index} of {self.where} is missing; remove the row from the dataset")
        if value["bytes"] is not None:
            return bytes(value["bytes"])
        try:
            return Path(value["path"]).read_bytes()
        except OSError as error:
            raise DataError(f"image {index} of {self.where} cannot be read ({error})") from error


def _source(repo: str, revision: str | None) -> Path:
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
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, repo_type="dataset", revision=revision, local_files_only=True))
    except Exception as error:  # the errors differ between versions
        raise NotOnDisk(
            f"revision {revision} of {repo} is not in the Hugging Face cache. "
            f"Run: hf download {repo} --repo-type dataset --revision {revision}."
        ) from error


def _load(
    datasets: Any, repo: str, source: Path, config: str | None, splits: list[str], image: str, label: str
) -> list[Any]:
    """Load the splits without decoding images."""
    try:
        if source.is_file():
            # load_dataset("parquet", ...) would send usage statistics.
            parts = datasets.Dataset.from_parquet({"train": str(source)}, split=splits)
        else:
            # A README may refer to files elsewhere, which may change.
            local = datasets.DownloadConfig(local_files_only=True)
            parts = datasets.load_dataset(str(source), name=config, split=splits, download_config=local)
    except Exception as error:  # a damaged file, an unknown split or configuration: many kinds
        cause = error.__cause__ or error
        raise DataError(f"{repo} cannot be read ({type(cause).__name__}: {cause})") from error
    features = parts[0].features
    for name, kind in ((image, datasets.Image), (label, datasets.ClassLabel)):
        if not isinstance(features.get(name), kind):
            columns = ", ".join(f"{each} ({type(feature).__name__})" for each, feature in features.items())
            raise DataError(
                f"{repo} has no column {name!r} of type {kind.__name__}; it has {columns}. Set another column with "
                "image or label, or convert it with Dataset.cast_column and save the dataset again"
            )
    return [part.select_columns([image, label]).cast_column(image, datasets.Image(decode=False)) for part in parts]


def _labels(part: Any, label: str, where: str) -> npt.NDArray[np.int64]:
    labels = part.with_format(None)[label][:]
    if None in labels:
        raise DataError(f"{where}: row {labels.index(None)} has no label; remove it from the dataset")
    return np.asarray(labels, dtype=np.int64)
