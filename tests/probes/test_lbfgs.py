"""The solver against Newton's method in float64, on problems of all shapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from probebench.probes import lbfgs
from probebench.probes.lbfgs import default_group, leading_axes, solve_path
from probebench.probes.principal_axes import principal_axes
from tests.probes.newton import newton, objective

RNG = np.random.default_rng(0)


def blobs(n, d, classes, seed=0, distance=1.0):
    """Overlapping clouds: float32 features and labels, every class present."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    labels[:classes] = np.arange(classes)
    return (rng.normal(size=(n, d)) + distance * rng.normal(size=(classes, d))[labels]).astype(np.float32), labels


def solve(x, labels, C, share=None, **options):
    """The solution, and per strength coefficients and intercepts on the standardised features."""
    dtype = options.pop("dtype", torch.float32)
    axes = principal_axes([x], weights=share, dtype=dtype)
    strengths = torch.from_numpy(1 / (np.atleast_1d(np.asarray(C, dtype=float)) * len(x)))[None]
    weights = None if share is None else torch.from_numpy(share)
    found = solve_path(axes.rows, torch.from_numpy(labels), labels.max() + 1, strengths, weights=weights, **options)
    coef, intercept = (values[0].numpy() for values in axes.coefficients(found.weights))
    mean, scale = axes.mean[0].numpy(), axes.scale[0].numpy()
    z = (x.astype(np.float64) - mean) / scale
    return found, z, strengths[0].numpy(), coef * scale, intercept + coef @ mean


def true_gaps(x, labels, C, share=None, **options):
    """Relative distances to Newton's optimum, measured on the features as given, and the solution."""
    found, z, strengths, coef, intercept = solve(x, labels, C, share, **options)
    share = np.full(len(x), 1 / len(x)) if share is None else share / share.sum()
    gaps = []
    for i, strength in enumerate(strengths):
        *_, best = newton(z, labels, labels.max() + 1, strength, share)
        gaps.append(objective(z, labels, share, strength, coef[i], intercept[i]) / best - 1)
    return np.array(gaps), found


@st.composite
def problems(draw):
    kind = draw(st.sampled_from(["plain", "collinear", "duplicates", "separable", "constant", "scaled"]))
    classes = draw(st.sampled_from([2, 3, 5, 10, 30]))
    d = draw(st.integers(1, max(1, min(20, 250 // classes - 1))))
    n = draw(st.integers(classes, classes + 150))
    x, labels = blobs(n, d, classes, draw(st.integers(0, 10**6)), distance=6.0 if kind == "separable" else 0.5)
    rng = np.random.default_rng(n)
    if kind == "collinear":
        x = np.column_stack([x, x @ rng.normal(size=(d, 2))])
    elif kind == "duplicates":
        x[n // 2 :] = x[: n - n // 2]
    elif kind == "constant":
        x[:, 0] = 3.7
    elif kind == "scaled":
        x = x * 10.0 ** rng.uniform(-4, 4, d) + 10.0 ** rng.uniform(-3, 3, d)
    exponents = draw(st.lists(st.floats(-6, 6), min_size=1, max_size=3))
    return x.astype(np.float32), labels, 10.0 ** np.array(sorted(exponents))


@settings(max_examples=60)
@given(problems())
@example((*blobs(6, 8, 3, 1), np.array([3.4e4])))
@example((*blobs(10, 20, 2, 2, distance=6.0), np.array([1e6])))
def test_the_optimum_is_reached_and_the_gap_is_honest(problem):
    gaps, found = true_gaps(*problem)
    assert np.isfinite(found.weights.numpy()).all()
    assert (found.gap <= 1e-6).all()
    assert (gaps <= 1e-6).all()
    assert (gaps >= -1e-8).all()  # else the reference is not the optimum


@pytest.fixture
def large(monkeypatch):
    """Treat every problem as large: few iterations of L-BFGS, then Newton steps over uncertain rows."""
    monkeypatch.setattr(lbfgs, "LARGE", 1)
    monkeypatch.setattr(lbfgs, "EARLY", 3)


@pytest.mark.parametrize("distance", [0.3, 1.0, 6.0])
@pytest.mark.parametrize(("n", "d", "classes"), [(400, 20, 2), (600, 30, 5), (300, 12, 12)])
def test_large_problems_reach_their_optimum(large, n, d, classes, distance):
    x, labels = blobs(n, d, classes, seed=n, distance=distance)
    gaps, found = true_gaps(x, labels, np.logspace(-3, 4, 8))
    assert found.newton.any()
    assert (gaps <= 1e-6).all()
    assert (gaps <= np.maximum(2 * found.gap[0].numpy(), 1e-9)).all()


def test_large_weighted_problems_reach_their_optimum(large):
    x, labels = blobs(500, 20, 4, seed=1)
    share = np.random.default_rng(0).uniform(0.1, 3, 500)
    gaps, found = true_gaps(x, labels, np.logspace(-2, 3, 6), share)
    assert found.newton.any()
    assert (gaps <= 1e-6).all()


def test_two_hundred_classes():
    x, labels = blobs(220, 2, 200)
    gaps, found = true_gaps(x, labels, [1e-3, 1.0])
    assert (gaps <= 1e-6).all()
    assert (found.gap <= 1e-6).all()


def test_all_strengths_of_a_path_are_solved_whatever_the_group():
    x, labels = blobs(300, 12, 10)
    path = np.logspace(-4, 2, 10)
    alone = [solve(x, labels, C, dtype=torch.float64, tol=1e-12)[3][0] for C in path]
    for group in (1, 3, 10):
        coef = solve(x, labels, path, dtype=torch.float64, tol=1e-12, group=group)[3]
        assert np.allclose(coef, alone, atol=1e-5), group


def test_weights_stand_for_repeated_rows():
    x, labels = blobs(60, 5, 3)
    times = RNG.integers(1, 4, 60)
    axes = principal_axes([x])
    strengths = torch.tensor([[0.01, 0.001]], dtype=torch.float64)
    weighted = solve_path(
        axes.rows, torch.from_numpy(labels), 3, strengths, weights=torch.from_numpy(times).double(), tol=1e-10
    )
    repeated = solve_path(
        axes.rows.repeat_interleave(torch.from_numpy(times), 1), torch.from_numpy(labels.repeat(times)), 3, strengths,
        tol=1e-10,
    )  # fmt: skip
    assert torch.allclose(weighted.weights, repeated.weights, atol=2e-4)
    assert not torch.allclose(
        weighted.weights, solve_path(axes.rows, torch.from_numpy(labels), 3, strengths).weights, atol=0.01
    )


@settings(max_examples=15)
@given(problems(), st.integers(0, 1000))
def test_weighted_problems_reach_their_optimum(problem, seed):
    x, labels, C = problem
    share = np.random.default_rng(seed).uniform(0.1, 10, len(x))
    gaps, _ = true_gaps(x, labels, C, share)
    assert (gaps <= 1e-6).all()


def test_taps_of_a_batch_do_not_disturb_one_another():
    # Of different difficulty, so that they finish at different times.
    taps = [blobs(200, 20, 5, seed=1, distance=distance)[0] for distance in (0.0, 1.0, 4.0)]
    labels = torch.from_numpy(blobs(200, 20, 5, seed=1)[1])
    strengths = torch.from_numpy(np.logspace(-1, -6, 6)).repeat(3, 1)
    together = solve_path(principal_axes(taps).rows, labels, 5, strengths)
    for i, tap in enumerate(taps):
        alone = solve_path(principal_axes([tap]).rows, labels, 5, strengths[:1])
        assert torch.allclose(together.weights[i], alone.weights[0], rtol=1e-3, atol=1e-3)
        assert together.iterations[i].tolist() == pytest.approx(alone.iterations[0].tolist(), abs=6)


# The pitfalls


def test_constant_columns_get_no_weight():
    x, labels = blobs(100, 4, 3)
    x[:, 1] = 1e6
    coef = solve(x, labels, 1.0)[3]
    assert np.abs(coef[0][:, 1]).max() < 1e-5  # rounding of the rotation
    others = solve(np.delete(x, 1, axis=1), labels, 1.0)[3]
    assert np.allclose(np.delete(coef, 1, axis=2), others, atol=1e-4)


def test_a_class_without_rows_is_refused_by_number():
    x, labels = blobs(30, 3, 3)
    with pytest.raises(ValueError, match="class 1 of 3 has no row"):
        solve_path(
            principal_axes([x]).rows, torch.from_numpy(np.where(labels == 1, 0, labels)), 3,
            torch.ones(1, 1, dtype=torch.float64),
        )  # fmt: skip


@pytest.mark.parametrize("C", [1e2, 1e6, 1e9])
def test_separable_classes_end(C):
    x, labels = blobs(60, 10, 3, distance=20.0)
    found, *_ = solve(x, labels, C)
    assert float(found.gap) <= 1e-6
    assert np.isfinite(found.weights.numpy()).all()
    assert int(found.iterations) < 1000


def test_duplicate_rows_of_different_classes():
    x = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    labels = np.tile([0, 1, 0, 2], 3)
    gaps, _ = true_gaps(x, labels, [1e-3, 1.0, 1e5])
    assert (gaps <= 1e-6).all()


def test_fewer_rows_than_classes_of_a_thousand_features():
    x, labels = blobs(12, 1000, 12)
    found, z, strengths, coef, intercept = solve(x, labels, [1e-2, 1.0])
    # Features outnumber rows, so Newton works in the span of the rows.
    span, inside = np.linalg.qr(z.T)
    for i, strength in enumerate(strengths):
        *_, best = newton(inside.T, labels, 12, strength)
        value = objective(z, labels, np.full(12, 1 / 12), strength, coef[i], intercept[i])
        assert value / best - 1 <= 1e-6
    assert found.weights.shape[3] <= 13  # the dual form: no more axes than rows
    assert np.allclose(coef[1] @ span @ span.T, coef[1], atol=1e-5)


def test_weights_sum_to_zero_over_classes():
    x, labels = blobs(100, 6, 4)
    weights = solve(x, labels, [0.01, 1.0, 100.0])[0].weights
    assert weights.sum(dim=2).abs().max() < 1e-9 * weights.abs().max()


def test_where_float32_gets_no_further_newton_steps_finish_in_float64_and_say_so():
    x, labels = blobs(300, 8, 3, distance=20.0)
    hard, *_ = solve(x, labels, 1e6)
    assert bool(hard.newton)
    assert float(hard.gap) <= 1e-6
    easy, *_ = solve(*blobs(3000, 30, 10), 1.0)
    assert not bool(easy.newton)


def test_too_few_iterations_are_reported_not_hidden():
    x, labels = blobs(300, 20, 5)
    found, *_ = solve(x, labels, 1.0, max_iter=2)
    assert float(found.gap) > 1e-6
    assert int(found.iterations) == 2


def test_from_the_optimum_it_takes_next_to_no_iterations():
    x, labels = blobs(3000, 30, 10, distance=0.3)
    cold, *_ = solve(x, labels, 10.0)
    warm, *_ = solve(x, labels, 10.0, start=cold.weights)
    assert int(warm.iterations) <= 2 < int(cold.iterations)


def test_labels_that_features_know_nothing_of_give_the_prior():
    labels = np.array([0] * 30 + [1] * 60 + [2] * 10)
    found, _, _, coef, intercept = solve(np.ones((100, 3), np.float32), labels, 1.0)
    assert np.abs(coef).max() == 0
    prior = np.exp(intercept[0]) / np.exp(intercept[0]).sum()
    assert np.allclose(prior, [0.3, 0.6, 0.1], atol=1e-6)
    assert float(found.gap) <= 1e-6


def test_sizes_of_groups_and_blocks():
    assert [default_group(classes) for classes in (2, 10, 20, 100)] == [5, 5, 2, 1]
    assert [leading_axes(axes) for axes in (3, 65, 769)] == [3, 23, 78]
