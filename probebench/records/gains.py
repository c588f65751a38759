"""Average gains over datasets that may share their test images."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import erfc, sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt

from probebench.catalog.tasks import Task
from probebench.records.cases import group_by_sweep, key_of, task_of
from probebench.records.controls import SHIFTS
from probebench.records.types import Record, SweepRecord
from probebench.stats import Z95, Scores

Changes = npt.NDArray[np.int8]
"""Of each test image, by how much it is better: -1 if it was lost, 1 if it was gained; shape (n_test,)."""


@dataclass(frozen=True)
class Gain:
    """A difference of two scores on the same test images.

    Attributes:
        value: as a fraction
        ci95: its 95% interval
        p_value: two-sided, of no gain
        n_test: the number of test images
        changes: of each test image; None if they are not known
    """

    value: float
    ci95: tuple[float, float]
    p_value: float
    n_test: int
    changes: Changes | None = field(default=None, repr=False, compare=False)


def group_by_shift(
    record: Record, answered: Literal["poolings", "contrasts"]
) -> dict[tuple[str, Task], dict[str, list[SweepRecord]]]:
    """Group the sweeps of each model and task by growing shift; those of unknown shift come last.

    Args:
        answered: the entry of a sweep that is averaged; sweeps without it, without cases, and of controls are left out
    """
    there = group_by_sweep(record["cases"]).keys()
    groups: dict[tuple[str, Task], dict[str, list[SweepRecord]]] = {}
    for sweep in record["sweeps"]:
        if sweep.get(answered) and key_of(sweep) in there and not sweep["control_of"]:
            groups.setdefault((sweep["model"], task_of(sweep)), {}).setdefault(sweep["shift"], []).append(sweep)
    return {
        of: {shift: own[shift] for shift in (*SHIFTS, "") if shift in own}  # as shift grows
        for of, own in groups.items()
    }


def mean_gain(gains: Sequence[Gain]) -> Gain:
    """The mean of the gains on several datasets, at least one, with a normal interval and p-value.

    The standard error is that of the test images; the datasets are taken as they are. Datasets with equally many test
    images may show the same ones, as corrupted copies of one dataset do, and are taken to have them in the same order:
    the changes of an image are added up before their variance is taken. If they show others, this is as right. Where
    changes are not known, the errors of such datasets add up as if they were one, which can only be too much. Datasets
    with different numbers of test images are independent.
    """
    if len(gains) == 1:
        return gains[0]
    mean = sum(gain.value for gain in gains) / len(gains)
    groups: dict[int, list[Gain]] = {}
    for gain in gains:
        groups.setdefault(gain.n_test, []).append(gain)
    error = sqrt(sum(_error_of_sum(own) ** 2 for own in groups.values())) / len(gains)
    p_value = erfc(abs(mean) / error / sqrt(2)) if error else float(mean == 0)
    return Gain(mean, (mean - Z95 * error, mean + Z95 * error), p_value, sum(gain.n_test for gain in gains))


def _error_of_sum(gains: Sequence[Gain]) -> float:
    """The standard error of the sum of gains on equally many test images."""
    known = [gain.changes for gain in gains if gain.changes is not None]
    if len(gains) == 1 or len(known) < len(gains):
        return sum(gain.ci95[1] - gain.ci95[0] for gain in gains) / (2 * Z95)
    together = np.stack(known).sum(axis=0, dtype=np.int64)
    return float(together.std(ddof=1)) / sqrt(together.size)


def pack_changes(before: Scores, now: Scores) -> str | None:
    """The changes between two cases as text for a record; None if they are no single draws of right and wrong.

    Returns:
        base64 of the bits that say which test images were lost, and then of those that say which were gained
    """
    if not (before.dtype == now.dtype == np.bool_ and before.ndim == now.ndim == 1):
        return None
    was, is_now = before.astype(np.bool_), now.astype(np.bool_)
    bits = np.concatenate([np.packbits(was & ~is_now), np.packbits(is_now & ~was)])
    return base64.b64encode(bits.tobytes()).decode("ascii")


def unpack_changes(text: str | None, n_test: int) -> Changes | None:
    """The changes that `pack_changes` wrote."""
    if text is None:
        return None
    packed = np.frombuffer(base64.b64decode(text), np.uint8).reshape(2, -1)
    lost, gained = np.unpackbits(packed, axis=1, count=n_test).astype(np.int8)
    changes: Changes = gained - lost
    return changes
