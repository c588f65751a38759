"""Tokens of images, standardised a batch at a time: they are too many to be held in float32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from probebench._arrays import Array, take, to_device
from probebench.errors import FeatureError

CHUNK_VALUES = 1 << 21
"""Most values of tokens that are in float32 at once where all images are gone through."""


@dataclass(frozen=True)
class TokenRows:
    """The tokens of some images.

    Attributes:
        array: shape (images, tokens, width), uint16 with the bits of bfloat16 on the host, or bfloat16 on a device; may
            be mapped from a file
        index: int64, shape (n,), which of the images
        device: that batches are made on
    """

    array: Array
    index: npt.NDArray[np.int64]
    device: str

    def __len__(self) -> int:
        return len(self.index)

    @property
    def width(self) -> int:
        return int(self.array.shape[2])

    def __getitem__(self, part: slice | npt.NDArray[np.int64]) -> torch.Tensor:
        """The tokens of a part, float32 of shape (part, tokens, width), on `device`."""
        return to_device(take(self.array, self.index[part]), self.device).float()

    def chunks(self) -> Iterator[slice]:
        """Parts that are small enough to be held in float32, and in order."""
        step = max(1, CHUNK_VALUES // int(self.array.shape[1] * self.width))
        return (slice(first, first + step) for first in range(0, len(self), step))


@dataclass(frozen=True)
class Scale:
    """How tokens are standardised: like their mean.

    A uniform attention gives the standardised features of the linear probe then. Features that tell tokens of an image
    apart rather than images, such as position embeddings, hardly vary in the mean. They are divided by the deviation
    that the mean of independent tokens would have, so that they do not become large.

    Attributes:
        mean: float32, shape (width,), over all tokens
        deviation: float32, shape (width,): of the mean token of an image over images, but at least that of a token
            divided by the root of their number; one for a constant feature
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    @classmethod
    def of(cls, rows: TokenRows) -> Scale:
        """Measure the scale of tokens in float64.

        Raises:
            FeatureError: if a feature is NaN, infinite, or too large to square
        """
        mean = torch.zeros(rows.width, dtype=torch.float64, device=rows.device)
        for part in rows.chunks():
            mean += rows[part].double().mean(dim=1).sum(dim=0)
        mean /= len(rows)
        within, between = torch.zeros_like(mean), torch.zeros_like(mean)
        for part in rows.chunks():
            tokens = rows[part].double().sub_(mean)
            between += tokens.mean(dim=1).square_().sum(dim=0)
            within += tokens.square_().mean(dim=1).sum(dim=0)
        variance = torch.maximum(between, within / rows.array.shape[1]) / len(rows)
        if not (finite := torch.isfinite(variance)).all():
            raise FeatureError(f"tokens contain NaN or infinity (column {int(finite.int().argmin())})")
        constant = variance <= (torch.finfo(torch.float32).eps * mean) ** 2
        return cls(mean.float(), variance.masked_fill_(constant, 1.0).sqrt_().float())

    @classmethod
    def none(cls, rows: TokenRows) -> Scale:
        """Leave tokens as they are."""
        zero = torch.zeros(rows.width, device=rows.device)
        return cls(zero, zero + 1)

    def apply(self, tokens: torch.Tensor) -> torch.Tensor:
        """Standardise tokens in place."""
        return tokens.sub_(self.mean).div_(self.deviation)
