"""Mean average precision and R2 against scikit-learn, and their decomposition into scores of images."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    log_loss,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)

from probebench.catalog.tasks import CLASSIFICATION, MULTILABEL, REGRESSION
from probebench.scores import (
    average_precision,
    count_outputs,
    mean_average_precision,
    measure_labels,
    measure_targets,
    r2,
    task_of,
)
from probebench.stats import paired


def draw(n=60, labels=4, seed=0, ties=False, unknown=0.0):
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, labels)) < 0.3).astype(np.int8)
    truth[0], truth[1] = 1, 0
    scores = (rng.normal(size=(n, labels)) + truth).astype(np.float32)
    truth[2:][rng.random((n - 2, labels)) < unknown] = -1
    return np.round(scores * 2) / 2 if ties else scores, truth


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("unknown", [0.0, 0.3])
def test_average_precision_is_scikit_learns(ties, unknown):
    scores, truth = draw(ties=ties, unknown=unknown)
    known = truth >= 0
    expected = [average_precision_score(truth[k, j], scores[k, j]) for j, k in enumerate(known.T)]
    assert average_precision(scores, truth) == pytest.approx(expected)
    found = measure_labels(scores, truth)
    assert found.metrics.accuracy.value == pytest.approx(np.mean(expected)) == mean_average_precision(scores, truth)
    low, high = found.metrics.accuracy.ci95
    assert 0 < low < found.metrics.accuracy.value < high < 1


def test_labels_that_nothing_or_everything_has_do_not_count():
    scores, truth = draw()
    truth[:, 1], truth[:, 2] = 0, 1
    precisions = average_precision(scores, truth)
    assert np.isnan(precisions[1:3]).all()
    assert mean_average_precision(scores, truth) == pytest.approx(np.mean(precisions[[0, 3]]))
    with pytest.raises(ValueError, match="no label that some test images have and others have not"):
        measure_labels(scores[:, 1:3], truth[:, 1:3])


@pytest.mark.parametrize("ties", [False, True])
def test_scores_of_images_are_the_value_and_its_derivative_by_their_weight(ties):
    scores, truth = draw(ties=ties, labels=1)
    found = measure_labels(scores, truth)
    value, n = found.metrics.accuracy.value, len(truth)
    assert found.scores.mean() == pytest.approx(value, abs=1e-6)
    for image in range(n):
        step, ends = 1e-4, []
        for sign in (1, -1):
            weights = np.ones(n)
            weights[image] += sign * step
            ends.append(average_precision_score(truth[:, 0], scores[:, 0], sample_weight=weights))
        assert found.scores[image] == pytest.approx(value + n * (ends[0] - ends[1]) / (2 * step), abs=1e-4)


def test_log_loss_of_labels_is_the_mean_over_images_and_labels():
    scores, truth = draw()
    expected = np.mean([log_loss(truth[:, j], 1 / (1 + np.exp(-scores[:, j].astype(float)))) for j in range(4)])
    assert measure_labels(scores, truth).metrics.nll.value == pytest.approx(expected)


def test_the_interval_of_map_covers():
    truth_scores, truth = draw(100_000, seed=1)
    expected, hits = mean_average_precision(truth_scores, truth), 0
    for seed in range(200):
        low, high = measure_labels(*draw(300, seed=seed + 2)).metrics.accuracy.ci95
        hits += low <= expected <= high
    assert 0.9 <= hits / 200 <= 0.99


def test_false_alarms_of_paired_map_keep_the_level():
    """Two probes that differ by independent noise of one size."""
    p_values = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        scores, truth = draw(200, seed=seed)
        pair = [(scores + 0.5 * rng.normal(size=scores.shape)).astype(np.float32) for _ in range(2)]
        p_values.append(paired(*(measure_labels(one, truth).scores for one in pair)).p_down)
    assert np.mean(np.array(p_values) <= 0.05) <= 0.08


@pytest.mark.parametrize("targets", [1, 3])
def test_r2_is_scikit_learns_and_the_mean_over_images(targets):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(80, targets)) * [1.0, 10.0, 0.1][:targets]
    predicted = (truth + 0.5 * rng.normal(size=truth.shape)).astype(np.float32)
    found = measure_targets(predicted, truth)
    assert found.metrics.accuracy.value == pytest.approx(r2_score(truth, predicted)) == r2(predicted, truth)
    assert found.scores.mean() == pytest.approx(found.metrics.accuracy.value, abs=1e-6)
    low, high = found.metrics.accuracy.ci95
    assert low < found.metrics.accuracy.value < high < 1
    if targets == 1:
        assert found.metrics.rmse.value == pytest.approx(root_mean_squared_error(truth, predicted))
        assert found.metrics.mae.value == pytest.approx(mean_absolute_error(truth, predicted))
    else:
        assert found.metrics.rmse is found.metrics.mae is None


def test_r2_may_be_negative_and_its_interval_covers():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(300):
        predicted = rng.normal(size=(300, 1))
        truth = predicted + 2 * rng.normal(size=predicted.shape)  # R2 is 1 - 4 / 5
        low, high = measure_targets(predicted.astype(np.float32), truth).metrics.accuracy.ci95
        hits += low <= 0.2 <= high
    assert 0.9 <= hits / 300 <= 0.99
    worst = measure_targets(-10 * truth.astype(np.float32), truth).metrics.accuracy
    assert worst.ci95[0] < worst.value < 0


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.zeros((3, 2), np.float32), np.zeros((3, 1), np.int8), "do not fit"),
        (np.array([[0.0], [np.nan]], np.float32), np.array([[0], [1]], np.int8), "test example 1 are not finite"),
        (np.zeros((3, 1), np.float32), np.ones((3, 1)), "a target is the same for all test images"),
        (np.zeros((3, 2), np.float32), np.ones((3, 1)), "do not fit"),
    ],
)
def test_what_cannot_be_scored_is_refused(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        (measure_targets if labels.dtype.kind == "f" else measure_labels)(scores, labels)


def test_the_task_is_that_of_the_type_and_the_shape_of_labels():
    classes, labels, targets = np.array([3, 5, 3]), np.zeros((3, 7), np.int8), np.zeros((3, 2))
    assert [task_of(each) for each in (classes, labels, targets)] == [CLASSIFICATION, MULTILABEL, REGRESSION]
    assert [count_outputs(each) for each in (classes, labels, targets)] == [2, 14, 2]
