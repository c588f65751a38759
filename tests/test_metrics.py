"""Metrics against scikit-learn and plain formulas; intervals against the share of samples that they cover."""

from __future__ import annotations

from dataclasses import astuple
from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from scipy.stats import norm, sem
from scipy.stats import t as student
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, top_k_accuracy_score

from probebench import metrics
from probebench.metrics import (
    Estimate,
    Metrics,
    calibration_error,
    combine,
    combine_estimates,
    mean_per_class,
    measure,
    proportion,
)
from probebench.stats import wilson


def scored(n=400, classes=12, seed=0, scale=2.0):
    """Scores of a probe of some skill, the labels 0, 3, 6, ... of their columns, what it predicts, and the truth."""
    rng = np.random.default_rng(seed)
    names = 3 * np.arange(classes)
    columns = rng.choice(classes, n, p=np.arange(1, classes + 1) / sum(range(1, classes + 1)))
    scores = (scale * rng.standard_normal((n, classes))).astype(np.float32)
    scores[np.arange(n), columns] += 2
    return scores, names, names[scores.argmax(axis=1)], names[columns]


def test_the_values_are_scikit_learns():
    scores, classes, predictions, labels = scored()
    measured = measure(scores, classes, predictions, labels, probabilities=True)
    assert measured.accuracy.value == accuracy_score(labels, predictions)
    assert measured.top5.value == pytest.approx(top_k_accuracy_score(labels, scores, k=5, labels=classes))
    assert measured.mean_per_class.value == pytest.approx(balanced_accuracy_score(labels, predictions))
    probabilities = softmax(scores.astype(np.float64), axis=1)
    assert measured.nll.value == pytest.approx(log_loss(labels, probabilities, labels=classes), rel=1e-9)
    assert measured.accuracy.ci95 == wilson(np.count_nonzero(predictions == labels), 400)
    assert measured.top5.ci95 == wilson(round(400 * measured.top5.value), 400)


def test_classes_that_are_not_tested_do_not_count():
    scores, classes, predictions, labels = scored()
    kept = labels != 6
    scores, predictions, labels = scores[kept], predictions[kept], labels[kept]
    per_class = [(predictions[labels == label] == label).mean() for label in np.unique(labels)]
    assert len(per_class) == 11
    measured = measure(scores, classes, predictions, labels, probabilities=True)
    assert measured.mean_per_class.value == pytest.approx(np.mean(per_class))


def test_the_calibration_error_is_the_gap_of_each_bin_weighted_by_its_share():
    scores, classes, predictions, labels = scored()
    top = softmax(scores.astype(np.float64), axis=1).max(axis=1)
    expected = 0.0
    for low in range(15):
        inside = (top > low / 15) & (top <= (low + 1) / 15)
        if inside.any():
            gap = (predictions == labels)[inside].mean() - top[inside].mean()
            expected += inside.mean() * abs(gap)
    ece = measure(scores, classes, predictions, labels, probabilities=True).ece
    assert ece.value == pytest.approx(expected, abs=1e-12)
    assert expected > 0.05  # something to measure


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    # 0.2 is the upper edge of the third bin; two examples above it are in the fourth. The bins' gaps do not cancel.
    confidence, correct = np.array([0.2, 0.2, 0.21, 0.21]), np.array([False, False, True, True])
    assert calibration_error(confidence, correct).value == pytest.approx((2 * 0.2 + 2 * 0.79) / 4)
    assert calibration_error(np.ones(3), np.ones(3, dtype=bool)).value == 0


def test_scores_are_read_in_chunks_of_any_size(monkeypatch):
    case = scored(n=101)
    whole = measure(*case, probabilities=True)
    for values in (1, 12 * 7, 12 * 101):
        monkeypatch.setattr(metrics, "_CHUNK", values)
        assert measure(*case, probabilities=True) == whole


def test_large_logits_neither_overflow_nor_lose_the_likelihood():
    scores = np.array([[3e38, -3e38], [1e4, 1e4 - 1], [-1e4, -1e4 - 2]], dtype=np.float32)
    measured = measure(scores, np.array([0, 1]), np.zeros(3, dtype=np.int64), np.array([0, 0, 1]), probabilities=True)
    assert measured.nll.value == pytest.approx((0 + log(1 + np.exp(-1)) + 2 + log(1 + np.exp(-2))) / 3)


def test_the_likelihood_has_the_normal_interval():
    scores, classes, predictions, labels = scored()
    losses = -log_softmax(scores.astype(np.float64), axis=1)[np.arange(400), labels // 3]
    low, high = measure(scores, classes, predictions, labels, probabilities=True).nll.ci95
    assert (low, high) == pytest.approx(norm.interval(0.95, losses.mean(), sem(losses)))


def flat(measured):
    return [x for part in astuple(measured) if part is not None for x in (part[0], *part[1])]


@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 60),
    classes=st.integers(2, 9),
    scale=st.sampled_from([0.01, 2.0, 300.0]),
)
@settings(max_examples=60)
def test_whatever_the_scores(seed, n, classes, scale):
    scores, names, predictions, labels = scored(n, classes, seed, scale)
    measured = measure(scores, names, predictions, labels, probabilities=True)
    for estimate in (measured.accuracy, measured.top5, measured.mean_per_class, measured.nll, measured.ece):
        if estimate is not None:
            low, high = estimate.ci95
            assert 0 <= low <= estimate.value <= high
            assert high <= 1 or estimate is measured.nll
    assert (measured.top5 is None) == (classes <= 5)
    assert measured.top5 is None or measured.top5.value >= measured.accuracy.value
    # The order of columns has no meaning, nor has a constant added to a row.
    order = np.random.default_rng(seed).permutation(classes)
    moved = scores[:, order].astype(np.float64) + np.arange(n)[:, None]
    again = measure(moved, names[order], predictions, labels, probabilities=True)
    assert np.allclose(flat(again), flat(measured), rtol=1e-5, atol=1e-5)
    # Without probabilities the same accuracies.
    assert measure(scores, names, predictions, labels, probabilities=False) == Metrics(
        measured.accuracy, measured.top5, measured.mean_per_class, None, None
    )


def test_what_is_right_is_decided_by_the_predictions():
    scores, classes, _, labels = scored()
    measured = measure(scores, classes, labels, labels, probabilities=True)
    assert measured.accuracy.value == measured.mean_per_class.value == measured.top5.value == 1


def test_the_top_five_have_no_place_for_a_tie_across_the_edge():
    # Votes of kNN over eight classes, of which most have none.
    classes = np.arange(8)
    votes = np.zeros((4, 8), dtype=np.float32)
    votes[:, [2, 5, 7]] = 5, 3, 1
    predictions, labels = np.full(4, 2), np.array([2, 7, 0, 6])
    top5 = measure(votes, classes, predictions, labels, probabilities=False).top5
    assert top5.value == 0.5  # 2 and 7 have votes; 0 and 6 would be guesses of the order of columns
    # A tie inside the five is none across the edge.
    votes[:, [2, 5, 7, 0, 6]] = 1
    assert measure(votes, classes, predictions, labels, probabilities=False).top5.value == 1
    # Where all are tied, the prediction is the only guess.
    assert measure(0 * votes, classes, predictions, labels, probabilities=False).top5.value == 0.25


def test_bad_input_is_refused():
    scores, classes, predictions, labels = scored(n=20)
    with pytest.raises(ValueError, match=r"labels without a column of scores: 1, 99$"):
        measure(scores, classes, predictions, np.where(np.arange(20) < 10, 99, 1), probabilities=True)
    with pytest.raises(ValueError, match=r"scores \(20, 12\) and predictions \(20,\) do not fit 19 labels"):
        measure(scores, classes, predictions, labels[1:], probabilities=True)
    with pytest.raises(ValueError, match="do not fit 20 labels and 11 classes"):
        measure(scores, classes[1:], predictions, labels, probabilities=True)
    with pytest.raises(ValueError, match="no test example"):
        measure(scores[:0], classes, predictions[:0], labels[:0], probabilities=True)
    for bad in (np.nan, np.inf, -np.inf):
        scores[17, 3] = bad
        with pytest.raises(ValueError, match="example 17 are not finite"):
            measure(scores, classes, predictions, labels, probabilities=False)


def test_values_are_what_json_can_hold():
    assert Estimate(0.5, (0.25, 0.75)).to_json() == {"value": 0.5, "ci95": [0.25, 0.75]}
    scores, classes, predictions, labels = scored(classes=5)
    found = measure(scores, classes, predictions, labels, probabilities=True)
    assert found.top5 is None
    for estimate in (found.mean_per_class, found.nll, found.ece):
        assert {type(x) for x in (estimate.value, *estimate.ci95)} == {float}


# The mean per class


def test_of_equal_classes_alike_the_mean_per_class_has_the_interval_of_the_accuracy():
    correct, labels = np.arange(200) % 5 != 0, np.arange(200) // 50  # 40 of 50 in each of four
    assert mean_per_class(correct, labels).ci95 == pytest.approx(wilson(160, 200), abs=2e-3)


def test_a_rare_and_hard_class_widens_the_mean_per_class():
    labels = np.repeat([0, 1], [900, 10])
    correct = np.arange(910) % 10 != 0
    correct[900:] = np.arange(10) < 5
    low, high = mean_per_class(correct, labels).ci95
    # The normal interval of the two strata: nearly all of it the rare class's.
    half = norm.ppf(0.975) * sqrt(0.9 * 0.1 / 899 + 0.5 * 0.5 / 9) / 2
    assert high - low == pytest.approx(2 * half, rel=0.05)


def test_what_is_all_right_is_not_taken_for_certain():
    labels = np.arange(40)  # one example a class
    assert mean_per_class(labels < 30, labels).ci95 == pytest.approx(wilson(30, 40))
    assert mean_per_class(labels < 40, labels).ci95 == pytest.approx(wilson(40, 40))
    assert mean_per_class(np.ones(900, dtype=bool), np.arange(900) // 90).ci95 == pytest.approx(wilson(900, 900))


COUNTS = {
    "equal": ([20] * 50, np.linspace(0.5, 1, 50)),
    "few, high": ([90] * 10, [0.995] * 10),
    "long tail": ([200, 100, 50, 20, 10, 5, 2, 1, 1, 1], np.linspace(0.95, 0.6, 10)),
    "one rare": ([900, 10], [0.99, 0.6]),
    "one rare and easy": ([900, 10], [0.9, 0.97]),
}


@pytest.mark.parametrize("setting", COUNTS)
def test_the_interval_of_the_mean_per_class_covers(setting):
    counts, accuracies = COUNTS[setting]
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(counts)), counts)
    truth = float(np.mean(accuracies))
    covered = 0
    for _ in range(500):
        low, high = mean_per_class(rng.random(len(labels)) < np.repeat(accuracies, counts), labels).ci95
        covered += low <= truth <= high
    # Two standard errors below 95%; a little more where three of ten classes have one example, which are the hard ones.
    assert covered >= (0.91 if setting == "long tail" else 0.93) * 500


# Likelihood and calibration


def test_the_interval_of_the_likelihood_covers():
    truth = measure(*scored(200_000, 6, seed=1), probabilities=True).nll.value
    covered = 0
    for seed in range(2, 302):
        low, high = measure(*scored(300, 6, seed), probabilities=True).nll.ci95
        covered += low <= truth <= high
    assert 0.91 * 300 <= covered <= 0.98 * 300


def confidences(n, rng, kind):
    return {"middling": rng.beta(3, 2, n), "high": rng.beta(20, 1, n), "all": rng.beta(1, 0.4, n)}[kind]


def distorted(confidence, slope):
    """How often a probe is right whose log odds are too steep by 1 / slope."""
    odds = (confidence / (1 - confidence)) ** slope
    return odds / (1 + odds)


@pytest.mark.parametrize("kind", ["middling", "high", "all"])
@pytest.mark.parametrize("slope", [1.0, 0.9, 0.6, 1.5])
def test_the_interval_of_the_calibration_error_covers(kind, slope):
    rng = np.random.default_rng(0)
    population = np.clip(confidences(200_000, rng, kind), 1e-6, 1 - 1e-6)
    rate = distorted(population, slope)
    edges = np.ceil(population * 15)
    truth = sum(abs((population - rate)[edges == edge].sum()) for edge in range(1, 16)) / len(population)
    covered = 0
    for _ in range(300):
        chosen = rng.integers(0, len(population), 400)
        low, high = calibration_error(population[chosen], rng.random(400) < rate[chosen]).ci95
        covered += low <= truth <= high
    assert covered >= 0.93 * 300


def test_the_interval_of_a_clear_calibration_error_is_the_normal_one():
    rng = np.random.default_rng(0)
    confidence = rng.choice([0.5, 0.7, 0.9], 3000)
    correct = rng.random(3000) < confidence - 0.25
    low, high = calibration_error(confidence, correct).ci95
    half = norm.ppf(0.975) * np.sqrt(np.mean((confidence - correct) ** 2) / 3000)
    assert high - low == pytest.approx(2 * half, rel=0.05)
    assert low < 0.25 < high


def test_no_error_in_sight_is_not_taken_for_certain():
    # Nothing wrong in 1000 at 99.99%: by the rule of three up to 0.3% may be.
    low, high = calibration_error(np.full(1000, 0.9999), np.ones(1000, dtype=bool)).ci95
    assert low == 0
    assert 0.002 < high < 0.005


# Draws of the training set


def all_alike(value, half, top5=True):
    estimate = Estimate(value, (value - half, value + half))
    return Metrics(estimate, estimate if top5 else None, estimate, estimate, None)


def test_one_draw_is_itself():
    draw = measure(*scored(), probabilities=True)
    assert combine([draw]) == draw


def test_draws_are_averaged_and_their_spread_joins_the_interval():
    values, halves = [0.5, 0.6, 0.55], [0.02, 0.04, 0.03]
    combined = combine([all_alike(value, half) for value, half in zip(values, halves, strict=True)])
    half = sqrt((student.ppf(0.975, 2) * sem(values)) ** 2 + 0.03**2)
    assert (combined.accuracy.value, *combined.accuracy.ci95) == pytest.approx((0.55, 0.55 - half, 0.55 + half))
    assert combined.top5 == combined.mean_per_class == combined.nll == combined.accuracy
    assert combined.ece is None


def test_intervals_of_draws_stay_in_the_range_of_the_metric():
    combined = combine([all_alike(0.9, 0.01), all_alike(0.1, 0.01)])  # Student's t of one degree of freedom
    assert combined.accuracy.ci95 == (0, 1)
    assert combined.nll.ci95[0] == 0
    assert combined.nll.ci95[1] > 5  # which has no upper end
    right = proportion(np.ones(50, dtype=bool))
    assert combine_estimates([right, right]) == Estimate(1.0, (pytest.approx(right.ci95[0]), 1.0))


def test_draws_of_the_same_scores_have_their_interval():
    draw = measure(*scored(), probabilities=True)
    assert np.allclose(flat(combine([draw, draw, draw])), flat(draw))


def test_draws_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="no draw"):
        combine([])
    with pytest.raises(ValueError, match="1 of 2 draws have top5"):
        combine([all_alike(0.5, 0.1), all_alike(0.5, 0.1, top5=False)])


def test_the_interval_over_draws_covers():
    # Images of varying difficulty, training sets of varying luck, anew in every experiment.
    rng = np.random.default_rng(0)
    truth = norm.cdf(0.6 / sqrt(1 + 0.7**2 + 0.2**2))
    covered = 0
    for _ in range(200):
        difficulty, luck = rng.normal(0.6, 0.7, 300), rng.normal(0, 0.2, (5, 1))
        correct = rng.random((5, 300)) < norm.cdf(difficulty + luck)
        low, high = combine_estimates([proportion(row) for row in correct]).ci95
        covered += low <= truth <= high
    assert covered >= 0.93 * 200
