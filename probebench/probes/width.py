"""Features of one width: what a probe finds in wide taps must not be there only because they are wide."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from probebench.errors import FeatureError
from probebench.probes.axes import principal_axes
from probebench.sites import Tap

Features = npt.NDArray[np.float32]

NOTHING = 1e-6
"""Share of the variance that rounding to float32 may feign."""


def leading_components(
    tap: Tap, train: Features, test: Features, width: int, *, standardize: bool, device: str
) -> tuple[Features, Features] | None:
    """Features in the leading principal components of the training features, with the training mean taken off.

    Args:
        train, test: shapes (n, wide) and (m, wide)
        width: how many components
        standardize: divide by the standard deviation of the training features first

    Returns:
        float32 of shapes (n, width) and (m, width); None if the training features have no variance beside these
        components, as where a layer maps fewer features to more: a probe with an L2 penalty is the same on them

    Raises:
        FeatureError: naming the tap, if a feature is NaN or infinite
    """
    try:
        axes = principal_axes([train], standardize=standardize, device=device)
    except FeatureError as error:
        raise FeatureError(f"principal components at {tap.id}: {error}") from error
    variance = axes.variance[0]
    if float(variance[width:].sum()) <= NOTHING * float(variance.sum()):
        return None
    kept = slice(1, 1 + width)
    seen = axes.rows[0, :, kept].cpu().numpy().copy()  # the rest is let go
    return seen, axes.transform([test])[0, :, kept].cpu().numpy().copy()
