"""Read DomainNet: 345 classes in six domains, split by the official lists."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from probebench.datasets import Split
from probebench.datasets.files import find_listed
from probebench.datasets.lists import Line, class_names, read_list
from probebench.errors import DataError, unknown
from probebench.fetch.local import data_root, require

DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")


def domainnet(domain: str, untrained: Collection[str] = ()) -> tuple[list[str], Split, Split]:
    """Read one domain of DomainNet: class names, train, test.

    Args:
        domain: one of `DOMAINS`
        untrained: classes without training images in the official lists; their test images are left out
    """
    if domain not in DOMAINS:
        raise unknown("domain", domain, DOMAINS)
    root = data_root() / "domainnet"
    require(root, [domain, f"{domain}_train.txt", f"{domain}_test.txt"])
    train, test = (read_list(root / f"{domain}_{split}.txt", columns=2) for split in ("train", "test"))
    classes = class_names(((_class(line), line) for line in (*train, *test)), first=0)
    test = [line for line in test if _class(line) not in untrained]
    images = [find_listed(root, [line.name for line in lines]) for lines in (train, test)]
    return (
        [name.replace("_", " ") for name in classes],
        Split(images[0], _labels(train)),
        Split(images[1], _labels(test)),
    )


def _class(line: Line) -> str:
    """Return the class in a name such as ``clipart/alarm_clock/clipart_003_000001.jpg``."""
    parts = line.name.split("/")
    if len(parts) != 3 or ".." in parts:
        raise DataError(f"{line.where}: expected domain/class/image, got {line.name!r}")
    return parts[1]


def _labels(lines: Sequence[Line]) -> npt.NDArray[np.int64]:
    return np.array([line.label for line in lines], dtype=np.int64)
