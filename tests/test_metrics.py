"""Metrics against scikit-learn and plain formulas; intervals against the share of samples that they cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, top_k_accuracy_score

from probebench import metrics
from probebench.metrics import BINS, Estimate, combine, combine_estimates, measure, proportion

RNG = np.random.default_rng(0)


def softmax(scores):
    odds = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def sample(n=400, count=8, signal=1.5, rng=RNG):
    labels = rng.integers(0, count, n)
    scores = rng.normal(size=(n, count)).astype(np.float32)
    scores[np.arange(n), labels] += signal
    return scores, labels


def of(scores, labels, classes=None, probabilities=True):
    classes = np.arange(scores.shape[1]) if classes is None else classes
    return measure(scores, classes, classes[scores.argmax(axis=1)], labels, probabilities=probabilities)


@pytest.mark.parametrize("chunk", [1, 100, 1 << 22])
def test_the_values_are_scikit_learns(monkeypatch, chunk):
    monkeypatch.setattr(metrics, "_CHUNK", chunk)
    scores, labels = sample()
    found, predicted, chances = of(scores, labels), scores.argmax(axis=1), softmax(scores)
    assert found.accuracy.value == accuracy_score(labels, predicted)
    assert found.top5.value == top_k_accuracy_score(labels, chances, k=5)
    assert found.mean_per_class.value == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert found.nll.value == pytest.approx(log_loss(labels, chances))


def test_columns_are_found_by_the_label_of_their_class():
    scores, labels = sample()
    names = np.array([2, 3, 5, 7, 11, 13, 17, 19])
    assert of(scores, names[labels], names) == of(scores, labels)


def test_the_calibration_error_is_the_gap_of_each_bin_by_the_share_of_its_images():
    scores, labels = sample(signal=3)
    confidence, correct = softmax(scores).max(axis=1), scores.argmax(axis=1) == labels
    total = 0.0
    for low in np.arange(BINS) / BINS:
        there = (confidence >= low) & (confidence < low + 1 / BINS)
        if there.any():
            total += there.mean() * abs(correct[there].mean() - confidence[there].mean())
    assert of(scores, labels).ece.value == pytest.approx(total)


def test_a_certain_prediction_belongs_to_the_last_bin():
    scores = np.array([[200.0, 0.0]] * 3, np.float32)
    found = of(scores, np.array([0, 0, 1]))
    assert found.ece.value == pytest.approx(1 / 3)
    assert found.nll.value == pytest.approx(200 / 3)


def test_of_equal_scores_the_first_column_comes_first():
    scores = np.zeros((10, 10), np.float32)  # as of neighbours that vote for none of these classes
    scores[:, 9] = 1
    assert of(scores, np.arange(10), probabilities=False).top5.value == 0.5  # 9, and 0 to 3


def test_what_has_no_meaning_is_left_out():
    scores, labels = sample(count=5)
    found = of(scores, labels, probabilities=False)
    assert (found.top5, found.nll, found.ece) == (None, None, None)
    assert found.to_json() == {
        "top5": None,
        "mean_per_class": {"value": found.mean_per_class.value, "ci95": list(found.mean_per_class.ci95)},
        "nll": None,
        "ece": None,
    }


def test_classes_that_are_not_tested_do_not_count():
    scores, labels = sample(count=4)
    kept = labels != 3
    scores, labels = scores[kept], labels[kept]
    predicted = scores.argmax(axis=1)
    per_class = [(predicted[labels == label] == label).mean() for label in range(3)]
    assert of(scores, labels).mean_per_class.value == pytest.approx(np.mean(per_class))


def coverage(name, truth, make, repeats=300):
    rng, hits = np.random.default_rng(1), 0
    for _ in range(repeats):
        low, high = getattr(of(*make(rng)), name).ci95
        hits += low <= truth <= high
    return hits / repeats


def test_the_interval_of_the_mean_per_class_covers_it():
    sizes, rates = np.array([300, 60, 20, 12]), np.array([0.9, 0.8, 0.6, 0.4])
    labels = np.repeat(np.arange(4), sizes)

    def make(rng):
        scores = np.zeros((len(labels), 4), np.float32)
        right = rng.random(len(labels)) < rates[labels]
        scores[np.arange(len(labels)), np.where(right, labels, (labels + 1) % 4)] = 1
        return scores, labels

    assert 0.91 <= coverage("mean_per_class", rates.mean(), make) <= 0.98


def test_the_interval_of_the_likelihood_covers_it():
    def make(rng):
        return sample(300, 6, rng=rng)

    truth = of(*sample(200_000, 6, rng=np.random.default_rng(2))).nll.value
    assert 0.91 <= coverage("nll", truth, make) <= 0.98


@pytest.mark.parametrize("temperature", [1.0, 0.5], ids=["calibrated", "overconfident"])
def test_the_interval_of_the_calibration_error_covers_it(temperature):
    def make(rng, n=900):
        scores = 2 * rng.normal(size=(n, 6)).astype(np.float32)
        chances = softmax(temperature * scores).cumsum(axis=1)
        return scores, (chances < rng.random((n, 1))).sum(axis=1).clip(max=5)

    truth = 0.0 if temperature == 1 else of(*make(np.random.default_rng(2), 300_000)).ece.value
    assert coverage("ece", truth, make) >= 0.9


def test_one_draw_is_itself():
    found = of(*sample())
    assert combine([found]) == found


def test_the_mean_over_draws_has_the_error_of_both():
    draws = [of(*sample(signal=signal)) for signal in (1.0, 1.5, 2.0)]
    found, values = combine(draws).accuracy, [draw.accuracy.value for draw in draws]
    assert found.value == pytest.approx(np.mean(values))
    error = t.ppf(0.975, 2) * np.std(values, ddof=1) / np.sqrt(3)
    widths = [draw.accuracy.value - draw.accuracy.ci95[0] for draw in draws]
    assert found.value - found.ci95[0] == pytest.approx(np.sqrt(error**2 + np.mean(np.square(widths))))
    assert combine(draws).nll.ci95[1] > max(draw.nll.value for draw in draws)


def test_intervals_over_draws_stay_within_what_is_possible():
    found = combine_estimates([Estimate(0.99, (0.97, 1.0)), Estimate(0.5, (0.4, 0.6))])
    assert found.ci95 == (0.0, 1.0)
    right = proportion(np.ones(50, bool))
    assert combine_estimates([right, right]) == Estimate(1.0, (pytest.approx(right.ci95[0]), 1.0))


def test_draws_of_a_probe_without_probabilities_have_none():
    draws = [of(*sample(), probabilities=False) for _ in range(2)]
    assert combine(draws).nll is None
    assert combine(draws).top5 is not None
