"""Average gains over datasets that may share their test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, sqrt

from probebench.stats import Z95


@dataclass(frozen=True)
class Gain:
    """A difference of two scores on the same test images.

    Attributes:
        value: as a fraction
        ci95: its 95% interval
        p_value: two-sided, of no gain
        n_test: the number of test images
    """

    value: float
    ci95: tuple[float, float]
    p_value: float
    n_test: int


def mean_gain(gains: Sequence[Gain]) -> Gain:
    """The mean of the gains on several datasets, at least one, with a normal interval and p-value.

    The standard error of a gain is that of its test images, and the datasets are taken as they are. Those that have
    equally many test images may show the same ones, such as corrupted copies of one dataset: their errors add up as if
    they were one, which can only be too much. Those of others are independent.
    """
    if len(gains) == 1:
        return gains[0]
    mean = sum(gain.value for gain in gains) / len(gains)
    together: dict[int, float] = {}  # standard errors
    for gain in gains:
        together[gain.n_test] = together.get(gain.n_test, 0.0) + (gain.ci95[1] - gain.ci95[0]) / (2 * Z95)
    error = sqrt(sum(value**2 for value in together.values())) / len(gains)
    p_value = erfc(abs(mean) / error / sqrt(2)) if error else float(mean == 0)
    return Gain(mean, (mean - Z95 * error, mean + Z95 * error), p_value, sum(gain.n_test for gain in gains))
