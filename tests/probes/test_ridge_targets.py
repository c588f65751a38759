"""Ridge probes of real-valued targets, and of several labels an image, against scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probebench.catalog.protocols import DEFAULT
from probebench.catalog.taps import Tap
from probebench.probes.choice import choose
from probebench.probes.logistic import fit_matched
from probebench.probes.rows import in_steps
from probebench.probes.width_control import leading_components
from tests.probes.logistic_data import HELD_OUT, TAPS, run


def targets_data(targets=2, n=300, m=120):
    rng = np.random.default_rng(0)
    train, test, hidden = {}, {}, rng.normal(size=(n + m, 8))
    for tap, width in TAPS.items():
        x = (hidden @ rng.normal(size=(8, width)) + rng.normal(size=(n + m, width))).astype(np.float32)
        train[tap], test[tap] = x[:n], x[n:]
    values = 50 + 10 * (hidden @ rng.normal(size=(8, targets)) + 0.5 * rng.normal(size=(n + m, targets)))
    return train, values[:n], test, values[n:]


@pytest.mark.parametrize("probe", ["logistic", "ridge_path"])
def test_real_targets_are_ridge_regression_with_alpha_chosen_by_r2(probe):
    train, targets, test, _ = targets_data()
    protocol = replace(DEFAULT, probe=probe)
    fits = run(train, targets, test, protocol)
    for tap, x in train.items():
        z = StandardScaler().fit_transform(x)
        scores = [
            r2_score(targets[HELD_OUT], Ridge(alpha=1 / C).fit(z[~HELD_OUT], targets[~HELD_OUT]).predict(z[HELD_OUT]))
            for C in DEFAULT.path
        ]
        best = int(choose(in_steps(np.array([scores])), ended=True)[0])
        assert DEFAULT.path[best] == fits[tap].C
        assert fits[tap].held_out_accuracy == pytest.approx(scores[best], abs=1e-5)
        reference = make_pipeline(StandardScaler(), Ridge(alpha=1 / fits[tap].C)).fit(x, targets).predict(test[tap])
        assert fits[tap].scores == pytest.approx(reference, abs=1e-3)
        assert fits[tap].gap == 0


def test_real_targets_have_the_width_control():
    train, targets, test, truth = targets_data(1)
    act = Tap(1, "act")
    found = dict(fit_matched(train, targets, test, HELD_OUT, DEFAULT, "cpu", 1, narrow=12))
    assert [tap for tap, both in found.items() if both.narrow] == [act]
    seen, unseen = leading_components(act, train[act], test[act], 12, standardize=True, device="cpu")
    control = run({act: seen}, targets, {act: unseen}, replace(DEFAULT, standardize=False))[act]
    assert found[act].narrow.C == control.C
    assert found[act].narrow.scores == pytest.approx(control.scores, abs=1e-2)
    assert r2_score(truth, found[act].narrow.scores) > 0.5


def test_ridge_takes_labels_as_signs():
    train, targets, test, _ = targets_data(3)
    labels = (targets > 50).astype(np.int8)
    labels[::7] = -1
    tap = Tap(1, "rc2")
    found = run({tap: train[tap]}, labels, {tap: test[tap]}, replace(DEFAULT, probe="ridge_path"))[tap]
    signs = np.where(labels < 0, 0, 2 * labels - 1)
    model = make_pipeline(StandardScaler(), Ridge(alpha=1 / found.C)).fit(train[tap], signs)
    assert found.scores == pytest.approx(model.predict(test[tap]), abs=1e-4)
    assert 0.5 < found.held_out_accuracy <= 1


def test_a_mean_far_from_zero_costs_no_digits():
    train, targets, test, truth = targets_data(1)
    tap = Tap(1, "rc2")
    near = run({tap: train[tap]}, targets, {tap: test[tap]}, DEFAULT)[tap]
    far = run({tap: train[tap]}, targets + 1.7e9, {tap: test[tap]}, DEFAULT)[tap]
    assert far.C == near.C
    assert far.scores - 1.7e9 == pytest.approx(near.scores, abs=1e-5)
    assert r2_score(truth + 1.7e9, far.scores) == pytest.approx(r2_score(truth, near.scores))
