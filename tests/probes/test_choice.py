"""The choice of a strength by smoothed held-out accuracy."""

from __future__ import annotations

import numpy as np
import pytest

from probebench.probes.choice import choose, is_settled, smooth


def test_scores_are_averages_of_neighbours_in_twelfths():
    correct = np.array([[4, 7, 1, 9]])
    expected = [(2 * 4 + 7) / 3, (4 + 2 * 7 + 1) / 4, (7 + 2 * 1 + 9) / 4, (2 * 9 + 1) / 3]
    assert (smooth(correct) / 12).tolist() == [pytest.approx(expected)]
    assert smooth(np.array([[5]])).tolist() == [[60]]


def test_a_lone_peak_loses_to_a_broad_one_and_equals_go_to_the_first():
    correct = np.array([[50, 50, 58, 50, 56, 56, 56, 50], [50, 50, 50, 50, 50, 50, 50, 50]])
    assert choose(correct, ended=True).tolist() == [5, 0]


def test_the_last_strength_is_chosen_only_at_the_end_of_the_path():
    rising = np.array([[10, 20, 30]])
    assert choose(rising, ended=False).tolist() == [1]
    assert choose(rising, ended=True).tolist() == [2]


def test_a_path_is_settled_once_enough_smoothed_scores_are_no_better():
    curve = np.array([[10, 20, 30, 20, 15, 10]])
    for patience, solved in [(1, 5), (2, 6)]:
        settled = [bool(is_settled(curve[:, :k], patience)[0]) for k in range(1, 7)]
        assert settled == [k >= solved for k in range(1, 7)]


def test_each_tap_is_judged_by_itself():
    curves = np.array([[30, 20, 10], [10, 20, 30]])
    assert is_settled(curves, 1).tolist() == [True, False]
