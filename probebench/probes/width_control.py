"""Features of one width: what a probe finds in wide taps must not be there only because they are wide."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch

from probebench._arrays import Array, on_host
from probebench.catalog.protocols import Protocol
from probebench.catalog.taps import Tap
from probebench.errors import FeatureError
from probebench.probes.parallel import on_cores
from probebench.probes.principal_axes import principal_axes

NOTHING = 1e-6
"""Share of the variance that rounding to float32 may feign."""


def loses(tap: Tap, width: int, narrow: int | None, n: int, protocol: Protocol) -> bool:
    """Whether a tap of `width` features may lose something if it is made as narrow as the residual stream.

    Hidden pre-activations do not, unless their rows are scaled: a linear layer makes them of that many features.

    Args:
        narrow: width of the residual stream; None leaves the control out
        n: training rows
    """
    if narrow is None or min(width, n) <= narrow:
        return False
    return tap.site != "fc1" or protocol.feature_norm != "none"


def narrowed(
    train: Mapping[Tap, Array],
    test: Mapping[Tap, Array],
    narrow: int | None,
    protocol: Protocol,
    device: str,
    jobs: int,
) -> tuple[dict[Tap, Array], dict[Tap, Array]] | None:
    """The `leading_components` of all taps that lose something; None if there are none.

    Args:
        train, test: per tap of shapes (n, width) and (m, width)
        device, jobs: as of `probebench.probes.Probe`
    """
    wide = [tap for tap, values in train.items() if loses(tap, values.shape[1], narrow, len(values), protocol)]
    if not wide:
        return None
    assert narrow is not None
    parts = (({tap: train[tap]}, {tap: test[tap]}) for tap in wide)
    work = partial(_components, narrow=narrow, standardize=protocol.standardize, device=device)
    found: dict[Tap, tuple[Array, Array]] = {}
    for tap, both in on_cores(work, parts, jobs if device == "cpu" else 1, device):
        if both is not None:
            # What came from the host goes back there.
            found[tap] = both if isinstance(train[tap], torch.Tensor) else (on_host(both[0]), on_host(both[1]))
    if not found:
        return None
    seen, unseen = ({tap: found[tap][side] for tap in wide if tap in found} for side in (0, 1))
    return seen, unseen


def _components(
    train: Mapping[Tap, Array], test: Mapping[Tap, Array], narrow: int, standardize: bool, device: str
) -> tuple[Tap, tuple[Array, Array] | None]:
    """Of one tap."""
    ((tap, values),) = train.items()
    return tap, leading_components(tap, values, test[tap], narrow, standardize=standardize, device=device)


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
