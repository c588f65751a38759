"""The mean of gains over datasets that may share their test images."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from scipy.stats import norm

from probebench.records.gains import Gain, mean_gain

Z = norm.ppf(0.975)


def gain(value, error, n):
    return Gain(value, (value - Z * error, value + Z * error), 0.5, n)


def test_a_single_gain_keeps_its_exact_test():
    one = Gain(0.1, (0.02, 0.2), 0.011, 50)
    assert mean_gain([one]) is one


def test_errors_add_up_where_images_may_be_the_same_and_are_independent_elsewhere():
    mean = mean_gain([gain(0.1, 0.02, 500), gain(0.2, 0.04, 500), gain(0.0, 0.03, 700)])
    error = sqrt((0.02 + 0.04) ** 2 + 0.03**2) / 3
    assert mean.value == pytest.approx(0.1)
    assert mean.ci95 == pytest.approx((0.1 - Z * error, 0.1 + Z * error))
    assert mean.p_value == pytest.approx(2 * norm.sf(0.1 / error))


def test_the_interval_covers_the_mean_on_the_same_images_drawn_again():
    """1,000 test sets of two datasets that are corrupted copies of the same 400 images."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(1000):
        images = rng.standard_normal(400)  # what both copies share
        gains = []
        for noise in (0.5, 2.0):
            changes = 0.1 + images + noise * rng.standard_normal(400)
            gains.append(gain(changes.mean(), changes.std(ddof=1) / 20, 400))
        low, high = mean_gain(gains).ci95
        inside += low <= 0.1 <= high
    assert inside >= 950  # an interval may be too wide, but not too narrow


def test_gains_without_any_spread():
    assert mean_gain([Gain(0.0, (0.0, 0.0), 1.0, 5)] * 2).p_value == 1.0
    assert mean_gain([Gain(0.1, (0.1, 0.1), 0.1, 5)] * 2).p_value == 0.0
