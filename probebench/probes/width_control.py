"""The width control: wide taps are probed again at the width of the residual stream.

A probe may find more in a tap only because the tap is wide; the control shows whether the gain remains at equal width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch

from probebench._arrays import Array, on_host
from probebench.catalog.protocols import Protocol
from probebench.catalog.taps import Tap
from probebench.errors import FeatureError
from probebench.probes.operations import OPERATIONS, RIDGE_ROWS, fit_parts
from probebench.probes.parallel import run_on_cores
from probebench.probes.principal_axes import principal_axes

NOTHING = 1e-6
"""A share of the variance this small can be an effect of rounding to float32."""


def needs_control(tap: Tap, width: int, narrow: int | None, n: int, protocol: Protocol) -> bool:
    """Return whether a tap of `width` features may lose information when projected to the residual stream's width.

    Hidden pre-activations lose nothing, unless their rows are scaled: a linear layer makes them from that many
    features.

    Args:
        narrow: width of the residual stream; None for no control
        n: training rows
    """
    if narrow is None or min(width, n) <= narrow:
        return False
    return tap.site != "fc1" or protocol.feature_norm != "none"


def project_wide_taps(
    train: Mapping[Tap, Array],
    test: Mapping[Tap, Array],
    narrow: int | None,
    protocol: Protocol,
    device: str,
    jobs: int,
) -> tuple[dict[Tap, Array], dict[Tap, Array]] | None:
    """Return the `leading_components` of all taps that lose information by them; None if there are no such taps.

    Args:
        train, test: per tap of shapes (n, width) and (m, width)
        device, jobs: as in `probebench.probes.Probe`
    """
    wide = [tap for tap, values in train.items() if needs_control(tap, values.shape[1], narrow, len(values), protocol)]
    if not wide:
        return None
    assert narrow is not None
    parts = (({tap: train[tap]}, {tap: test[tap]}) for tap in wide)
    work = partial(_components, narrow=narrow, standardize=protocol.standardize, device=device)
    found: dict[Tap, tuple[Array, Array]] = {}
    for tap, both in run_on_cores(work, parts, jobs if device == "cpu" else 1, device):
        if both is not None:
            # Features that came from the host go back there.
            found[tap] = both if isinstance(train[tap], torch.Tensor) else (on_host(both[0]), on_host(both[1]))
    if not found:
        return None
    seen, unseen = ({tap: found[tap][side] for tap in wide if tap in found} for side in (0, 1))
    return seen, unseen


def _components(
    train: Mapping[Tap, Array], test: Mapping[Tap, Array], narrow: int, standardize: bool, device: str
) -> tuple[Tap, tuple[Array, Array] | None]:
    """Return the one tap of `train`, and its leading components."""
    ((tap, values),) = train.items()
    return tap, leading_components(tap, values, test[tap], narrow, standardize=standardize, device=device)


def leading_components(
    tap: Tap, train: Array, test: Array, width: int, *, standardize: bool, device: str
) -> tuple[Array, Array] | None:
    """Project features to the leading principal components of the training features, and subtract the training mean.

    Args:
        train, test: shapes (n, wide) and (m, wide), on the host or on the device
        width: number of components
        standardize: divide by the standard deviation of the training features first

    Returns:
        float32 of shapes (n, width) and (m, width), on the host or device that the features are on; None if the
        training features have no variance outside these components, for example because a layer maps fewer features to
        more: a probe with an L2 penalty is the same on them

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
    # Copied, so that the memory of the other components is freed.
    seen, unseen = (rows[0, :, 1 : 1 + width].clone() for rows in (axes.rows, axes.transform([test])))
    return (seen, unseen) if isinstance(train, torch.Tensor) else (on_host(seen), on_host(unseen))


def projection_operations(n: int, width: int) -> float:
    """Return the operations of a float32 matrix product that take as long as the leading components of one tap.

    Args:
        n: training rows
        width: features of the tap
    """
    parts = fit_parts(n, width, classes=1, strengths=1)  # these parts depend on neither
    return (RIDGE_ROWS * parts["rows"] + sum(OPERATIONS[name] * parts[name] for name in ("axes", "eigenvectors"))) / 2
