"""The probe of default@1: the path, the choice of C, the fit on all of train."""

from __future__ import annotations

import numpy as np
import pytest

from probebench.catalog.protocols import DEFAULT_1
from probebench.probes import get_probe
from probebench.probes.logistic_path import fit
from tests.probes.logistic_data import HELD_OUT, data, exact, run


@pytest.mark.parametrize("classes", [2, 4])
def test_c_is_the_one_that_scikit_learn_would_choose_and_the_fit_is_on_all_of_train(classes):
    train, labels, test = data(classes)
    fits = run(train, labels, test, DEFAULT_1)
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


def test_it_is_the_probe_of_the_default_protocol():
    assert get_probe(DEFAULT_1.probe) is fit
