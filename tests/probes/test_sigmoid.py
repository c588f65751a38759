"""Several labels an image: the solver against scikit-learn, the choice of C, the fit on all of train, the control."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from probebench.catalog.protocols import DEFAULT
from probebench.catalog.taps import Tap
from probebench.probes.choice import choose, is_settled
from probebench.probes.lbfgs import solve_labels
from probebench.probes.logistic import fit_matched
from probebench.probes.principal_axes import principal_axes
from probebench.probes.rows import in_steps
from probebench.scores import mean_average_precision
from tests.probes.logistic_data import HELD_OUT, TAPS, exact, run

LABELS = 6


def data(n=300, m=120, seed=0, unknown=0.0):
    rng = np.random.default_rng(seed)
    present = rng.random((n + m, LABELS)) < np.linspace(0.08, 0.6, LABELS)
    values = {
        tap: (rng.normal(size=(n + m, width)) + 0.7 * present @ rng.normal(size=(LABELS, width))).astype(np.float32)
        for tap, width in TAPS.items()
    }
    labels = present.astype(np.int8)
    labels[rng.random(labels.shape) < unknown] = -1
    train, test = ({tap: x[part] for tap, x in values.items()} for part in (slice(n), slice(n, None)))
    return train, labels[:n], test


def expected_logits(x, labels, C, at):
    """The logits of scikit-learn, label by label, of rows of which the label is known."""
    known = labels >= 0
    model = LogisticRegression(C=C, tol=1e-10, max_iter=10_000)
    return np.stack([model.fit(x[k], labels[k, j]).decision_function(at) for j, k in enumerate(known.T)], axis=1)


@pytest.mark.parametrize("unknown", [0.0, 0.2])
@pytest.mark.parametrize(("n", "width"), [(300, 12), (60, 100)], ids=["primal", "dual"])
def test_each_label_is_scikit_learns_problem(unknown, n, width):
    rng = np.random.default_rng(0)
    labels = (rng.random((n, 30)) < 0.4).astype(np.int8)  # more than are solved at once
    labels[rng.random(labels.shape) < unknown] = -1
    x = np.stack([rng.normal(size=(n, width)) + 0.3 * labels @ rng.normal(size=(30, width)) for _ in range(2)])
    axes = principal_axes(list(x), dtype=torch.float64)
    C = np.array([0.01, 3.0])
    found = solve_labels(axes.rows, torch.from_numpy(labels), torch.from_numpy(C), tol=1e-9)
    assert float(found.gap.max()) <= 1e-9
    for tap in range(2):
        z = StandardScaler().fit_transform(x[tap])
        logits = axes.rows[tap].double() @ found.weights[tap, 0].T
        assert logits.numpy() == pytest.approx(expected_logits(z, labels, C[tap], z), abs=2e-3)


def test_a_label_that_all_rows_have_or_none_has_no_logit():
    train, labels, _ = data()
    labels[:, 2], labels[:, 4] = 0, 1
    labels[:9, 4] = -1
    axes = principal_axes([train[Tap(1, "rc2")]])
    found = solve_labels(axes.rows, torch.from_numpy(labels), torch.ones(1, dtype=torch.float64))
    assert not found.weights[0, 0, [2, 4]].any()
    assert found.weights[0, 0, [0, 1, 3, 5]].abs().amax(dim=1).min() > 0.1


@pytest.mark.parametrize("unknown", [0.0, 0.2])
def test_c_is_chosen_by_map_and_the_fit_is_on_all_of_train(unknown):
    train, labels, test = data(unknown=unknown)
    fits = run(train, labels, test, DEFAULT)
    for tap, x in train.items():
        z, scores = StandardScaler().fit_transform(x), []
        for C in DEFAULT.path:
            logits = expected_logits(z[~HELD_OUT], labels[~HELD_OUT], C, z[HELD_OUT]).astype(np.float32)
            scores.append(mean_average_precision(logits, labels[HELD_OUT]))
            if len(scores) >= DEFAULT.path_least and is_settled(in_steps(np.array([scores])), DEFAULT.patience)[0]:
                break
        steps = in_steps(np.array([scores]))
        best = int(choose(steps, ended=len(scores) == len(DEFAULT.path))[0])
        assert DEFAULT.path[best] == fits[tap].C
        assert fits[tap].held_out_accuracy == pytest.approx(scores[best], abs=0.01)
        scaler = StandardScaler().fit(x)
        expected = expected_logits(scaler.transform(x), labels, fits[tap].C, scaler.transform(test[tap]))
        assert fits[tap].scores == pytest.approx(expected, abs=0.02 * float(np.abs(expected).max()))
        assert np.array_equal(fits[tap].predictions, fits[tap].scores > 0)
        assert 0 <= fits[tap].gap <= 1e-6


def test_one_label_is_the_probe_of_two_classes():
    train, labels, test = data()
    tap = Tap(1, "rc2")
    found = run({tap: train[tap]}, labels[:, 5:], {tap: test[tap]}, DEFAULT)[tap]
    reference = exact(found.C).fit(train[tap], labels[:, 5]).decision_function(test[tap])
    assert found.scores[:, 0] == pytest.approx(reference, abs=0.01)


def test_taps_of_a_batch_stop_by_themselves_and_wide_ones_have_a_control():
    train, labels, test = data()
    together = dict(fit_matched(train, labels, test, HELD_OUT, DEFAULT, "cpu", 1, narrow=12))
    assert [tap for tap, both in together.items() if both.narrow] == [Tap(1, "act")]
    assert together[Tap(1, "act")].narrow.scores.shape == (120, LABELS)
    for tap in TAPS:
        alone = run({tap: train[tap]}, labels, {tap: test[tap]}, DEFAULT)[tap]
        assert alone.C == together[tap].fit.C
        assert alone.scores == pytest.approx(together[tap].fit.scores, abs=1e-3)


def test_a_held_out_part_that_tests_no_label_leaves_the_smallest_c():
    train, labels, test = data()
    labels[HELD_OUT] = 0
    fits = run(train, labels, test, replace(DEFAULT, path=(0.1, 1.0), path_least=None))
    assert {fit.C for fit in fits.values()} == {0.1}
    assert all(fit.held_out_accuracy is None for fit in fits.values())
