"""The rules that both logistic probes follow: that of default@1, and that of default@2."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from probebench.catalog.protocols import DEFAULT, DEFAULT_1
from probebench.catalog.taps import Tap
from probebench.errors import DataError, FeatureError
from tests.probes.logistic_data import HELD_OUT, TAPS, data, run


@pytest.fixture(params=[DEFAULT_1, DEFAULT], ids=lambda protocol: protocol.name)
def protocol(request):
    return request.param


def test_equal_scores_go_to_the_strongest_regularisation(protocol):
    train, labels, test = data()
    alike = {tap: np.zeros_like(x) for tap, x in train.items()}
    fits = run(alike, labels, {tap: np.zeros_like(x) for tap, x in test.items()}, protocol)
    assert {found.C for found in fits.values()} == {protocol.path[0]}


def test_results_do_not_depend_on_the_jobs(protocol):
    train, labels, test = data()
    one, two = run(train, labels, test, protocol), run(train, labels, test, protocol, jobs=2)
    assert set(one) == set(two) == set(TAPS)
    for tap in TAPS:
        assert np.array_equal(one[tap].predictions, two[tap].predictions)
        assert (one[tap].C, one[tap].iterations, one[tap].gap) == (two[tap].C, two[tap].iterations, two[tap].gap)


def test_a_class_that_is_only_held_out_is_learned_in_the_last_fit(protocol):
    train, labels, test = data()
    labels = np.where(HELD_OUT & (labels == 3), 3, labels % 3)
    predicted = np.concatenate([found.predictions for found in run(train, labels, test, protocol).values()])
    assert 3 in predicted


def test_class_numbers_may_have_holes(protocol):
    train, labels, test = data()
    gaps = run(train, labels, test, protocol)
    spread = run(train, labels * 7 + 2, test, protocol)
    for tap in TAPS:
        assert np.array_equal(gaps[tap].predictions * 7 + 2, spread[tap].predictions)


def test_one_class_is_refused(protocol):
    train, labels, test = data()
    with pytest.raises(DataError, match="at least two classes"):
        run(train, np.zeros_like(labels), test, protocol)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused_by_tap(protocol, bad, jobs):
    train, labels, test = data()
    train[Tap(1, "act")][7, 3] = bad
    with pytest.raises(FeatureError, match=r"probe at L01-act: .*NaN or infinity \(column 3\)"):
        run(train, labels, test, protocol, jobs=jobs)


def test_without_held_out_images_the_strongest_strength_stands_alone(protocol):
    train, labels, test = data()
    alone = replace(protocol, name="alone@1", path=(1.0,))
    found = run(train, labels, test, alone, np.zeros(300, dtype=bool))[Tap(1, "rc2")]
    assert (found.C, found.held_out_accuracy) == (1.0, None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_gives_the_fits_of_the_cpu(protocol):
    train, labels, test = data()
    cpu, gpu = (run(train, labels, test, protocol, device=device) for device in ("cpu", "cuda"))
    for tap in TAPS:
        assert gpu[tap].gap <= 1e-6
        assert gpu[tap].C == cpu[tap].C
        assert (gpu[tap].predictions == cpu[tap].predictions).mean() >= 0.99
