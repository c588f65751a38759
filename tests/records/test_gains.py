"""The mean of gains over datasets that may share their test images."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from scipy.stats import norm

from probebench.records.gains import Gain, mean_gain, pack_changes, unpack_changes

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


@pytest.mark.parametrize(("known", "low", "high"), [(True, 930, 970), (False, 975, 1000)])
def test_the_interval_covers_the_mean_on_test_images_that_are_drawn_again(known, low, high):
    """1,000 test sets: two corrupted copies of the same 400 images, and a dataset of 300 others."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        hard = rng.random(400)  # how hard an image is, on both copies
        changes = [np.where(rng.random(400) < hard, rng.choice([-1, 1, 1], 400), 0) for _ in range(2)]
        changes.append(rng.choice([-1, 0, 0, 1], 300))
        gains = [
            Gain(each.mean(), interval(each), 0.5, len(each), each.astype(np.int8) if known else None)
            for each in changes
        ]
        ends = mean_gain(gains).ci95
        covered += ends[0] <= (1 / 6 + 1 / 6 + 0) / 3 <= ends[1]
    # Without the changes of single images an interval is too wide, but never too narrow.
    assert low <= covered <= high


def interval(changes):
    error = changes.std(ddof=1) / sqrt(len(changes))
    return changes.mean() - Z * error, changes.mean() + Z * error


def test_other_images_in_as_great_a_number_are_no_harm():
    rng = np.random.default_rng(1)
    changes = [rng.choice([-1, 0, 1], 5000).astype(np.int8) for _ in range(2)]
    one, other = (Gain(each.mean(), interval(each), 0.5, 5000, each) for each in changes)
    independent = sqrt(sum(each.std(ddof=1) ** 2 / 5000 for each in changes)) / 2
    low, high = mean_gain([one, other]).ci95
    assert (high - low) / 2 / Z == pytest.approx(independent, rel=0.05)


def test_changes_are_kept_in_a_record():
    rng = np.random.default_rng(2)
    before, now = rng.random((2, 37)) < 0.5
    text = pack_changes(before, now)
    assert unpack_changes(text, 37).tolist() == (now.astype(int) - before).tolist()
    assert len(text) < 20
    assert pack_changes(before.astype(np.float32), now.astype(np.float32)) is None
    assert pack_changes(before[None], now[None]) is None
    assert unpack_changes(None, 37) is None


def test_gains_without_any_spread():
    assert mean_gain([Gain(0.0, (0.0, 0.0), 1.0, 5)] * 2).p_value == 1.0
    assert mean_gain([Gain(0.1, (0.1, 0.1), 0.1, 5)] * 2).p_value == 0.0
