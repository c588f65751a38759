"""The probe of default@2: the choice of C, the fit on all of train, the width control."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probebench.catalog.protocols import DEFAULT
from probebench.catalog.taps import Tap
from probebench.errors import DataError, FeatureError
from probebench.probes import get_probe
from probebench.probes.choice import choose, is_settled
from probebench.probes.logistic import fit, fit_matched
from probebench.probes.width_control import leading_components

TAPS = {Tap(1, "rc2"): 12, Tap(2, "rc2"): 12, Tap(1, "act"): 40}
HELD_OUT = np.arange(300) % 5 == 4


def data(classes=4, n=300, m=120, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n + m) % classes
    rng.shuffle(labels)
    values = {
        tap: (rng.normal(size=(n + m, width)) + 0.5 * rng.normal(size=(classes, width))[labels]).astype(np.float32)
        for tap, width in TAPS.items()
    }
    train, test = ({tap: x[part] for tap, x in values.items()} for part in (slice(n), slice(n, None)))
    return train, labels[:n], test


def run(train, labels, test, held_out=HELD_OUT, protocol=DEFAULT, jobs=1):
    return dict(fit(train, labels, test, held_out, protocol, "cpu", jobs))


def exact(C):
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-10, max_iter=10_000))


def expected_choice(x, labels):
    """Choose C as the protocol says, with scikit-learn's fits of features that all of train standardises."""
    z = StandardScaler().fit_transform(x)
    correct = []
    for C in DEFAULT.path:
        model = LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit(z[~HELD_OUT], labels[~HELD_OUT])
        correct.append(int((model.predict(z[HELD_OUT]) == labels[HELD_OUT]).sum()))
        if is_settled(np.array([correct]), DEFAULT.patience)[0]:
            return int(choose(np.array([correct]), ended=False)[0]), correct
    return int(choose(np.array([correct]), ended=True)[0]), correct


@pytest.mark.parametrize("classes", [2, 4])
def test_c_is_chosen_by_the_rule_and_the_fit_is_on_all_of_train(classes):
    train, labels, test = data(classes)
    fits = run(train, labels, test)
    for tap, x in train.items():
        best, correct = expected_choice(x, labels)
        assert DEFAULT.path[best] == fits[tap].C
        assert len(correct) < len(DEFAULT.path)  # the path has ended early
        assert fits[tap].held_out_accuracy == pytest.approx(correct[best] / HELD_OUT.sum(), abs=1 / HELD_OUT.sum())
        reference = exact(DEFAULT.path[best]).fit(x, labels).predict(test[tap])
        assert (fits[tap].predictions == reference).mean() >= 0.99
        assert 0 <= fits[tap].gap <= 1e-6


def test_taps_of_a_batch_stop_by_themselves():
    train, labels, test = data()
    train[Tap(1, "rc2")] = np.eye(4, 12, dtype=np.float32)[labels] + 0.01 * train[Tap(1, "rc2")]  # weak and separable
    together = run(train, labels, test)
    for tap in TAPS:
        alone = run({tap: train[tap]}, labels, {tap: test[tap]})[tap]
        assert alone.C == together[tap].C
        assert np.array_equal(alone.predictions, together[tap].predictions)


def test_the_control_is_the_probe_of_the_leading_components():
    train, labels, test = data()
    act = Tap(1, "act")
    found = dict(fit_matched(train, labels, test, HELD_OUT, DEFAULT, "cpu", 1, narrow=12))
    assert [tap for tap, both in found.items() if both.narrow] == [act]
    seen, unseen = leading_components(act, train[act], test[act], 12, standardize=True, device="cpu")
    plain = replace(DEFAULT, name="plain@1", standardize=False)
    control = run({act: seen}, labels, {act: unseen}, protocol=plain)[act]
    assert found[act].narrow.C == control.C
    assert np.array_equal(found[act].narrow.predictions, control.predictions)


def test_no_control_of_features_without_variance_outside_it():
    train, labels, test = data()
    act = Tap(1, "act")
    for part in (train, test):
        part[act] = np.tile(part[Tap(1, "rc2")], 3)
    found = dict(fit_matched(train, labels, test, HELD_OUT, DEFAULT, "cpu", 1, narrow=12))
    assert all(both.narrow is None for both in found.values())


def test_equal_scores_go_to_the_strongest_regularisation():
    train, labels, test = data()
    alike = {tap: np.zeros_like(x) for tap, x in train.items()}
    fits = run(alike, labels, {tap: np.zeros_like(x) for tap, x in test.items()})
    assert {found.C for found in fits.values()} == {DEFAULT.path[0]}


def test_results_do_not_depend_on_the_jobs():
    train, labels, test = data()
    one, two = run(train, labels, test), run(train, labels, test, jobs=2)
    assert set(one) == set(two) == set(TAPS)
    for tap in TAPS:
        assert np.array_equal(one[tap].predictions, two[tap].predictions)
        assert (one[tap].C, one[tap].iterations, one[tap].gap) == (two[tap].C, two[tap].iterations, two[tap].gap)


def test_it_is_the_probe_of_the_default_protocol():
    assert get_probe(DEFAULT.probe) is fit


def test_a_class_that_is_only_held_out_is_learned_in_the_last_fit():
    train, labels, test = data()
    labels = np.where(HELD_OUT & (labels == 3), 3, labels % 3)
    predicted = np.concatenate([found.predictions for found in run(train, labels, test).values()])
    assert 3 in predicted


def test_class_numbers_may_have_holes():
    train, labels, test = data()
    gaps = run(train, labels, test)
    spread = run(train, labels * 7 + 2, test)
    for tap in TAPS:
        assert np.array_equal(gaps[tap].predictions * 7 + 2, spread[tap].predictions)


def test_one_class_is_refused():
    train, labels, test = data()
    with pytest.raises(DataError, match="at least two classes"):
        run(train, np.zeros_like(labels), test)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused_by_tap(bad, jobs):
    train, labels, test = data()
    train[Tap(1, "act")][7, 3] = bad
    with pytest.raises(FeatureError, match=r"probe at L01-act: .*NaN or infinity \(column 3\)"):
        run(train, labels, test, jobs=jobs)


@pytest.mark.parametrize(("n", "width"), [(300, 12), (300, 400)], ids=["primal", "dual"])
def test_noise_of_rounding_changes_nothing(n, width):
    rng = np.random.default_rng(1)
    labels = np.arange(n) % 4
    x = (rng.normal(size=(n, width)) + rng.normal(size=(4, width))[labels] / 3).astype(np.float32)
    tap = Tap(1, "rc2")
    clean = run({tap: x}, labels, {tap: x})[tap]
    for seed in range(3):
        noise = 1e-6 * np.random.default_rng(seed).normal(size=x.shape)
        moved = run({tap: (x + noise).astype(np.float32)}, labels, {tap: x})[tap]
        assert moved.C == clean.C
        assert np.array_equal(moved.predictions, clean.predictions)


def test_without_held_out_images_the_strongest_strength_stands_alone():
    train, labels, test = data()
    alone = replace(DEFAULT, name="alone@1", path=(1.0,))
    found = run(train, labels, test, np.zeros(300, dtype=bool), alone)[Tap(1, "rc2")]
    assert (found.C, found.held_out_accuracy) == (1.0, None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_gives_the_fits_of_the_cpu():
    train, labels, test = data()
    cpu, gpu = (dict(fit(train, labels, test, HELD_OUT, DEFAULT, device, 1)) for device in ("cpu", "cuda"))
    for tap in TAPS:
        assert gpu[tap].gap <= 1e-6
        assert gpu[tap].C == cpu[tap].C
        assert (gpu[tap].predictions == cpu[tap].predictions).mean() >= 0.99
