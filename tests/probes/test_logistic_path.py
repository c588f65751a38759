"""The probe of default@1: the path, the choice of C, the fit on all of train."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probebench.catalog.protocols import DEFAULT_1
from probebench.catalog.taps import Tap
from probebench.errors import DataError, FeatureError
from probebench.probes import get_probe
from probebench.probes.logistic_path import fit

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


def run(train, labels, test, held_out=HELD_OUT, protocol=DEFAULT_1, jobs=1):
    return dict(fit(train, labels, test, held_out, protocol, "cpu", jobs))


def exact(C):
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-10, max_iter=10_000))


@pytest.mark.parametrize("classes", [2, 4])
def test_c_is_the_one_that_scikit_learn_would_choose_and_the_fit_is_on_all_of_train(classes):
    train, labels, test = data(classes)
    fits = run(train, labels, test)
    for tap, x in train.items():
        scores = [
            exact(C).fit(x[~HELD_OUT], labels[~HELD_OUT]).score(x[HELD_OUT], labels[HELD_OUT]) for C in DEFAULT_1.path
        ]
        best = int(np.argmax(scores))  # the first of equals: the strongest regularisation
        assert DEFAULT_1.path[best] == fits[tap].C
        assert fits[tap].held_out_accuracy == pytest.approx(scores[best])
        reference = exact(DEFAULT_1.path[best]).fit(x, labels).predict(test[tap])
        assert (fits[tap].predictions == reference).mean() >= 0.99
        assert 0 <= fits[tap].gap <= 1e-6
        assert fits[tap].iterations > len(DEFAULT_1.path)


def test_equal_scores_go_to_the_strongest_regularisation():
    train, labels, test = data()
    alike = {tap: np.zeros_like(x) for tap, x in train.items()}
    fits = run(alike, labels, {tap: np.zeros_like(x) for tap, x in test.items()})
    assert {found.C for found in fits.values()} == {DEFAULT_1.path[0]}


def test_results_do_not_depend_on_the_jobs():
    train, labels, test = data()
    one, two = run(train, labels, test), run(train, labels, test, jobs=2)
    assert set(one) == set(two) == set(TAPS)
    for tap in TAPS:
        assert np.array_equal(one[tap].predictions, two[tap].predictions)
        assert (one[tap].C, one[tap].iterations, one[tap].gap) == (two[tap].C, two[tap].iterations, two[tap].gap)


def test_it_is_the_probe_of_the_default_protocol():
    assert get_probe(DEFAULT_1.probe) is fit


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


def test_without_held_out_images_the_strongest_strength_stands_alone():
    train, labels, test = data()
    alone = replace(DEFAULT_1, name="alone@1", path=(1.0,))
    found = run(train, labels, test, np.zeros(300, dtype=bool), alone)[Tap(1, "rc2")]
    assert (found.C, found.held_out_accuracy) == (1.0, None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_gives_the_fits_of_the_cpu():
    train, labels, test = data()
    cpu, gpu = (dict(fit(train, labels, test, HELD_OUT, DEFAULT_1, device, 1)) for device in ("cpu", "cuda"))
    for tap in TAPS:
        assert gpu[tap].gap <= 1e-6
        assert gpu[tap].C == cpu[tap].C
        assert (gpu[tap].predictions == cpu[tap].predictions).mean() >= 0.99
