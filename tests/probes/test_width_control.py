"""Leading principal components against scikit-learn, and what the control measures with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probebench.catalog.protocols import DEFAULT
from probebench.catalog.taps import Tap
from probebench.errors import FeatureError
from probebench.probes.evaluate import TrainingSet, probe_taps
from probebench.probes.width_control import leading_components, needs_control, project_wide_taps

ACT, RC2 = Tap(1, "act"), Tap(1, "rc2")
RNG = np.random.default_rng(0)


def features(n=300, width=24, rank=24):
    mixed = RNG.normal(size=(n, rank)) @ RNG.normal(size=(rank, width)) + 5
    return mixed.astype(np.float32)


@pytest.mark.parametrize("n", [300, 20], ids=["more rows than features", "fewer"])
@pytest.mark.parametrize("standardize", [True, False])
def test_they_are_those_of_scikit_learn(n, standardize):
    values = features(n + 50)
    train, test = values[:n], values[n:]
    found = leading_components(ACT, train, test, 8, standardize=standardize, device="cpu")
    steps = [StandardScaler(with_std=standardize), PCA(8, svd_solver="full")]
    reference = make_pipeline(*steps).fit(train.astype(np.float64))
    for mine, theirs in zip(found, map(reference.transform, (train, test)), strict=True):
        signs = np.sign((mine * theirs).sum(axis=0))
        assert mine.dtype == np.float32
        assert np.allclose(mine * signs, theirs, atol=2e-3)


def test_features_that_have_no_more_dimensions_are_left_alone():
    values = features(rank=8)
    assert leading_components(ACT, values, values, 8, standardize=True, device="cpu") is None
    assert leading_components(ACT, values, values, 7, standardize=True, device="cpu") is not None


def test_features_that_are_not_finite_are_named():
    values = features()
    values[3, 4] = np.nan
    with pytest.raises(FeatureError, match=r"principal components at L01-act: .*NaN"):
        leading_components(ACT, values, values, 8, standardize=True, device="cpu")


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["host", "device"])
def test_all_taps_that_lose_something_are_narrowed_where_they_are(jobs, kind):
    other = Tap(2, "act")
    arrays = {RC2: features(width=8), other: features(), ACT: features(), Tap(2, "fc2"): features(rank=6)}
    arrays = {tap: kind(values) for tap, values in arrays.items()}
    seen, unseen = project_wide_taps(arrays, arrays, 8, DEFAULT, "cpu", jobs)
    assert list(seen) == list(unseen) == [other, ACT]
    for tap in seen:
        expected = leading_components(tap, arrays[tap], arrays[tap], 8, standardize=True, device="cpu")
        for mine, theirs in zip((seen[tap], unseen[tap]), expected, strict=True):
            assert type(mine) is type(arrays[tap])
            np.testing.assert_allclose(mine, theirs, atol=1e-4)
    assert project_wide_taps(arrays, arrays, None, DEFAULT, "cpu", jobs) is None
    assert project_wide_taps({RC2: arrays[RC2]}, {RC2: arrays[RC2]}, 8, DEFAULT, "cpu", jobs) is None


def test_hidden_pre_activations_lose_nothing_unless_their_rows_are_scaled():
    fc1, scaled = Tap(1, "fc1"), replace(DEFAULT, feature_norm="l2")
    assert not needs_control(fc1, 24, 8, 300, DEFAULT)
    assert needs_control(fc1, 24, 8, 300, scaled)
    assert needs_control(ACT, 24, 8, 300, DEFAULT)
    assert not needs_control(ACT, 24, 8, 8, DEFAULT)  # no more components than rows
    assert not needs_control(ACT, 24, None, 300, DEFAULT)
    # Why: 24 features that a layer makes of 8 have 8 dimensions.
    made = (features(width=8) @ RNG.normal(size=(8, 24)) + RNG.normal(size=24)).astype(np.float32)
    assert leading_components(fc1, made, made, 8, standardize=True, device="cpu") is None
    length = np.linalg.norm(made, axis=1, keepdims=True)
    assert leading_components(fc1, made / length, made / length, 8, standardize=True, device="cpu") is not None


def test_the_control_is_the_probe_on_the_leading_components():
    labels = RNG.integers(0, 3, 600)
    wide = features(600)
    wide[:, :12] += 2 * np.eye(3, 12)[labels]  # the classes differ along directions of little variance
    narrow = wide[:, :8].copy()
    protocol = replace(DEFAULT, path=(1.0,), held_out=0.2)
    held_out = np.arange(400) % 5 == 0
    sets = [TrainingSet(None, labels[:400], held_out)]
    train, test = ({ACT: wide[part], RC2: narrow[part]} for part in (slice(400), slice(400, None)))
    found = {
        result.tap: result
        for result in probe_taps(train, test, sets, labels[400:], protocol, narrow=8, device="cpu", jobs=1)
    }
    assert found[RC2].width_matched is None
    matched = found[ACT].width_matched
    reference = make_pipeline(StandardScaler(), PCA(8), LogisticRegression(C=1, tol=1e-8, max_iter=10_000))
    assert matched.width == 8
    assert matched.accuracy.value == reference.fit(wide[:400], labels[:400]).score(wide[400:], labels[400:])
    assert matched.accuracy.value < found[ACT].accuracy


def test_a_wide_tap_of_few_dimensions_is_its_own_control():
    labels, wide = RNG.integers(0, 3, 200), features(200, rank=6)
    sets = [TrainingSet(None, labels, np.arange(200) % 5 == 0)]
    (found,) = probe_taps({ACT: wide}, {ACT: wide}, sets, labels, DEFAULT, narrow=8, device="cpu", jobs=1)
    assert found.width_matched.accuracy == found.metrics.accuracy
