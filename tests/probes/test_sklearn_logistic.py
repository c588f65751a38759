from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from probebench.catalog.protocols import PAPER
from probebench.catalog.taps import Tap
from probebench.errors import UnknownName
from probebench.probes import get_probe

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 150)
TAPS = [Tap(1, "act"), Tap(1, "rc2"), Tap(2, "rc2")]


def features(n, labels):
    return {
        tap: (RNG.normal(size=(n, width)) + labels[:, None] * RNG.normal(size=width)).astype(np.float32)
        for tap, width in zip(TAPS, (40, 10, 10), strict=True)
    }


TRAIN, TEST = features(150, LABELS), features(80, RNG.integers(0, 4, 80))


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("protocol", [PAPER, replace(PAPER, C=0.01, standardize=False)], ids=["paper", "other"])
def test_predictions_are_those_of_the_steps_done_by_hand(protocol, jobs):
    fits = dict(get_probe("sklearn_logistic")(TRAIN, LABELS, TEST, None, protocol, "cpu", jobs))
    assert fits.keys() == TRAIN.keys()
    for tap in TAPS:
        train, test = TRAIN[tap], TEST[tap]
        if protocol.standardize:
            scaler = StandardScaler().fit(train)
            train, test = scaler.transform(train), scaler.transform(test)
        reference = LogisticRegression(C=protocol.C, max_iter=5000).fit(train, LABELS)
        assert np.array_equal(fits[tap].predictions, reference.predict(test)), tap
        assert fits[tap].iterations == reference.n_iter_.max()
        assert fits[tap].seconds > 0


def test_the_iteration_limit_is_the_protocols():
    fits = dict(get_probe("sklearn_logistic")(TRAIN, LABELS, TEST, None, replace(PAPER, max_iter=3), "cpu", 1))
    assert {fit.iterations for fit in fits.values()} == {3}


def test_unknown_probes_are_refused():
    with pytest.raises(UnknownName, match="Did you mean 'sklearn_logistic'"):
        get_probe("sklearn_logistics")
