"""A fitted probe as arrays, for use outside of this package."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Linear:
    """A linear classifier with class scores ``weight @ ((x - mean) / scale) + bias`` for features x.

    The standardisation is separate from the weights: folded into them, it would cost features with a mean far from zero
    digits in float32.

    Attributes:
        classes: int64, shape (C,), the label of each row of `weight`
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
