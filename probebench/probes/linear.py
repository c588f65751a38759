"""A fitted probe as arrays, for use outside of this package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

    from probebench.probes.principal_axes import PrincipalAxes


@dataclass(frozen=True)
class Linear:
    """A linear probe with scores ``weight @ ((x - mean) / scale) + bias`` for features x.

    Scores are logits of classes or labels, or the values of targets.

    The standardisation is separate from the weights: folded into them, it would cost features with a mean far from zero
    digits in float32.

    Attributes:
        classes: int64, shape (C,), the class, or the number of the label or target, of each row of `weight`
        mean, scale: float32, shape (width,)
        weight: float32, shape (C, width)
        bias: float32, shape (C,)
    """

    classes: npt.NDArray[np.int64]
    mean: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    def scores(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return logits, shape (n, C), of features of shape (n, width)."""
        standard = (features - self.mean) / self.scale
        return np.asarray(standard @ self.weight.T + self.bias, dtype=np.float32)

    def predict(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Return the label of the largest logit, int64, shape (n,); the first among equals."""
        predicted: npt.NDArray[np.int64] = self.classes[self.scores(features).argmax(axis=1)]
        return predicted


def make_linear(axes: PrincipalAxes, classes: npt.NDArray[np.int64], weights: torch.Tensor) -> Linear:
    """Make the probe of one tap from its solution at one strength.

    Args:
        axes: of one tap
        weights: float64, shape (1, 1, C, 1 + axes), column 0 the intercept
    """
    coef, _ = axes.coefficients(weights)
    arrays = (axes.mean[0], axes.scale[0], coef[0, 0] * axes.scale[0], weights[0, 0, :, 0])
    mean, scale, weight, bias = (values.cpu().numpy().astype(np.float32) for values in arrays)
    return Linear(classes, mean, scale, weight, bias)
