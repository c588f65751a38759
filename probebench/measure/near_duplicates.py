"""Find test images that are nearly training images, by the features that a sweep has extracted anyway."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from probebench._arrays import Array, to_device
from probebench._format import counted
from probebench.catalog import DatasetSpec
from probebench.catalog.taps import FINAL, Tap
from probebench.datasets.duplicates import name_image
from probebench.errors import Note
from probebench.measure.extract import ExtractedFeatures
from probebench.measure.prepare import PreparedSweep

_TRAIN_ROWS, _TEST_ROWS = 8192, 2048
"""Rows that are compared at a time: 64 MB of cosines."""


@dataclass(frozen=True)
class NearDuplicates:
    """Test images whose features point almost where those of a training image do.

    Attributes:
        cosine: the least cosine that counts, of features less the mean of the training images'
        tap: whose features were compared
        test_near_train: number of test images with such a training image, those that are training images included
        n_test: number of test images
        example: names of a training and a test image, the most similar ones that are not equal; None if all are equal
        highest: their cosine
    """

    cosine: float
    tap: Tap
    test_near_train: int
    n_test: int
    example: tuple[str, str] | None = None
    highest: float = 1.0

    def note(self, dataset: DatasetSpec) -> Note:
        """Return what a user should know about them: a warning if there are any."""
        verb = "is" if self.test_near_train == 1 else "are"
        text = (
            f"images of {dataset.name}: {self.test_near_train:,} of {counted(self.n_test, 'test image')} {verb} close "
            f"to a training image (cosine of {self.cosine:g} or more at {self.tap.id}, features less their mean)"
        )
        if self.example is not None:
            text += f", such as {' ~ '.join(self.example)} ({self.highest:.3f})"
        return Note("warning" if self.test_near_train else "info", text)


def find_near_duplicates(prepared: PreparedSweep, features: ExtractedFeatures) -> NearDuplicates | None:
    """Compare each test image with all training images that are used, at ``final``, or else the last tap of one pass.

    Returns:
        None unless `DatasetSpec.near_duplicates` asks for it
    """
    least = prepared.dataset.near_duplicates
    if not least:
        return None
    final, data = Tap(FINAL, FINAL), prepared.data
    tap = final if final in features.taps else features.taps[-1]
    best, nearest = _nearest(features.train[tap], features.test[tap])
    near = best >= least
    different = near & (best < 1 - 1e-5)
    example, highest = None, 1.0
    if different.any():
        row = int(torch.where(different, best, -1.0).argmax())
        example = (
            name_image(data.train.images, int(prepared.read[int(nearest[row])]), "train"),
            name_image(data.test.images, row, "test"),
        )
        highest = float(best[row])
    return NearDuplicates(least, tap, int(near.sum()), len(near), example, highest)


def _nearest(train: Array, test: Array) -> tuple[torch.Tensor, torch.Tensor]:
    """Return for each test image the highest cosine to a training image, and the row of that: on the host."""
    mean = _mean(train)
    best, nearest = [], []
    for begin in range(0, len(test), _TEST_ROWS):
        unit = _unit(test[begin : begin + _TEST_ROWS], mean)
        highest = torch.full((len(unit),), -1.0, device=unit.device)
        where = torch.zeros(len(unit), dtype=torch.int64, device=unit.device)
        for start in range(0, len(train), _TRAIN_ROWS):
            found, at = (unit @ _unit(train[start : start + _TRAIN_ROWS], mean).T).max(dim=1)
            where = torch.where(found > highest, at + start, where)
            highest = torch.maximum(found, highest)
        best.append(highest.cpu())
        nearest.append(where.cpu())
    return torch.cat(best), torch.cat(nearest)


def _mean(features: Array) -> torch.Tensor:
    total = sum(
        _tensor(features[start : start + _TRAIN_ROWS]).sum(dim=0, dtype=torch.float64)
        for start in range(0, len(features), _TRAIN_ROWS)
    )
    assert isinstance(total, torch.Tensor)
    return (total / len(features)).float()


def _unit(rows: Array, mean: torch.Tensor) -> torch.Tensor:
    """Subtract the mean, and scale each row to unit length."""
    return torch.nn.functional.normalize(_tensor(rows) - mean)


def _tensor(rows: Array) -> torch.Tensor:
    return to_device(rows, "cpu") if isinstance(rows, np.ndarray) else rows
