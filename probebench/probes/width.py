"""Features of one width: what a probe finds in wide taps must not be there only because they are wide."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from probebench.errors import FeatureError
from probebench.probes.axes import principal_axes
from probebench.sites import Tap

Features = npt.NDArray[np.float32]


def leading_components(
    tap: Tap, train: Features, test: Features, width: int, *, standardize: bool, device: str
) -> tuple[Features, Features]:
    """Features in the leading principal components of the training features, with the training mean taken off.

    Args:
        train, test: shapes (n, wide) and (m, wide)
        width: how many components; fewer, if the training features span fewer
        standardize: divide by the standard deviation of the training features first

    Returns:
        float32 of shapes (n, width) and (m, width)

    Raises:
        FeatureError: naming the tap, if a feature is NaN or infinite
    """
    try:
        axes = principal_axes([train], standardize=standardize, device=device)
    except FeatureError as error:
        raise FeatureError(f"principal components at {tap.id}: {error}") from error
    kept = slice(1, 1 + width)
    seen = axes.rows[0, :, kept].cpu().numpy().copy()  # the rest is let go
    return seen, axes.transform([test])[0, :, kept].cpu().numpy().copy()
