"""The images of the study: readers, and what is in the folder that $PROBEBENCH_STUDY names.

The folder has

- ``vit_s14_focus.safetensors``: a ViT-S/14 in timm's names for `vit_small_patch14_dinov2`;
- ``cifar10_small.npz``: images of CIFAR-10 (Krizhevsky 2009), as `probebench.datasets.arrays.npz` reads them;
- ``pacs/DOMAIN/CLASS/*.jpg``: PACS (Li et al., ICCV 2017) in its four domains.
"""

from __future__ import annotations

import os
from functools import lru_cache
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
MODELS = ["vit_s14_focus", "vit_s14_focus_random"]
DOMAINS = ("photo", "art_painting", "cartoon", "sketch")
CORRUPTIONS = ("contrast", "gaussian_noise", "motion_blur", "snow", "speckle_noise")
LADDERS = ("contrast", "gaussian_noise")
"""The corruptions that are measured at all five severities."""

TRAIN_EVERY = 2
"""Of the training images of CIFAR-10, every second is used: 2,500 of 5,000. All 2,000 test images are used, because
intervals depend on them."""


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
    """Read the subset of CIFAR-10: class names, train (2,500), test (2,000).

    Args:
        corruption: one of `probebench.datasets.corrupt.MADE`, of the test images, or None
        severity: 1 to 5
        train: ``corrupted`` to corrupt the training images, too
    """
    if train not in ("clean", "corrupted"):
        raise unknown("training images", train, ["clean", "corrupted"])
    classes, clean, test = _clean()
    if corruption is None:
        return classes, clean, test
    if train == "corrupted":
        clean = Split(corrupt(clean.images, corruption, severity, seed=1), clean.labels)
    return classes, clean, Split(corrupt(test.images, corruption, severity, seed=2), test.labels)


@lru_cache(maxsize=1)
def _clean() -> tuple[list[str], Split, Split]:
    classes, train, test = npz(FOLDER / CIFAR10)
    rows = np.arange(0, len(train), TRAIN_EVERY)
    return classes, Split(train.images[rows], train.labels[rows]), Split(np.asarray(test.images), test.labels)
