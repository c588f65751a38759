"""Features of one width: what a probe finds in wide taps must not be there only because they are wide."""

from __future__ import annotations

import torch

from probebench.errors import FeatureError
from probebench.placement import Array, on_host
from probebench.probes.axes import principal_axes
from probebench.sites import Tap

NOTHING = 1e-6
"""Share of the variance that rounding to float32 may feign."""


def leading_components(
    tap: Tap, train: Array, test: Array, width: int, *, standardize: bool, device: str
) -> tuple[Array, Array] | None:
    """Features in the leading principal components of the training features, with the training mean taken off.

    Args:
        train, test: shapes (n, wide) and (m, wide), on the host or on the device
        width: how many components
        standardize: divide by the standard deviation of the training features first

    Returns:
        float32 of shapes (n, width) and (m, width), where the features are; None if the training features have no
        variance beside these components, as where a layer maps fewer features to more: a probe with an L2 penalty is
        the same on them

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
    # Copied, so that the rest is let go.
    seen, unseen = (rows[0, :, 1 : 1 + width].clone() for rows in (axes.rows, axes.transform([test])))
    return (seen, unseen) if isinstance(train, torch.Tensor) else (on_host(seen), on_host(unseen))
