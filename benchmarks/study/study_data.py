"""The images of the study: readers, and what is in the folder that $PROBEBENCH_STUDY names.

The folder has

- ``vit_s14_focus.safetensors``: a ViT-S/14 in timm's names for `vit_small_patch14_dinov2`;
- ``cifar10_small.npz``: images of CIFAR-10 (Krizhevsky 2009), as `probebench.datasets.arrays.npz` reads them;
- ``pacs/DOMAIN/CLASS/*.jpg``: PACS (Li et al., ICCV 2017) in its four domains.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from probebench.datasets import Split
from probebench.datasets.arrays import npz
from probebench.datasets.corrupt import corrupt
from probebench.errors import unknown

VARIABLE = "PROBEBENCH_STUDY"
FOLDER = Path(os.environ.get(VARIABLE) or f"${VARIABLE}").expanduser().absolute()

WEIGHTS, CIFAR10 = "vit_s14_focus.safetensors", "cifar10_small.npz"
MODEL = "vit_s14_focus"
CONTROL = f"{MODEL}_random"
DOMAINS = ("photo", "art_painting", "cartoon", "sketch")
CORRUPTIONS = ("contrast", "gaussian_noise", "motion_blur", "snow", "speckle_noise")
LADDERS = ("contrast", "gaussian_noise")
"""The corruptions that are measured at all five severities; the others at the highest only."""

# So many that two quiet cores measure all in less than two hours. `paper@1` fits four fifths of them, in multiples of
# 512: of 2,000 it takes 1,536, as it would of 2,500. All 2,000 test images are used: intervals depend on them.
TRAIN_SHARE = 2, 5
"""Of each five training images of CIFAR-10 the first two are used: 2,000 of 5,000."""


def severities(corruption: str) -> dict[int, str]:
    """Return the severities at which a corruption is measured, and the endings that they give to names of datasets."""
    return {1: "_s1", 2: "_s2", 3: "_s3", 4: "_s4", 5: ""} if corruption in LADDERS else {5: ""}


def need(*parts: str) -> None:
    """Skip the test file that calls this, unless the folder of the study has all of these parts."""
    if not os.environ.get(VARIABLE):
        reason = f"{VARIABLE} is not set: set it to the folder with the weights and images of the study"
    elif missing := [part for part in parts if not (FOLDER / part).exists()]:
        reason = f"{VARIABLE}: {FOLDER} has no {', '.join(missing)}"
    else:
        return
    pytest.skip(reason, allow_module_level=True)


def cifar10(corruption: str | None = None, severity: int = 5, train: str = "clean") -> tuple[list[str], Split, Split]:
    """Read the subset of CIFAR-10: class names, train (2,000), test (2,000).

    Args:
        corruption: one of `probebench.datasets.corrupt.MADE`, of the test images, or None
        severity: 1 to 5
        train: ``corrupted`` to corrupt the training images, too
    """
    if train not in ("clean", "corrupted"):
        raise unknown("training images", train, ["clean", "corrupted"])
    corrupted = (corruption, severity)
    return _classes(), _split("train", *(corrupted if train == "corrupted" else ())), _split("test", *corrupted)


@cache
def _clean() -> tuple[list[str], Split, Split]:
    classes, train, test = npz(FOLDER / CIFAR10)
    some, each = TRAIN_SHARE
    rows = np.flatnonzero(np.arange(len(train)) % each < some)
    return classes, Split(np.asarray(train.images)[rows], train.labels[rows]), Split(test.images, test.labels)


def _classes() -> list[str]:
    return _clean()[0]


@cache  # 6 MB each: snow takes half a minute, and the control and the other sweeps of a severity need the same images
def _split(part: str, corruption: str | None = None, severity: int = 5) -> Split:
    split = _clean()[1 if part == "train" else 2]
    if corruption is None:
        return split
    images = corrupt(np.asarray(split.images), corruption, severity, seed=1 if part == "train" else 2)
    return Split(images, split.labels)
