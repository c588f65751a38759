"""Read ImageNet-1k, and ImageNet-C, its validation set under corruptions."""

from __future__ import annotations

from pathlib import Path

from probebench.datasets import Split
from probebench.datasets.corruptions import SEVERITIES, check_corruption
from probebench.datasets.flat import flat_folder, is_flat
from probebench.datasets.folder import class_folders, image_folder, read_split
from probebench.errors import DataError
from probebench.fetch.local import NotOnDisk, data_root


def imagenet(root: str | None = None, classes: int = 1000) -> tuple[list[str], Split, Split]:
    """Read ImageNet-1k with its official validation set as test: class names, train (1,281,167), test (50,000).

    Args:
        root: contains ``train`` and ``val``, each with one folder per synset, or ``val`` as it is published: a single
            folder, whose key is beside it (`probebench.datasets.flat.flat_folder`); by default ``imagenet`` in the data
            root
        classes: expected number of synsets
    """
    base = data_root() / "imagenet" if root is None else Path(root).expanduser()
    read = flat_folder if is_flat(base / "val") else image_folder
    synsets, train, test = read(base, test="val", upright=False)
    return _descriptions(base / "train", synsets, classes), train, test


def corrupted(corruption: str, severity: int = SEVERITIES, classes: int = 1000) -> tuple[list[str], Split, Split]:
    """Read ImageNet-C: class names, train (the clean 1,281,167), test (50,000 under one corruption).

    Args:
        corruption: one of `probebench.datasets.corruptions.CORRUPTIONS`
        severity: 1 to 5
        classes: expected number of synsets in both
    """
    check_corruption(corruption, severity)
    clean, root, split = data_root() / "imagenet", data_root() / "ImageNet-C", f"{corruption}/{severity}"
    for folder in (clean / "train", root / split):
        if not folder.is_dir():
            raise NotOnDisk(f"folder {folder} does not exist; it should contain one folder per synset.")
    synsets, tested = class_folders(clean / "train"), class_folders(root / split)
    names = _descriptions(clean / "train", synsets, classes)
    if tested != synsets:
        raise DataError(
            f"{root / split} has {len(tested)} class folders, not the {len(synsets)} of {clean / 'train'}; "
            "one of them was unpacked partially: unpack its archive again"
        )
    return names, read_split(clean, "train", synsets), read_split(root, split, synsets)


def _descriptions(folder: Path, synsets: list[str], count: int) -> list[str]:
    """Return WordNet's descriptions of synsets. Raises DataError unless there are `count`, all of ImageNet-1k."""
    if len(synsets) != count:
        raise DataError(
            f"{folder} has {len(synsets)} class folders, but ImageNet-1k has {count}; "
            "unpack the missing archives, or register a subset as a dataset of your own under another name"
        )
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    known = set(info.label_names())
    if strange := [name for name in synsets if name not in known]:
        raise DataError(f"{folder / strange[0]}: {strange[0]!r} is not a synset of ImageNet-1k such as n01440764")
    return [info.label_name_to_description(name) for name in synsets]
