"""Read shards of WebDataset: tar files in which the files of one image have the same name up to the first dot."""

from __future__ import annotations

import glob
import json
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from probebench._format import counted
from probebench.datasets import Split
from probebench.datasets.columns import LABEL, guess_column
from probebench.datasets.encoded import EncodedImages
from probebench.datasets.labels import describe_draw, draw_test_part, number_labels
from probebench.datasets.locate import is_image
from probebench.datasets.table_files import read_text
from probebench.errors import DataError, Note
from probebench.fetch.local import NotOnDisk

LABELS = ("cls", "cls.txt", "label", "label.txt", "json")
"""Endings of the files with labels, the likelier first."""

_BEGIN = 20
"""Number of files in a tar file that are looked at to tell what it is."""

CLASS_NAMES = "classnames.txt"
"""Beside the shards, or one folder above: the name of class 0 in its first line, and so on."""


def shards(
    train: str | Path,
    test: str | Path | None = None,
    *,
    label: str | None = None,
    classes: Sequence[str] | None = None,
    test_share: float = 0.0,
    upright: bool = True,
) -> tuple[list[str], Split, Split]:
    """Read shards of images with labels: class names, train, test.

    The label of an image is the text of its file with the ending `label`; of ``json``, one value of the object.

    Args:
        train, test: tar files, relative to the directory that pytest is started in: a path with the wildcards ``*`` and
            ``?``, a range such as ``train-{000000..000012}.tar``, or a folder with shards
        label: ending of the files with labels, or ``json:`` and the name of a value; by default guessed, and the run
            prints the guess
        classes: names of the classes, if labels are numbers from 0; by default those in a file ``classnames.txt``
        test_share: share of the images of each class to test on if there are no test shards, drawn with a fixed seed
        upright: whether to apply the EXIF orientation

    Raises:
        NotOnDisk: if there is no such file
        DataError: if one is damaged or compressed, or an image has no label
    """
    if test is not None and _find(train) == _find(test):
        raise DataError(f"{test} is {train}; use other images for testing than for fitting the probe")
    if test is None and not test_share:
        raise DataError(
            f"{train}: name the test shards with test = '...', or set test_share = 0.2 to test on a fifth of the "
            "images of each class"
        )
    parts = [_read(train, label)]
    if test is not None:
        parts.append(_read(test, parts[0].label))
    notes = list(dict.fromkeys(note for part in parts for note in part.notes))
    if classes is None and (file := _names_file(parts[0].files[0])) is not None:
        classes = [line.strip() for line in read_text(file).splitlines() if line.strip()]
        notes.append(f"names of classes are those of {file}")
    if test is None:
        mask = draw_test_part(parts[0].labels, test_share, train)
        parts = [parts[0].select(np.flatnonzero(chosen).tolist()) for chosen in (~mask, mask)]
        notes.append(describe_draw(train, test_share))
    names, *numbers = number_labels(parts[0].labels, parts[1].labels, classes, (str(train), str(test or train)))
    of_train, of_test = (Split(TarImages(part, upright=upright), own) for part, own in zip(parts, numbers, strict=True))
    return names, replace(of_train, notes=tuple(Note("info", text) for text in notes)), of_test


def is_shard(file: Path) -> bool:
    """Return whether a file is a tar file that begins with a sample with a label, and not one of class folders."""
    if file.suffix != ".tar":
        return False
    try:
        with tarfile.open(file, "r:") as tar:
            members = [member.name for member, _ in zip(tar, range(_BEGIN), strict=False)]
    except (tarfile.TarError, OSError):
        return True  # reading it says what is wrong
    return any(name.rpartition("/")[2].partition(".")[2].lower() in LABELS for name in members)


@dataclass
class _Shards:
    """The images of some shards.

    Attributes:
        files: the shards
        places: of each image its shard, an index into `files`, its first byte there, and its size
        keys: its name in the shard, without ending
        labels: its label as written
        label: ending of the files with labels
    """

    files: list[Path]
    label: str | None = None
    places: list[tuple[int, int, int]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def select(self, rows: Sequence[int]) -> _Shards:
        """Return some of the images."""
        chosen = _Shards(self.files, label=self.label)
        for row in rows:
            chosen.places.append(self.places[row])
            chosen.keys.append(self.keys[row])
            chosen.labels.append(self.labels[row])
        return chosen


class TarImages(EncodedImages):
    """Images in tar files as a lazy sequence: read from where they lie in their shard."""

    def __init__(self, found: _Shards, *, upright: bool) -> None:
        super().__init__(upright=upright)
        self._found = found

    def __len__(self) -> int:
        return len(self._found.places)

    def name(self, index: int) -> str:
        return f"image {self._found.keys[index]} of {self._found.files[self._found.places[index][0]]}"

    def encoded(self, index: int) -> bytes:
        shard, start, size = self._found.places[index]
        try:
            with self._found.files[shard].open("rb") as file:
                file.seek(start)
                data = file.read(size)
        except OSError as error:
            raise DataError(f"{self.name(index)} cannot be read ({error.strerror})") from error
        if len(data) < size:
            raise DataError(f"{self.name(index)} is cut off; get the shard again")
        return data


def _find(pattern: str | Path) -> list[Path]:
    """Return the shards of a path, sorted."""
    path = Path(pattern).expanduser()
    if path.is_dir():
        found = sorted(path.glob("*.tar"))
    elif path.exists():
        found = [path]
    else:
        found = sorted({Path(name) for one in _expand(str(path)) for name in glob.glob(one)})
        if "{" in str(path) and (gone := [one for one in _expand(str(path)) if not glob.glob(one)]):
            raise NotOnDisk(f"{counted(len(gone), 'shard')} of {pattern} missing, the first {gone[0]}.")
    if not found:
        raise NotOnDisk(f"no shard {path.absolute()}; correct the path, such as train-*.tar or a folder of .tar files.")
    return found


def _expand(pattern: str) -> list[str]:
    """Expand ranges: ``a-{00..02}`` to ``a-00``, ``a-01`` and ``a-02``, and ``{a,b}`` to ``a`` and ``b``."""
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = []
    for number, part in enumerate(parts):
        if number % 2 == 0:
            choices.append([part])
        elif match := re.fullmatch(r"(\d+)\.\.(\d+)", part):
            first, last = match.groups()
            choices.append([f"{value:0{len(first)}d}" for value in range(int(first), int(last) + 1)])
        else:
            choices.append(part.split(","))
    return ["".join(chosen) for chosen in product(*choices)]


def _read(pattern: str | Path, label: str | None) -> _Shards:
    """List the images of shards, and read their labels."""
    found = _Shards(_find(pattern), label)
    alone = 0
    for number, file in enumerate(found.files):
        try:
            with tarfile.open(file, "r:") as tar:
                for key, members in _group(tar).items():
                    image = _image(file, key, members)
                    if image is None:
                        alone += 1
                        continue
                    if found.label is None:
                        found.label = _guess_label(file, key, tar, members)
                        found.notes.append(f"labels of {pattern} are in its files .{found.label}, guessed")
                    found.places.append((number, image.offset_data, image.size))
                    found.keys.append(key)
                    found.labels.append(_read_label(file, key, tar, members, found.label))
        except (tarfile.TarError, OSError) as error:
            raise DataError(
                f"{file} cannot be read ({error}); it may be cut off, or compressed, which rules out reading single "
                "images: get it again, or decompress it"
            ) from error
    if not found.places:
        raise DataError(f"{pattern} has no images, which are files with suffixes such as .jpg and .png")
    if alone:
        found.notes.append(f"{pattern}: {counted(alone, 'sample')} without an image left out")
    return found


_Members = dict[str, tarfile.TarInfo]
"""The files of one image in a shard, by ending without the first dot, in lower case."""


def _group(tar: tarfile.TarFile) -> dict[str, _Members]:
    """Return the files of each image by their common name, in the order of the shard."""
    found: dict[str, _Members] = {}
    for member in tar:
        folder, _, file = member.name.removeprefix("./").rpartition("/")
        stem, _, ending = file.partition(".")
        if member.isreg() and stem and ending:
            found.setdefault(f"{folder}/{stem}" if folder else stem, {})[ending.lower()] = member
    return found


def _image(file: Path, key: str, members: _Members) -> tarfile.TarInfo | None:
    images = [ending for ending in members if is_image(f"image.{ending}")]
    if len(images) > 1:
        raise DataError(
            f"{file}: sample {key} has {len(images)} images ({', '.join(images)}); keep one of them. A name ends "
            "at its first dot"
        )
    return members[images[0]] if images else None


def _guess_label(file: Path, key: str, tar: tarfile.TarFile, members: _Members) -> str:
    """Return the ending of the files with labels; with ``json``, also the name of the value."""
    for ending in LABELS:
        if ending not in members:
            continue
        if ending != "json":
            return ending
        if (name := guess_column(list(_json(file, key, tar, members[ending])), LABEL)) is not None:
            return f"json:{name}"
    raise DataError(
        f"{file}: sample {key} has {', '.join(members)}, but no label ({', '.join(LABELS)}); name the ending of the "
        "files with labels, as in label = 'txt' or label = 'json:species'. If its folders are classes, unpack the file"
    )


def _read_label(file: Path, key: str, tar: tarfile.TarFile, members: _Members, label: str) -> str:
    ending, _, name = label.partition(":")
    if ending not in members:
        raise DataError(
            f"{file}: sample {key} has no label .{ending}, but {', '.join(members)}; add it, or remove the image"
        )
    if not name:
        text = _bytes(tar, members[ending]).decode("utf-8", "replace").strip()
    else:
        value = _json(file, key, tar, members[ending]).get(name)
        if isinstance(value, list | dict):
            raise DataError(
                f"{file}: sample {key} has several values under {name!r}; a probe needs one class per image"
            )
        text = "" if value is None else str(value)
    if not text:
        raise DataError(f"{file}: sample {key} has an empty label .{label}; fill it, or remove the image")
    return text


def _json(file: Path, key: str, tar: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    try:
        value = json.loads(_bytes(tar, member))
    except ValueError as error:
        raise DataError(f"{file}: the .json of sample {key} is not JSON ({error})") from error
    return value if isinstance(value, dict) else {}


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(member)
    assert stream is not None  # only of files
    return stream.read()


def _names_file(shard: Path) -> Path | None:
    """Return the file with the names of the classes, if there is one."""
    places = (shard.parent / CLASS_NAMES, shard.absolute().parent.parent / CLASS_NAMES)
    return next((place for place in places if place.is_file()), None)
