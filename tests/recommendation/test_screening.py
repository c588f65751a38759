"""Screening: the ridge probe's order, and that what is said of it is what the documentation has."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import StandardScaler

from probebench import Tap
from probebench.catalog.protocols import DEFAULT
from probebench.probes.evaluate import TrainingSet
from probebench.recommendation import screening
from probebench.recommendation.screening import MEASURED, best, scores

DOC = Path(__file__).parents[2] / "docs" / "recommend.md"


def test_scores_are_those_of_scikit_learns_ridge_on_the_held_out_part():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 80)
    held_out = np.arange(80) % 5 == 0
    taps = {
        Tap.parse(name): (rng.normal(size=(80, 6)) + strength * labels[:, None]).astype(np.float32)
        for name, strength in [("embed", 0.1), ("L01-act", 0.4), ("final", 1.0)]
    }
    found = scores(taps, TrainingSet(None, labels, held_out), DEFAULT, "cpu", 1)
    for tap, features in taps.items():
        scaler = StandardScaler().fit(features[~held_out])
        expected = max(
            RidgeClassifier(alpha=1 / C)
            .fit(scaler.transform(features[~held_out]), labels[~held_out])
            .score(scaler.transform(features[held_out]), labels[held_out])
            for C in DEFAULT.path
        )
        assert found[tap] == pytest.approx(expected)


def test_the_best_are_kept_in_order_and_always_what_they_are_compared_with():
    scored = {Tap.parse(name): value for name, value in [("L02-act", 0.5), ("L01-act", 0.5), ("final", 0.1)]}
    scored |= {Tap.parse(name): value for name, value in [("output", 0.2), ("last4", 0.1), ("last4.cls", 0.1)]}
    scored |= {Tap.parse(name): value for name, value in [("L01-rc2", 0.7), ("final.cls", 0.1)]}
    assert [tap.id for tap in best(scored, 2)] == ["L01-act", "L01-rc2", "final", "output", "last4"]


def test_what_was_measured_is_what_the_documentation_says():
    rows = re.findall(r"^\| (\d+) \| (\d+) of (\d+) \| (\d+) of (\d+) \|", DOC.read_text(encoding="utf-8"), re.M)
    assert {int(size): (int(same), int(tied), int(runs)) for size, same, runs, tied, _ in rows} == {
        size: (found.same, found.tied, found.runs) for size, found in MEASURED.items()
    }
    assert sorted(MEASURED) == [3, 5, 10]


def test_of_a_size_between_what_was_measured_the_smaller_counts():
    assert screening.measured(2) is None
    assert screening.measured(7) == (5, MEASURED[5])
    assert screening.measured(50) == (10, MEASURED[10])
