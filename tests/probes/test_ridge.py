from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge, RidgeClassifier, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probebench import run_sweep
from probebench.catalog.protocols import DEFAULT
from probebench.catalog.taps import Tap
from probebench.errors import DataError, FeatureError
from probebench.probes import get_probe, ridge
from probebench.probes.principal_axes import principal_axes
from probebench.probes.ridge import RidgeSolution, ridge_path

RNG = np.random.default_rng(0)
ALPHAS = np.array([1e3, 10, 0.3, 1e-2])
RIDGE = replace(DEFAULT, name="ridge@1", probe="ridge_path")
LOO = replace(RIDGE, name="ridge_loo@1", held_out=None)

# More rows than features, fewer, and a spectrum that falls by nine orders of magnitude in variance.
SHAPES = {"tall": (60, 12), "wide": (30, 50), "square": (40, 40), "steep": (80, 30)}


def problem(shape, classes=4):
    n, width = SHAPES[shape]
    labels = np.arange(n) % classes
    x = RNG.normal(size=(n, width)) + 0.7 * RNG.normal(size=(classes, width))[labels]
    if shape == "steep":
        x = (x * np.logspace(0, -4.5, width)) @ np.linalg.qr(RNG.normal(size=(width, width)))[0]
    x[:, 3] = 5.0  # constant
    return x.astype(np.float32), labels


def solve(x, labels, alphas=ALPHAS, weights=None, dtype=torch.float64, **kwargs):
    classes = len(np.unique(labels))
    axes = principal_axes([x], weights=weights, dtype=dtype, **kwargs)
    given = None if weights is None else torch.from_numpy(weights)
    return axes, ridge_path(axes.rows, torch.from_numpy(labels), classes, torch.from_numpy(alphas)[None], given)


def scaler(x, weights=None):
    with np.errstate(invalid="ignore"):  # the variance of the constant column may come out as less than zero
        return StandardScaler().fit(x.astype(np.float64), sample_weight=weights)


def standardised(x, weights=None):
    return scaler(x, weights).transform(x.astype(np.float64))


def signs(labels):
    return np.where(labels[:, None] == np.unique(labels), 1.0, -1.0)


def some_weights(n, weighted):
    return RNG.uniform(0.2, 3, n) if weighted else None


@pytest.mark.parametrize("weighted", [False, True], ids=["uniform", "weighted"])
@pytest.mark.parametrize("shape", SHAPES)
def test_coefficients_are_those_of_scikit_learn(shape, weighted):
    x, labels = problem(shape)
    weights = some_weights(len(x), weighted)
    axes, found = solve(x, labels, weights=weights)
    z = standardised(x, weights)
    scale = scaler(x, weights).scale_
    coef, intercept = (values[0].numpy() for values in axes.coefficients(found.weights))
    for i, alpha in enumerate(ALPHAS):
        # SVD, since the default solver squares the condition number.
        reference = Ridge(alpha=alpha, solver="svd").fit(z, signs(labels), sample_weight=weights)
        np.testing.assert_allclose(coef[i] * scale, reference.coef_, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(x @ coef[i].T + intercept[i], reference.predict(z), rtol=1e-6, atol=1e-7)


def test_two_classes_are_one_column_and_its_negative():
    x, labels = problem("tall", classes=2)
    labels[:10] = 0  # so that the intercept is not zero
    axes, found = solve(x, labels)
    coef, intercept = (values[0].numpy() for values in axes.coefficients(found.weights))
    np.testing.assert_allclose(coef[:, 0], -coef[:, 1], atol=1e-12)
    np.testing.assert_allclose(intercept[:, 0], -intercept[:, 1], atol=1e-12)
    for i, alpha in enumerate(ALPHAS):
        reference = RidgeClassifier(alpha=alpha).fit(standardised(x), labels)
        np.testing.assert_allclose(x @ coef[i, 1] + intercept[i, 1], reference.decision_function(standardised(x)))
        assert np.array_equal(axes.predict([x], found.weights)[0, i], reference.predict(standardised(x)))


def predict_without(z, targets, alphas, weights=None):
    """For each alpha and row, the prediction of a ridge regression on all other rows: (alphas, rows, classes).

    One solution of the normal equations for each row that is left out; the rows of `kept` are their weights.
    """
    n, width = z.shape
    kept = (np.ones(n) if weights is None else weights) * (1 - np.eye(n))
    total = kept.sum(axis=1)
    x, y = kept @ z / total[:, None], kept @ targets / total[:, None]  # means
    squares = np.einsum("rn,ni,nj->rij", kept, z, z, optimize=True) - np.einsum("r,ri,rj->rij", total, x, x)
    products = np.einsum("rn,ni,nc->ric", kept, z, targets, optimize=True) - np.einsum("r,ri,rc->ric", total, x, y)
    coef = np.stack([np.linalg.solve(squares + alpha * np.eye(width), products) for alpha in alphas])
    return np.einsum("ri,aric->arc", z - x, coef) + y


@pytest.mark.parametrize("weighted", [False, True], ids=["uniform", "weighted"])
@pytest.mark.parametrize("shape", SHAPES)
def test_leave_one_out_is_what_leaving_each_row_out_gives(shape, weighted):
    x, labels = problem(shape)
    n = len(x)
    weights = some_weights(n, weighted)
    _, found = solve(x, labels, weights=weights)
    z, targets = standardised(x, weights), signs(labels)
    share = np.full(n, 1 / n) if weights is None else weights / weights.sum()
    predicted = predict_without(z, targets, ALPHAS, weights)
    for i, alpha in enumerate(ALPHAS):  # as scikit-learn predicts one of the rows
        model = Ridge(alpha=alpha, solver="svd")
        model.fit(z[1:], targets[1:], sample_weight=None if weights is None else weights[1:])
        np.testing.assert_allclose(predicted[i, 0], model.predict(z[:1])[0], rtol=1e-6)
    right = (predicted.argmax(axis=2) == labels) @ share
    error = np.square(targets - predicted).mean(axis=2) @ share
    np.testing.assert_allclose(found.loo_accuracy[0], right, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.loo_error[0], error, rtol=1e-6)
    # The cases are not trivial: neither everything nor nothing is right.
    assert 0.3 < found.loo_accuracy[0, 0] < 1


@pytest.mark.parametrize("shape", ["tall", "wide"])
def test_leave_one_out_error_is_that_of_ridge_cv(shape):
    x, labels = problem(shape)
    _, found = solve(x, labels)
    reference = RidgeCV(alphas=ALPHAS, store_cv_results=True).fit(standardised(x), signs(labels))
    np.testing.assert_allclose(found.loo_error[0], reference.cv_results_.mean(axis=(0, 1)), rtol=1e-6)
    assert ALPHAS[found.best("error")[0]] == reference.alpha_


def test_taps_and_their_strengths_do_not_mix():
    x, labels = problem("tall")
    other = problem("tall")[0]
    pair = principal_axes([x, other], dtype=torch.float64)
    alphas = np.stack([ALPHAS, ALPHAS / 3])
    found = ridge_path(pair.rows, torch.from_numpy(labels), 4, torch.from_numpy(alphas))
    for tap, features in enumerate((x, other)):
        _, alone = solve(features, labels, alphas[tap])
        torch.testing.assert_close(found.weights[tap], alone.weights[0])
        torch.testing.assert_close(found.loo_error[tap], alone.loo_error[0])
        assert found.loo_accuracy[tap].tolist() == alone.loo_accuracy[0].tolist()
    assert not torch.allclose(found.loo_error[0], found.loo_error[1])


@pytest.mark.parametrize("weighted", [False, True], ids=["uniform", "weighted"])
def test_chunks_do_not_change_the_result(monkeypatch, weighted):
    x, labels = problem("tall")
    weights = some_weights(len(x), weighted)
    _, whole = solve(x, labels, weights=weights)
    monkeypatch.setattr(ridge, "CHUNK_VALUES", 7 * len(ALPHAS) * 4)
    _, chunked = solve(x, labels, weights=weights)
    torch.testing.assert_close(chunked.weights, whole.weights, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(chunked.loo_error, whole.loo_error, rtol=1e-10, atol=0)
    torch.testing.assert_close(chunked.loo_accuracy, whole.loo_accuracy, rtol=1e-12, atol=0)


def test_float32_rows_give_the_same_where_the_spectrum_is_flat():
    x, labels = problem("tall")
    axes, found = solve(x, labels, dtype=torch.float32)
    assert axes.rows.dtype == torch.float32
    assert found.weights.dtype == torch.float64
    exact_axes, exact = solve(x, labels)
    fitted, wanted = (a.rows[0].double() @ f.weights[0].mT for a, f in ((axes, found), (exact_axes, exact)))
    torch.testing.assert_close(fitted, wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.loo_error, exact.loo_error, rtol=1e-5, atol=0)


def test_the_best_is_the_first_of_equals_by_either_measure():
    accuracy = torch.tensor([[0.5, 0.7, 0.7], [0.2, 0.2, 0.1]])
    error = torch.tensor([[0.3, 0.2, 0.1], [0.4, 0.3, 0.3]])
    solution = RidgeSolution(torch.zeros(2, 3, 2, 2), accuracy, error)
    assert solution.best().tolist() == [1, 0]
    assert solution.best("error").tolist() == [2, 1]


def test_rows_that_decide_their_own_fit_give_no_nan():
    # Both hat values are exactly one: 1/2 for the intercept, 1/2 for the axis.
    rows = torch.tensor([[[1.0, 1.0], [1.0, -1.0]]])
    found = ridge_path(rows, torch.tensor([0, 1]), 2, torch.tensor([[1e-30]], dtype=torch.float64))
    assert torch.isfinite(found.loo_error).all()
    assert torch.isfinite(found.weights).all()


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_strengths_that_are_not_positive_are_refused(alpha):
    rows = torch.ones(1, 4, 2)
    with pytest.raises(ValueError, match="alpha must be positive"):
        ridge_path(rows, torch.tensor([0, 1, 0, 1]), 2, torch.tensor([[1.0, alpha]], dtype=torch.float64))


# The probe: two taps of one width, one wider than there are rows, labels with gaps.
CLASSES = np.array([1, 4, 6])
LABELS = CLASSES[RNG.integers(0, 3, 90)]
TEST_LABELS = CLASSES[RNG.integers(0, 3, 70)]
HELD_OUT = np.arange(90) % 4 == 0
MEANS = {Tap(1, "act"): 120, Tap(1, "rc2"): 8, Tap(2, "rc2"): 8}
MEANS = {tap: 0.4 * RNG.normal(size=(3, width)) for tap, width in MEANS.items()}


def features(labels):
    places = np.searchsorted(CLASSES, labels)
    return {
        tap: (RNG.normal(size=(len(labels), means.shape[1])) + means[places]).astype(np.float32)
        for tap, means in MEANS.items()
    }


TRAIN, TEST = features(LABELS), features(TEST_LABELS)


def by_hand(tap, C, rows, protocol, others):
    """Fit on rows of train and predict others, with scikit-learn."""
    x = TRAIN[tap][rows].astype(np.float64)
    steps = StandardScaler(with_std=protocol.standardize), RidgeClassifier(alpha=1 / C, solver="svd")
    return make_pipeline(*steps).fit(x, LABELS[rows]).predict(others.astype(np.float64))


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("protocol", [RIDGE, replace(RIDGE, standardize=False)], ids=["standardised", "raw"])
def test_the_probe_chooses_on_the_held_out_part_and_fits_again(protocol, jobs):
    fits = dict(get_probe("ridge_path")(TRAIN, LABELS, TEST, HELD_OUT, protocol, "cpu", jobs))
    assert fits.keys() == TRAIN.keys()
    for tap, fit in fits.items():
        scores = [
            np.mean(by_hand(tap, C, ~HELD_OUT, protocol, TRAIN[tap][HELD_OUT]) == LABELS[HELD_OUT])
            for C in protocol.path
        ]
        best = int(np.argmax(scores))
        assert protocol.path[best] == fit.C
        assert fit.held_out_accuracy == pytest.approx(scores[best])
        assert np.array_equal(fit.predictions, by_hand(tap, fit.C, slice(None), protocol, TEST[tap]))
        assert fit.predictions.dtype == np.int64
        assert (fit.gap, fit.iterations) == (0.0, 0)
        assert fit.seconds > 0
        assert scores[best] > min(scores)  # there was something to choose


def test_the_probe_chooses_by_leave_one_out_if_nothing_is_held_out():
    protocol = replace(LOO, path=(1e-3, 1e-2, 1e-1, 10.0))
    fits = dict(get_probe("ridge_path")(TRAIN, LABELS, TEST, None, protocol, "cpu", 1))
    for tap, fit in fits.items():
        predicted = predict_without(standardised(TRAIN[tap]), signs(LABELS), 1 / np.array(protocol.path))
        scores = (CLASSES[predicted.argmax(axis=2)] == LABELS).mean(axis=1)
        best = int(np.argmax(scores))
        assert protocol.path[best] == fit.C
        assert fit.held_out_accuracy == pytest.approx(scores[best])
        assert np.array_equal(fit.predictions, by_hand(tap, fit.C, slice(None), protocol, TEST[tap]))
        assert scores[best] > min(scores)
    # A mask that holds nothing out is as good as none.
    for tap, fit in get_probe("ridge_path")(TRAIN, LABELS, TEST, np.zeros(90, dtype=bool), protocol, "cpu", 1):
        assert (fit.C, fit.held_out_accuracy) == (fits[tap].C, fits[tap].held_out_accuracy)


def test_the_probe_is_exact_also_where_float32_is_not():
    x, labels = problem("steep", classes=2)
    # Noise makes the fit depend on the axes of least variance.
    labels = RNG.permutation(labels)
    tap, protocol = Tap(1, "act"), replace(LOO, path=(1e7,), standardize=False)
    ((_, fit),) = get_probe("ridge_path")({tap: x}, labels, {tap: x}, None, protocol, "cpu", 1)
    reference = RidgeClassifier(alpha=1e-7, solver="svd").fit(x.astype(np.float64), labels)
    assert np.array_equal(fit.predictions, reference.predict(x.astype(np.float64)))


def test_bad_input_is_refused_by_name(monkeypatch):
    def run(train, labels, held_out=HELD_OUT):
        return list(get_probe("ridge_path")(train, labels, TEST, held_out, RIDGE, "cpu", 1))

    bad = {tap: values.copy() for tap, values in TRAIN.items()}
    bad[Tap(2, "rc2")][5, 3] = np.inf
    with pytest.raises(FeatureError, match=r"L02-rc2.*NaN or infinity"):
        run(bad, LABELS)
    with pytest.raises(DataError, match="at least two classes"):
        run(TRAIN, np.zeros(90, dtype=np.int64))
    with pytest.raises(DataError, match="at least two classes"):
        run(TRAIN, LABELS, held_out=LABELS != 1)
    monkeypatch.setattr(ridge, "usable_memory", lambda device: 800)
    with pytest.raises(FeatureError, match=r"90 x 120 features with 3 classes takes .* GB"):
        run(TRAIN, LABELS)


def test_memory_bounds_how_many_taps_are_solved_at_once():
    def taps(budget, device="cuda"):
        return ridge.ridge_taps(5000, 768, 10, 10, budget, device)

    assert taps(1 << 40) == 64
    assert 1 <= taps(1 << 30) < taps(8 << 30) < 64
    assert taps(8 << 30, "cpu") == 1  # large enough alone


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("held_out", [None, HELD_OUT], ids=["loo", "held_out"])
def test_a_gpu_gives_the_fits_of_the_cpu(held_out):
    fits = {
        device: dict(get_probe("ridge_path")(TRAIN, LABELS, TEST, held_out, RIDGE, device, 1))
        for device in ("cpu", "cuda")
    }
    for tap, fit in fits["cpu"].items():
        assert fits["cuda"][tap].C == fit.C
        assert np.array_equal(fits["cuda"][tap].predictions, fit.predictions)


def test_a_sweep_with_it_is_far_above_chance():
    taps = [Tap(6, "act"), Tap("final", "final")]
    found = run_sweep("glyphvit", "digits", protocol=RIDGE, taps=taps, jobs=1)
    for tap in taps:
        result = found.taps[tap]
        assert result.C in DEFAULT.path
        assert result.gap == 0
        assert result.accuracy > 0.7
        assert abs(result.held_out_accuracy - result.accuracy) < 0.08
