"""Time a network, and the preparation of its images, on a few images.

Other work on the machine makes single timings too long. Each is therefore repeated, and the shortest counts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch.utils.data import Dataset, Subset

from probebench._arrays import Array
from probebench.catalog.taps import Tap
from probebench.datasets.views import Views
from probebench.features.batching import PIECE, BatchSize, batches
from probebench.features.forward import forward
from probebench.features.settings import ExtractionSettings
from probebench.models.build import Model

ROUNDS = 3
ENOUGH = 1.5
"""Seconds after which nothing is timed again."""

PARTS = (32, 8)
"""Parts of a batch that are timed on a CPU."""


@dataclass(frozen=True)
class Pace:
    """The time that images take: so much for each batch, and so much for each image.

    Attributes:
        batch: images per batch
        per_batch, per_image: seconds
    """

    batch: int
    per_batch: float
    per_image: float

    @classmethod
    def through(cls, timed: Mapping[int, float], batch: int) -> Pace:
        """The pace that follows from the seconds of a smaller and of a larger batch, or of a single one.

        Args:
            timed: seconds by number of images
            batch: images per batch
        """
        (least, short), (most, long) = min(timed.items()), max(timed.items())
        mean = long / most
        slope = (long - short) / (most - least) if most > least else mean
        # Within bounds, because times have errors: a batch takes no less than its images, and the larger of the two is
        # large enough for its images to take a quarter of its time at least.
        per_image = min(max(slope, mean / 4), mean)
        return cls(batch, long - most * per_image, per_image)

    def seconds(self, images: int) -> float:
        return math.ceil(images / self.batch) * self.per_batch + images * self.per_image


def time_network(model: Model, taps: Sequence[Tap], settings: ExtractionSettings) -> Pace:
    """Time a network with its taps on empty images.

    A CPU is timed on an eighth of a batch at most. A GPU is not busy with less than a batch, and is timed on one.

    Args:
        model: something went through it before, so that the first time is not longer than the others
    """
    batch = settings.batch_size.now
    on_cpu = torch.device(settings.device).type == "cpu"
    sizes = sorted({max(1, batch // part) for part in PARTS}) if on_cpu else [batch]
    side = model.spec.input_size

    def send(images: int, turn: int) -> None:
        empty = torch.zeros(images, 3, side, side, dtype=torch.uint8)
        forward(
            model, cast("Dataset[torch.Tensor]", empty), taps, _drop, replace(settings, batch_size=BatchSize(images))
        )

    return Pace.through(shortest(send, sizes), batch)


def time_images(views: Views, device: str) -> float:
    """Seconds to read, decode and resize an image, with the threads that an extraction uses.

    Args:
        device: of the network
    """
    count = min(len(views), PIECE * torch.get_num_threads())
    order = np.linspace(0, len(views), ROUNDS * count, endpoint=False).astype(np.int64)

    def read(images: int, turn: int) -> None:
        # Other images each time, because files that were just read are read faster.
        for _ in batches(Subset(views, order[turn::ROUNDS].tolist()), images, device):
            pass

    return shortest(read, [count])[count] / count


def shortest(work: Callable[[int, int], None], sizes: Sequence[int]) -> dict[int, float]:
    """The shortest of several times that work of each size takes, in seconds.

    Args:
        work: called with a size, and with the number of times that it was called with it before. Sizes take turns, and
            none has another once `ENOUGH` seconds have passed
    """
    best = dict.fromkeys(sizes, math.inf)
    begin = time.perf_counter()
    for turn in range(ROUNDS):
        if turn and time.perf_counter() - begin > ENOUGH:
            break
        for size in sizes:
            start = time.perf_counter()
            work(size, turn)
            best[size] = min(best[size], time.perf_counter() - start)
    return best


def _drop(features: Sequence[Array]) -> None:
    """Ignore the features of a batch."""
