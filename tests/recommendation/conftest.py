"""A small folder of images of digits, and a recommendation for it, made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probebench import Recommendation, recommend
from probebench.datasets.embedded import digits

CLASSES = ("zero", "one", "two")
EACH = 30


def write_digits(root: Path, each: int = EACH, part: str = "train", first: int = 0) -> Path:
    """`each` images of the digits 0 to 2, as grey PNG files in one folder a class."""
    _, train, test = digits("gaussian_noise")
    split = train if part == "train" else test
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in np.flatnonzero(split.labels == label)[first : first + each]:
            Image.fromarray(split.images[number]).save(root / name / f"{number:04d}.png")
    return root


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and test/, each with three classes."""
    root = tmp_path_factory.mktemp("own") / "my digits"
    write_digits(root / "train")
    write_digits(root / "test", part="test")
    return root


@pytest.fixture(scope="session")
def found(folder: Path) -> Recommendation:
    return recommend("glyphvit", folder, device="cpu", jobs=1)
