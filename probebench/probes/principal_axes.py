"""Standardised features in their principal axes: the common ground of the probes.

An L2 penalty does not change under rotation, but the conditioning of the problem does, and axes without variance
drop out. Where there are fewer rows than features, the axes come from the Gram matrix of the rows (the dual form),
which is smaller, and there are at most as many axes as rows; nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from probebench._arrays import take
from probebench.errors import FeatureError


@dataclass(frozen=True)
class Selected:
    """Some rows of an array, copied a chunk at a time: the array may be large, mapped from a file, or on a GPU.

    Attributes:
        array: shape (m, width), float32 or float64
        index: int64, shape (n,), which rows
    """

    array: npt.NDArray[Any] | torch.Tensor
    index: npt.NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.index), self.array.shape[1]

    @property
    def dtype(self) -> np.dtype[Any] | torch.dtype:
        return self.array.dtype

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, part: slice) -> npt.NDArray[Any] | torch.Tensor:
        return take(self.array, self.index[part])


Features = npt.NDArray[np.float32] | npt.NDArray[np.float64] | torch.Tensor | Selected

CHUNK_VALUES = 1 << 21
"""Most values of features held in float64 at once."""


@dataclass(frozen=True)
class PrincipalAxes:
    """Training features of taps of equal width, in their principal axes.

    Attributes:
        rows: float32 or float64, shape (taps, n, 1 + axes): a column of ones, then the coordinates of the standardised
            features in order of falling variance
        mean, scale: float64, shape (taps, width), of the training features; a constant feature has scale one
        axes: shape (taps, width, axes), orthonormal columns
        variance: float64, shape (taps, axes), along the axes
    """

    rows: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor
    axes: torch.Tensor
    variance: torch.Tensor

    def take(self, taps: Sequence[int], leading: int) -> PrincipalAxes:
        """Return some of the taps, with the leading axes only; `rows` stay with this object."""
        index = list(taps)
        return PrincipalAxes(
            self.rows[:0],
            self.mean[index],
            self.scale[index],
            self.axes[index, :, :leading],
            self.variance[index, :leading],
        )

    def transform(self, features: Sequence[Features]) -> torch.Tensor:
        """Return other features, one array of shape (n, width) per tap, in these coordinates: (taps, n, 1 + axes)."""
        n = len(features[0])
        rows = self.rows.new_empty(len(features), n, 1 + self.axes.shape[2])
        rows[..., 0] = 1
        for tap, values in enumerate(features):
            for part in chunks(values):
                standard = standardise(values[part], self.mean[tap], self.scale[tap], rows.dtype)
                rows[tap, part, 1:] = standard @ self.axes[tap]
        return rows

    def predict(self, features: Sequence[Features], weights: torch.Tensor) -> npt.NDArray[np.int64]:
        """Return the classes of the largest logits, int64, shape (taps, strengths, n); the first among equals.

        Args:
            features: one array of shape (n, width) per tap
            weights: float64, shape (taps, strengths, classes, 1 + axes), column 0 the intercept
        """
        predicted = np.empty((*weights.shape[:2], len(features[0])), dtype=np.int64)
        for part, logits in self._logits(features, weights):
            predicted[:, :, part] = logits.argmax(dim=3).transpose(1, 2).cpu().numpy()
        return predicted

    def scores(self, features: Sequence[Features], weights: torch.Tensor) -> npt.NDArray[np.float32]:
        """Return logits, float32, shape (taps, n, classes).

        Args:
            features: one array of shape (n, width) per tap
            weights: as in `predict`, for one strength
        """
        scores = np.empty((len(features), len(features[0]), weights.shape[2]), dtype=np.float32)
        for part, logits in self._logits(features, weights):
            scores[:, part] = logits[:, :, 0].cpu().numpy()
        return scores

    def _logits(self, features: Sequence[Features], weights: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield a chunk of rows and its logits, of shape (taps, rows, strengths, classes), at a time."""
        taps, count, classes, size = weights.shape
        # Weights are brought to the standardised features, which are more than the axes but are not to be rotated.
        flat = weights.to(self.rows.dtype).reshape(taps, count * classes, size).transpose(1, 2)
        slopes, intercepts = self.axes @ flat[:, 1:], flat[:, :1]
        n, width = features[0].shape
        step = max(1, CHUNK_VALUES // max(width, count * classes))
        for first in range(0, n, step):
            part = slice(first, min(first + step, n))
            logits = torch.stack(
                [
                    standardise(values[part], self.mean[tap], self.scale[tap], self.rows.dtype) @ slopes[tap]
                    for tap, values in enumerate(features)
                ]
            )
            yield part, logits.add_(intercepts).view(taps, -1, count, classes)

    def coefficients(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Convert weights on the axes to weights on the features as they were given.

        Args:
            weights: float64, shape (taps, strengths, classes, 1 + axes), column 0 the intercept

        Returns:
            float64 coefficients (taps, strengths, classes, width) and intercepts (taps, strengths, classes)
        """
        coef = weights[..., 1:] @ self.axes.double().transpose(1, 2).unsqueeze(1) / self.scale[:, None, None]
        return coef, weights[..., 0] - (coef @ self.mean[:, None, :, None]).squeeze(-1)

    def weights(self, coef: torch.Tensor, intercept: torch.Tensor) -> torch.Tensor:
        """Invert `coefficients`; exact for coefficients within the span of the axes."""
        inside = (coef * self.scale[:, None, None]) @ self.axes.double().unsqueeze(1)
        moved = intercept + (coef @ self.mean[:, None, :, None]).squeeze(-1)
        return torch.cat([moved.unsqueeze(-1), inside], dim=-1)


def principal_axes(
    features: Sequence[Features],
    *,
    standardize: bool = True,
    weights: npt.NDArray[np.float64] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> PrincipalAxes:
    """Standardise features with their own statistics and rotate them into their principal axes.

    Args:
        features: per tap an array of shape (n, width), the same for all; may be memory-mapped or on the device, because
            rows are read in chunks
        standardize: divide by the standard deviation; the mean is subtracted in any case
        weights: shape (n,), positive, of the rows in mean, deviation and variance along the axes
        dtype: of the rows and the products; sums over chunks are float64

    Raises:
        FeatureError: if a feature is NaN or infinite
    """
    n, width = features[0].shape
    device = torch.device(device)
    mean, scale = (torch.empty(len(features), width, dtype=torch.float64, device=device) for _ in range(2))
    for tap, values in enumerate(features):
        mean[tap], scale[tap] = statistics(values, weights, device)
    if not standardize:
        scale.fill_(1)
    share = None if weights is None else torch.from_numpy(n * weights / weights.sum()).to(device)
    build = _dual if n <= width else _primal
    rows, axes, variance = zip(
        *(build(values, mean[tap], scale[tap], share, dtype) for tap, values in enumerate(features)), strict=True
    )
    # Ranks may differ between taps: lower ones are padded with axes of zeros.
    return PrincipalAxes(_stack(rows), mean, scale, _stack(axes), _stack(variance))


def statistics(
    values: Features, weights: npt.NDArray[np.float64] | None = None, device: str | torch.device = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weighted mean and standard deviation per feature, float64; a deviation of one for constant features.

    Features are constant by scikit-learn's rule for rounding errors.

    Raises:
        FeatureError: if a feature is NaN, infinite, or too large to square
    """
    n, width = values.shape
    share = torch.from_numpy(np.full(n, 1 / n) if weights is None else weights / weights.sum()).to(device)[:, None]
    mean, square = torch.zeros(2, width, dtype=torch.float64, device=device)
    for part in chunks(values):
        mean += _double(values[part], mean.device).mul_(share[part]).sum(dim=0)
    if not (finite := torch.isfinite(mean)).all():
        raise FeatureError(f"features contain NaN or infinity (column {int(finite.int().argmin())})")
    for part in chunks(values):
        square += _double(values[part], mean.device).sub_(mean).square_().mul_(share[part]).sum(dim=0)
    if not (finite := torch.isfinite(square)).all():
        raise FeatureError(f"features are too large to square (column {int(finite.int().argmin())})")
    eps, single = (torch.finfo(dtype).eps for dtype in (torch.float64, torch.float32))
    constant = square <= n * eps * square + (n * mean * eps) ** 2
    constant |= square <= ((eps if str(values.dtype).endswith("float64") else single) * mean) ** 2
    return mean, square.masked_fill_(constant, 1.0).sqrt_()


def chunks(values: Features) -> list[slice]:
    """Return slices of the rows that are in float64 at the same time."""
    step = max(256, CHUNK_VALUES // values.shape[1])
    return [slice(first, min(first + step, len(values))) for first in range(0, len(values), step)]


def standardise(
    values: npt.NDArray[Any] | torch.Tensor, mean: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """Subtract the mean from rows and divide them by the scale, in float64, and round once to `dtype`."""
    return _double(values, mean.device).sub_(mean).div_(scale).to(dtype)


def _double(values: npt.NDArray[Any] | torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy values to float64 on a device; the copy may be overwritten."""
    if isinstance(values, torch.Tensor):
        return values.to(device, torch.float64, copy=True)
    return torch.from_numpy(np.array(values)).to(device, torch.float64)


def _primal(
    values: Features, mean: torch.Tensor, scale: torch.Tensor, share: torch.Tensor | None, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    n, width = values.shape
    rows = torch.empty(n, 1 + width, dtype=dtype, device=mean.device)
    gram = torch.zeros(width, width, dtype=torch.float64, device=mean.device)
    for part in chunks(values):
        standard = standardise(values[part], mean, scale, dtype)
        rows[part, 1:] = standard
        gram += standard.T @ (standard if share is None else standard * share[part, None].to(dtype))
    variance, axes = _eigh((gram / n).to(dtype))
    rows[:, 0] = 1
    for part in chunks(values):
        rows[part, 1:] = rows[part, 1:] @ axes
    return rows, axes, variance


def _dual(
    values: Features, mean: torch.Tensor, scale: torch.Tensor, share: torch.Tensor | None, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    n = len(values)
    standard = standardise(values[:], mean, scale, torch.float64)
    root_share = None if share is None else share.sqrt()[:, None]
    if root_share is not None:
        standard *= root_share
    # float64: the square roots of small eigenvalues would not survive float32. n is small here.
    eigenvalues, vectors = _eigh(standard @ standard.T)
    top = float(eigenvalues[0])
    rank = max(1, int((eigenvalues > n * torch.finfo(torch.float64).eps * top).sum())) if top > 0 else 1
    root = eigenvalues[:rank].clamp(min=torch.finfo(torch.float64).tiny).sqrt()
    vectors = vectors[:, :rank]
    axes = standard.T @ (vectors / root)
    rows = torch.cat([torch.ones(n, 1, dtype=torch.float64, device=mean.device), vectors * root], dim=1)
    if root_share is not None:
        rows[:, 1:] /= root_share
    return rows.to(dtype), axes.to(dtype), eigenvalues[:rank] / n


def _eigh(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return eigenvalues (float64, falling, not negative) and eigenvectors (in the matrix's dtype)."""
    try:
        values, vectors = torch.linalg.eigh(matrix)
        converged = bool(torch.isfinite(values).all())
    except RuntimeError:
        converged = False
    if not converged:  # float32 has too few digits for features that are constant except for rounding
        values, vectors = torch.linalg.eigh(matrix.double())
    return values.flip(0).double().clamp(min=0), vectors.flip(1).to(matrix.dtype).contiguous()


def _stack(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    if len(tensors) == 1:
        return tensors[0].unsqueeze(0)
    size = max(tensor.shape[-1] for tensor in tensors)
    return torch.stack([torch.nn.functional.pad(tensor, (0, size - tensor.shape[-1])) for tensor in tensors])
