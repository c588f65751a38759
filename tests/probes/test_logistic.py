"""The probe of default@2: the choice of C, the fit on all of train, the width control."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from probebench.catalog.protocols import DEFAULT
from probebench.catalog.taps import Tap
from probebench.probes import get_probe
from probebench.probes.choice import choose, is_settled
from probebench.probes.logistic import fit, fit_matched
from probebench.probes.width_control import leading_components
from tests.probes.logistic_data import HELD_OUT, TAPS, data, exact, run


def expected_choice(x, labels):
    """Choose C as the protocol says, with scikit-learn's fits of features that all of train standardises."""
    z = StandardScaler().fit_transform(x)
    correct = []
    for C in DEFAULT.path:
        model = LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit(z[~HELD_OUT], labels[~HELD_OUT])
        correct.append(int((model.predict(z[HELD_OUT]) == labels[HELD_OUT]).sum()))
        if len(correct) >= DEFAULT.path_least and is_settled(np.array([correct]), DEFAULT.patience)[0]:
            return int(choose(np.array([correct]), ended=False)[0]), correct
    return int(choose(np.array([correct]), ended=True)[0]), correct


@pytest.mark.parametrize("classes", [2, 4])
def test_c_is_chosen_by_the_rule_and_the_fit_is_on_all_of_train(classes):
    train, labels, test = data(classes)
    fits = run(train, labels, test, DEFAULT)
    for tap, x in train.items():
        best, correct = expected_choice(x, labels)
        assert DEFAULT.path[best] == fits[tap].C
        assert len(correct) < len(DEFAULT.path)  # the path has ended early
        assert fits[tap].held_out_accuracy == pytest.approx(correct[best] / HELD_OUT.sum(), abs=1 / HELD_OUT.sum())
        reference = exact(DEFAULT.path[best]).fit(x, labels).predict(test[tap])
        assert (fits[tap].predictions == reference).mean() >= 0.99
        assert 0 <= fits[tap].gap <= 1e-6


def test_a_path_does_not_end_where_all_strengths_are_alike_weak():
    """On so strong a penalty, all held-out images are said to be of the largest class."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), [60, 50, 50, 40])
    x = (np.eye(4)[labels] @ rng.normal(size=(4, 12)) + 0.3 * rng.normal(size=(200, 12))).astype(np.float32)
    held_out = np.arange(200) % 5 == 0
    tap = Tap(1, "act")
    path = tuple(10.0**exponent for exponent in (-12, -11, -10, -9, -8, -2, 0))
    found = {
        least: dict(fit({tap: x}, labels, {tap: x}, held_out, replace(DEFAULT, path=path, path_least=least), "cpu", 1))
        for least in (None, 7)
    }
    assert (found[None][tap].predictions == labels).mean() < 0.5
    assert (found[7][tap].predictions == labels).mean() > 0.9


def test_taps_of_a_batch_stop_by_themselves():
    train, labels, test = data()
    train[Tap(1, "rc2")] = np.eye(4, 12, dtype=np.float32)[labels] + 0.01 * train[Tap(1, "rc2")]  # weak and separable
    together = run(train, labels, test, DEFAULT)
    for tap in TAPS:
        alone = run({tap: train[tap]}, labels, {tap: test[tap]}, DEFAULT)[tap]
        assert alone.C == together[tap].C
        assert np.array_equal(alone.predictions, together[tap].predictions)


def test_the_control_is_the_probe_of_the_leading_components():
    train, labels, test = data()
    act = Tap(1, "act")
    found = dict(fit_matched(train, labels, test, HELD_OUT, DEFAULT, "cpu", 1, narrow=12))
    assert [tap for tap, both in found.items() if both.narrow] == [act]
    seen, unseen = leading_components(act, train[act], test[act], 12, standardize=True, device="cpu")
    plain = replace(DEFAULT, name="plain@1", standardize=False)
    control = run({act: seen}, labels, {act: unseen}, plain)[act]
    assert found[act].narrow.C == control.C
    assert np.array_equal(found[act].narrow.predictions, control.predictions)


def test_no_control_of_features_without_variance_outside_it():
    train, labels, test = data()
    act = Tap(1, "act")
    for part in (train, test):
        part[act] = np.tile(part[Tap(1, "rc2")], 3)
    found = dict(fit_matched(train, labels, test, HELD_OUT, DEFAULT, "cpu", 1, narrow=12))
    assert all(both.narrow is None for both in found.values())


def test_it_is_the_probe_of_the_default_protocol():
    assert get_probe(DEFAULT.probe) is fit


@pytest.mark.parametrize(("n", "width"), [(300, 12), (300, 400)], ids=["primal", "dual"])
def test_noise_of_rounding_changes_nothing(n, width):
    rng = np.random.default_rng(1)
    labels = np.arange(n) % 4
    x = (rng.normal(size=(n, width)) + rng.normal(size=(4, width))[labels] / 3).astype(np.float32)
    tap = Tap(1, "rc2")
    clean = run({tap: x}, labels, {tap: x}, DEFAULT)[tap]
    for seed in range(3):
        noise = 1e-6 * np.random.default_rng(seed).normal(size=x.shape)
        moved = run({tap: (x + noise).astype(np.float32)}, labels, {tap: x}, DEFAULT)[tap]
        assert moved.C == clean.C
        assert np.array_equal(moved.predictions, clean.predictions)
