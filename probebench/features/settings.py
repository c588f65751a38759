"""The settings of an extraction, as one frozen object."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from probebench._progress import NullProgress, Progress
from probebench.datasets.views import pixel_statistics
from probebench.features.batching import BatchSize

if TYPE_CHECKING:
    from probebench.catalog import ModelSpec
    from probebench.catalog.protocols import Protocol


@dataclass(frozen=True, eq=False)
class ExtractionSettings:
    """The way views go through a network, and the place where their features are kept.

    Attributes:
        pooling: of the taps that name none of their own, see `probebench.catalog.taps.POOLINGS`
        mean, std: of the pixels, float32 of shape (3, 1, 1)
        batch_size: images per forward pass; it is halved in place when memory runs out
        device: torch device of the network
        stay: leave the features on the device, and copy those that are read from the cache there
        keep: store features in the cache even if the cache alone would not
        progress: advanced by the number of images; restarted while another process is waited for
    """

    pooling: str
    mean: torch.Tensor
    std: torch.Tensor
    batch_size: BatchSize
    device: str
    stay: bool = False
    keep: bool = False
    progress: Progress = field(default_factory=NullProgress)

    @classmethod
    def for_model(
        cls,
        protocol: Protocol,
        model: ModelSpec,
        batch_size: BatchSize,
        device: str,
        *,
        stay: bool = False,
        keep: bool = False,
        progress: Progress | None = None,
    ) -> ExtractionSettings:
        """The settings of a model under a protocol, which decide the pooling and the statistics of the pixels."""
        mean, std = pixel_statistics(protocol, model)
        return cls(protocol.pooling, mean, std, batch_size, device, stay, keep, progress or NullProgress())
