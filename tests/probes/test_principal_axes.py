"""Principal axes against scikit-learn's scaler and PCA."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from probebench.errors import FeatureError
from probebench.probes import principal_axes as module
from probebench.probes.principal_axes import Selected, principal_axes, statistics

RNG = np.random.default_rng(0)


def features(n, width, dtype=np.float32):
    return (RNG.normal(size=(n, width)) @ RNG.normal(size=(width, width)) + RNG.normal(size=width)).astype(dtype)


# More rows than features, as many, and fewer: the last two take the dual form.
SHAPES = [(200, 12), (12, 12), (9, 30)]


@pytest.mark.parametrize("shape", SHAPES)
def test_axes_are_those_of_pca_on_standardised_features(shape):
    x = features(*shape)
    found = principal_axes([x], dtype=torch.float64)
    z = StandardScaler().fit_transform(x.astype(np.float64))
    pca = PCA().fit(z)
    rank = int((pca.explained_variance_ > 1e-10).sum())
    # PCA divides by n - 1.
    assert np.allclose(found.variance[0, :rank], pca.explained_variance_[:rank] * (len(x) - 1) / len(x))
    assert np.allclose(np.abs((found.axes[0].numpy()[:, :rank] * pca.components_[:rank].T).sum(axis=0)), 1)
    assert torch.allclose(found.rows[0, :, 0], torch.ones(len(x), dtype=torch.float64))
    # Nothing is lost: the rows on the axes are the standardised features.
    assert np.allclose(found.rows[0, :, 1:] @ found.axes[0].T, z)


@pytest.mark.parametrize("shape", SHAPES)
def test_axes_are_orthonormal_and_rows_orthogonal_under_their_weights(shape):
    weights = RNG.uniform(0.1, 3, shape[0])
    found = principal_axes([features(*shape)], weights=weights, dtype=torch.float64)
    size = found.axes.shape[2]
    assert torch.allclose(found.axes[0].T @ found.axes[0], torch.eye(size, dtype=torch.float64), atol=1e-9)
    z, share = found.rows[0, :, 1:], torch.from_numpy(weights / weights.sum())
    assert torch.allclose(z.T @ (share[:, None] * z), torch.diag(found.variance[0]), atol=1e-9)
    assert torch.allclose(share @ z, torch.zeros(size, dtype=torch.float64), atol=1e-12)


def test_statistics_are_the_scalers_also_of_constant_features_and_under_weights():
    x = features(100, 6)
    x[:, 2] = 0.1  # not exact in binary: its computed deviation is not zero
    x[:, 4] = 1e8
    weights = RNG.uniform(0, 3, 100)
    for w in (None, weights):
        scaler = StandardScaler().fit(x.astype(np.float64), sample_weight=w)
        mean, scale = statistics(x, w)
        assert np.allclose(mean, scaler.mean_)
        assert np.allclose(scale, scaler.scale_)
    assert scale[2] == scale[4] == 1


def test_a_huge_mean_costs_no_digits():
    # In float32 sums a deviation of 1 beside a mean of 1e6 would be lost.
    x = (1e6 + np.arange(10000) % 3).astype(np.float32)[:, None]
    mean, scale = statistics(x)
    assert mean[0] == pytest.approx(1e6 + 0.9999, abs=1e-9)
    assert scale[0] == pytest.approx(np.std(np.arange(10000) % 3), rel=1e-9)


def test_other_features_are_transformed_by_the_training_statistics():
    train, test = features(100, 8), features(40, 8) + 3
    found = principal_axes([train], dtype=torch.float64)
    z = StandardScaler().fit(train.astype(np.float64)).transform(test.astype(np.float64))
    assert np.allclose(found.transform([test])[0, :, 1:] @ found.axes[0].T, z)


@pytest.mark.parametrize("shape", SHAPES)
def test_coefficients_and_weights_are_each_others_reverse(shape):
    x = features(*shape)
    found = principal_axes([x], dtype=torch.float64)
    size = found.rows.shape[2]
    weights = torch.from_numpy(RNG.normal(size=(1, 2, 3, size)))
    coef, intercept = found.coefficients(weights)
    logits = found.rows[0] @ weights[0, 1].T
    assert np.allclose(x @ coef[0, 1].numpy().T + intercept[0, 1].numpy(), logits)
    assert torch.allclose(found.weights(coef, intercept), weights)


def test_predictions_are_places_of_the_largest_logit_and_ties_go_to_the_first(monkeypatch):
    x, other = features(50, 4), features(30, 4)
    found = principal_axes([x], dtype=torch.float64)
    weights = torch.from_numpy(RNG.normal(size=(1, 2, 3, 5)))
    weights[:, :, 2] = weights[:, :, 1]
    expected = (found.transform([other]) @ weights[0, 1].T)[0].argmax(dim=1).numpy()
    predicted = found.predict([other], weights)
    assert predicted.shape == (1, 2, 30)
    assert np.array_equal(predicted[0, 1], expected)
    assert set(np.unique(predicted)) == {0, 1}
    monkeypatch.setattr(module, "CHUNK_VALUES", 7)  # a row at a time
    assert np.array_equal(found.predict([other], weights), predicted)


def test_without_standardisation_only_the_mean_goes():
    x = features(60, 5)
    found = principal_axes([x], standardize=False, dtype=torch.float64)
    assert torch.equal(found.scale, torch.ones(1, 5, dtype=torch.float64))
    assert np.allclose(found.rows[0, :, 1:] @ found.axes[0].T, x - x.mean(axis=0), atol=1e-5)


def test_taps_of_different_rank_are_filled_up():
    low = features(6, 20)
    low[:, 3:] = 0
    found = principal_axes([features(6, 20), low], dtype=torch.float64)
    assert found.rows.shape == (2, 6, 1 + 5)
    assert float(found.rows[1, :, 4:].abs().max()) == 0
    z = StandardScaler().fit_transform(low.astype(np.float64))
    assert np.allclose(found.rows[1, :, 1:] @ found.axes[1].T, z)


def test_selected_rows_are_read_in_chunks_from_a_file(tmp_path, monkeypatch):
    x = features(100, 8)
    np.save(tmp_path / "x.npy", x)
    index = np.flatnonzero(RNG.uniform(size=100) < 0.6)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    whole = principal_axes([x[index]], dtype=torch.float64)
    monkeypatch.setattr(module, "CHUNK_VALUES", 100)
    chunked = principal_axes([Selected(mapped, index)], dtype=torch.float64)
    assert torch.allclose(whole.variance, chunked.variance)
    assert torch.allclose(whole.rows[..., 1:].abs(), chunked.rows[..., 1:].abs(), atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused_by_column(bad, shape):
    x = features(*shape)
    x[3, 2] = bad
    with pytest.raises(FeatureError, match=r"NaN or infinity \(column 2\)"):
        principal_axes([x])
    with np.errstate(over="ignore"), pytest.raises(FeatureError, match=r"too large to square \(column 2\)"):
        principal_axes([np.where(np.isfinite(x), x, np.float64(1e200))])


def test_features_that_are_constant_but_for_rounding_have_axes():
    # Less their mean they are about 1e-16, whose squares float32 holds with next to no digits.
    x = np.tile(np.random.default_rng(12).standard_normal(64).astype(np.float32), (78, 1))
    found = principal_axes([x])
    for values in (found.rows, found.axes, found.variance):
        assert torch.isfinite(values).all()
    assert found.rows[0, :, 1:].abs().max() < 1e-12
