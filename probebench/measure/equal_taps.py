"""Find taps whose features are the same up to rounding, so that they are fitted once."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from probebench._arrays import Array, to_device
from probebench.catalog.taps import FINAL, OUTPUT, Tap
from probebench.measure.extract import ExtractedFeatures

ROUNDING = 1e-5
"""Relative distance of features that are the same number, computed in another order."""

_ROWS = 4096


def find_equal(features: ExtractedFeatures, taps: Iterable[Tap]) -> dict[Tap, Tap]:
    """Return by tap an earlier one with the same features for all images.

    ``output`` is compared with ``final`` and the last block, and a tap with the same place under other poolings:
    without prefix tokens, for example, ``mean`` and ``patch_mean`` are one.
    """
    found: dict[Tap, Tap] = {}
    kept: list[Tap] = []
    for tap in sorted(taps):
        last = max((each.layer for each in kept if isinstance(each.layer, int)), default=0)
        same = (each for each in kept if _may_equal(tap, each, last) and _equal(features, tap, each))
        source = next(same, None)
        if source is None:
            kept.append(tap)
        else:
            found[tap] = source
    return found


def _may_equal(tap: Tap, other: Tap, last: int) -> bool:
    if tap.layer == OUTPUT:
        return other.layer == FINAL or (other.layer == last and other.site == "rc2")
    return tap.plain == other.plain


def _equal(features: ExtractedFeatures, tap: Tap, other: Tap) -> bool:
    return all(_close(part[tap], part[other]) for part in (features.test, features.train))


def _close(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return False
    for start in range(0, len(one), _ROWS):
        a, b = (_tensor(values[start : start + _ROWS]) for values in (one, other))
        if torch.linalg.vector_norm(a - b) > ROUNDING * torch.linalg.vector_norm(b):
            return False
    return True


def _tensor(rows: Array) -> torch.Tensor:
    return rows if isinstance(rows, torch.Tensor) else to_device(rows, "cpu")
