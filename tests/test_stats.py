from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, fisher_exact, norm

from probebench.stats import (
    Move,
    discordant,
    fisher,
    holm,
    mcnemar,
    mcnemar_two_sided,
    paired,
    paired_change,
    paired_interval,
    sign_flip,
    unpaired,
    wilson,
)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (3, 7), (700, 899), (1, 1), (0, 1), (1, 50_000)])
def test_wilson_is_scipys(right, n):
    assert wilson(right, n) == pytest.approx(binomtest(right, n).proportion_ci(method="wilson"), abs=1e-12)


@given(n=st.floats(0.5, 1e6), share=st.floats(0, 1))
def test_wilson_of_any_number_of_trials_holds_the_proportion(n, share):
    low, high = wilson(share * n, n)
    assert 0 <= low <= share * n / n <= high <= 1
    z = norm.ppf(0.975)
    for end in (low, high):  # where the score test is at its critical value
        assert (share - end) ** 2 == pytest.approx(z**2 * end * (1 - end) / n, abs=1e-9)


@pytest.mark.parametrize(("lost", "gained"), list(product(range(7), repeat=2)))
def test_mcnemar_is_the_binomial_tail(lost, gained):
    n = lost + gained
    assert mcnemar(lost, gained) == pytest.approx(sum(comb(n, k) for k in range(lost, n + 1)) / 2**n)


def test_discordant_pairs_are_counted_by_direction():
    before = np.array([True, True, True, False, False])
    now = np.array([True, False, False, True, False])
    assert discordant(before, now) == (2, 1)


@pytest.mark.parametrize(("lost", "gained", "n"), [(0, 0, 1), (0, 5, 5), (5, 0, 5), (3, 9, 40), (60, 190, 899)])
def test_the_interval_of_a_paired_change_is_walds_of_the_table_with_half_an_example_more_in_each_cell(lost, gained, n):
    changes, examples = np.array([-1, 1, 0, 0]), np.array([lost, gained, n - lost - gained, 0]) + 0.5
    mean = np.average(changes, weights=examples)
    deviation = np.sqrt(np.average((changes - mean) ** 2, weights=examples) / examples.sum())
    expected = np.clip(norm.interval(0.95, mean, deviation), -1, 1)
    assert paired_interval(lost, gained, n) == pytest.approx(tuple(expected), abs=1e-12)


def test_over_several_draws_an_example_is_lost_if_fewer_of_them_are_right():
    before = np.array([[True, True, True, False], [True, True, False, False], [True, False, False, False]])
    now = np.array([[True, False, True, False], [True, True, True, True], [False, False, False, False]])
    assert discordant(before, now) == (2, 2)  # 3 2 1 0 of three become 2 1 2 1
    assert paired(before, now) == Move(6, 6, 12, 2, 2, mcnemar(2, 2), mcnemar(2, 2))
    assert discordant(before[:1], now[:1]) == discordant(before[0], now[0])


def test_two_sided_mcnemar_is_the_binomial_test():
    pairs = list(product(range(9), repeat=2))
    p_values = mcnemar_two_sided([lost for lost, _ in pairs], [gained for _, gained in pairs])
    assert p_values == pytest.approx([binomtest(b, b + c).pvalue if b + c else 1.0 for b, c in pairs])


def holm_by_adjusted_p(p_values, alpha):
    # The definition through adjusted p-values: running maximum of (m - i) p_(i).
    order, largest, rejected = np.argsort(p_values), 0.0, [False] * len(p_values)
    for i, index in enumerate(order):
        largest = max(largest, (len(p_values) - i) * p_values[index])
        rejected[index] = largest <= alpha
    return rejected


def test_holm_agrees_with_adjusted_p_values():
    rng = np.random.default_rng(0)
    for _ in range(200):
        p_values = list(rng.uniform(0, 0.05, rng.integers(1, 8)))
        assert holm(p_values, 0.05) == holm_by_adjusted_p(p_values, 0.05)


def test_holm_on_a_part_never_rejects_more_than_on_the_whole_family():
    rng = np.random.default_rng(1)
    for _ in range(200):
        p_values = list(rng.uniform(0, 0.03, 9))
        whole = holm(p_values, 0.05)
        part = holm(p_values[:4], 0.05, family=9)
        assert all(w or not p for p, w in zip(part, whole, strict=False))


def test_a_family_cannot_be_smaller_than_its_part():
    with pytest.raises(ValueError, match="family of 1"):
        holm([0.1, 0.2], 0.05, family=1)


@pytest.mark.parametrize(("before", "now"), [(7, 3), (3, 7), (5, 5), (0, 0), (10, 0), (10, 10)])
def test_fisher_is_scipys(before, now):
    table = [[before, 10 - before], [now, 10 - now]]
    assert fisher(before, now, 10) == pytest.approx(fisher_exact(table, alternative="greater").pvalue)


def test_a_move_is_tested_in_both_directions():
    before, now = np.arange(10) < 7, np.arange(10) < 3
    assert paired(before, now) == Move(7, 3, 10, 4, 0, mcnemar(4, 0), 1.0)
    assert unpaired(7, 3, 10) == Move(7, 3, 10, None, None, fisher(7, 3, 10), fisher(3, 7, 10))


@pytest.mark.parametrize("n", [1, 5, 14])
def test_sign_flips_of_few_changes_are_counted(n):
    changes = np.random.default_rng(n).normal(size=n) + 0.3
    sums = [float(np.dot(signs, np.abs(changes))) for signs in product((-1, 1), repeat=n)]
    down, up = sign_flip(changes)
    assert down == pytest.approx(np.mean([each <= changes.sum() + 1e-9 for each in sums]))
    assert up == pytest.approx(np.mean([each >= changes.sum() - 1e-9 for each in sums]))


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("heavy", [False, True])
def test_sign_flips_of_many_changes_are_those_of_random_signs(shift, heavy):
    rng = np.random.default_rng(1)
    changes = (rng.standard_t(2, size=60) if heavy else rng.normal(size=60)) + shift
    sums = rng.choice([-1, 1], size=(100_000, 60)) @ np.abs(changes)
    down, up = sign_flip(changes)
    assert up == pytest.approx(np.mean(sums >= changes.sum()), rel=0.1, abs=0.005)
    assert down == pytest.approx(1 - up)


def test_sign_flips_reach_far_into_the_tail_and_are_symmetric():
    changes = np.random.default_rng(0).normal(size=500) + 0.5
    down, up = sign_flip(changes)
    assert 1e-40 < up < 1e-15
    assert sign_flip(-changes) == (up, down)
    assert sign_flip(np.zeros(9)) == (1.0, 1.0)
    assert sign_flip(np.linspace(1, 2, 40))[1] == pytest.approx(0.5**40)


def test_scores_are_compared_in_pairs():
    before = np.array([0.9, 0.4, 0.7, 0.2], dtype=np.float32)
    now = before + np.array([0.1, -0.2, 0, 1e-8], dtype=np.float32)
    move = paired(before, now)
    assert (move.lost, move.gained, move.n_test) == (1, 1, 4)
    assert move.now - move.before == pytest.approx(-0.1, abs=1e-6)
    assert (move.p_down, move.p_up) == (0.5, 0.625)
    assert move.p_two_sided == 1.0
    draws = paired(np.stack([before, before]), np.stack([now, now]))
    assert (draws.lost, draws.n_test, draws.p_down) == (1, 8, 0.5)


# Paired changes


def test_the_change_of_right_and_wrong_has_the_interval_of_pairs():
    before, now = np.arange(200) < 120, np.arange(200) % 3 > 0
    lost, gained = np.count_nonzero(before & ~now), np.count_nonzero(~before & now)
    assert paired_change(before, now) == paired_interval(lost, gained, 200)


@pytest.mark.parametrize("kind", ["scores", "draws"])
def test_the_change_of_scores_and_draws_has_the_interval_of_a_bootstrap_over_examples(kind):
    rng = np.random.default_rng(0)
    if kind == "scores":
        before = rng.random(500).astype(np.float32)
        now = (0.8 * before + 0.3 * rng.random(500)).astype(np.float32)
    else:
        skill = rng.random(500)
        before, now = rng.random((5, 500)) < skill, rng.random((5, 500)) < skill + 0.05
    changes = np.atleast_2d(now).mean(axis=0, dtype=float) - np.atleast_2d(before).mean(axis=0, dtype=float)
    means = [changes[rng.integers(0, 500, 500)].mean() for _ in range(4000)]
    low, high = paired_change(before, now)
    assert (low + high) / 2 == pytest.approx(changes.mean())
    assert (low, high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.1 * (high - low))
