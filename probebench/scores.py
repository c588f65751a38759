"""Scores of predictions that are no single class: mean average precision of labels, and R2 of real numbers.

Both are means over the test images of a score of each image, by which two measurements are compared in pairs:

- R2 is 1 - mean of (squared error of an image / variance of the target), which is such a mean as it stands.
- An average precision is not: an image moves the ranks of others. Its score here is the value plus what the image adds
  to it, the derivative of the average precision by the weight of the image (the infinitesimal jackknife; B. Efron, The
  Jackknife, the Bootstrap and Other Resampling Plans, 1982, chapter 6). These sum to zero over the images, so the mean
  of the scores is the value, and their spread gives its standard error.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, log, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from probebench.catalog.tasks import CLASSIFICATION, MULTILABEL, REGRESSION, Task
from probebench.metrics import Estimate, Metrics, mean_estimate
from probebench.stats import Z95, Scores, wilson

Labels = npt.NDArray[np.int8]
"""Shape (n, labels): 1 for a label that an image has, 0 for one that it has not, -1 where that is not known."""


def task_of(labels: npt.NDArray[Any]) -> Task:
    """Return the task that labels are of.

    Args:
        labels: int64 of shape (n,), classes; `Labels`; or float64 of shape (n, targets), real numbers
    """
    if labels.dtype.kind == "f":
        return REGRESSION
    return MULTILABEL if labels.ndim == 2 else CLASSIFICATION


def count_outputs(labels: npt.NDArray[Any]) -> int:
    """Return the number of columns that a probe fits: its classes, two for each label, or its targets."""
    task = task_of(labels)
    if task is CLASSIFICATION:
        return len(np.unique(labels))
    return int(labels.shape[1]) * (2 if task is MULTILABEL else 1)


@dataclass(frozen=True)
class Scored:
    """The metrics of a probe's predictions.

    Attributes:
        metrics: `Metrics.accuracy` is the mean average precision, or R2
        scores: float32, shape (n,), of each test image; their mean is that value. Of classes bool, which were right
    """

    metrics: Metrics
    scores: Scores


def tested_labels(labels: Labels) -> npt.NDArray[np.bool_]:
    """Return the labels that have an average precision, bool of shape (labels,): some images have them, others not."""
    tested: npt.NDArray[np.bool_] = (labels == 1).any(axis=0) & (labels == 0).any(axis=0)
    return tested


def average_precision(scores: npt.NDArray[np.float32], labels: Labels) -> npt.NDArray[np.float64]:
    """Average precision of each label, as scikit-learn's `average_precision_score` has it: the mean over the images
    with the label of the precision among all images that score as high.

    Args:
        scores: shape (n, labels), finite, higher for likelier labels
        labels: of the same shape; unknown ones do not count

    Returns:
        shape (labels,); NaN for a label that is not among `tested_labels`
    """
    return np.array([_average_precision(*pair)[0] for pair in zip(scores.T, labels.T, strict=True)])


def mean_average_precision(scores: npt.NDArray[np.float32], labels: Labels) -> float:
    """The mean of `average_precision` over `tested_labels`; NaN if there are none."""
    precisions = average_precision(scores, labels)
    known = precisions[~np.isnan(precisions)]
    return float(known.mean()) if len(known) else np.nan


def measure_labels(scores: npt.NDArray[np.float32], labels: Labels, *, probabilities: bool = True) -> Scored:
    """The mean average precision over `tested_labels`, and the log loss, of logits.

    The interval is normal in the logit of the value (K. Boyd, K. Eng and C. Page, ECML PKDD 2013), from the spread of
    the images' scores.

    Args:
        scores: shape (n, labels), logits, or other scores that are higher for likelier labels
        labels: of the same shape
        probabilities: whether the logistic function of a score is the probability of the label

    Raises:
        ValueError: if shapes disagree, no label can be tested, or a score is not finite
    """
    if scores.shape != labels.shape or not len(labels):
        raise ValueError(f"scores {scores.shape} do not fit labels {labels.shape}")
    _refuse_infinite(scores)
    n, tested = len(labels), np.flatnonzero(tested_labels(labels))
    if not len(tested):
        raise ValueError("no label that some test images have and others have not")
    value, images = 0.0, np.zeros(n)
    for label in tested:
        precision, influence = _average_precision(scores[:, label], labels[:, label])
        value += precision / len(tested)
        images += influence / len(tested)
    error = sqrt(float((images**2).sum())) if n > 1 else inf
    positives = int((labels[:, tested] == 1).sum())
    known = labels >= 0
    losses = np.where(known, np.logaddexp(0, np.where(labels == 1, -scores, scores).astype(np.float64)), 0.0)
    counted = known.any(axis=1)
    return Scored(
        Metrics(
            accuracy=Estimate(value, _logit_interval(value, error, positives)),
            top5=None,
            mean_per_class=None,
            nll=mean_estimate(losses[counted].sum(axis=1) / known[counted].sum(axis=1)) if probabilities else None,
            ece=None,
        ),
        (value + n * images).astype(np.float32),
    )


def _average_precision(
    scores: npt.NDArray[np.float32], labels: npt.NDArray[np.int8]
) -> tuple[float, npt.NDArray[np.float64]]:
    """Return the average precision of one label, and its derivative by the weight of each image, shape (n,)."""
    influence = np.zeros(len(labels))
    known = np.flatnonzero(labels >= 0)
    order = known[np.argsort(-scores[known], kind="stable")]
    y, ranked = labels[order] == 1, scores[order]
    positives = int(y.sum())
    if positives in (0, len(y)):
        return np.nan, influence
    # Images of equal score are at one threshold: they count up to the last of them.
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    group = np.repeat(np.arange(len(last)), np.diff(np.append(-1, last)))
    above = (last + 1)[group].astype(np.float64)
    precision = np.cumsum(y)[last][group] / above
    value = float(precision[y].sum() / positives)
    # An image counts at each image with the label that scores no higher: these come behind it, its equals included.
    first = np.append(0, last[:-1] + 1)[group]
    at_rank, of_precision = (np.cumsum((y * each)[::-1])[::-1][first] for each in (1 / above, precision / above))
    influence[order] = (y * (precision - value) + y * at_rank - of_precision) / positives
    return value, influence


def r2(predictions: npt.NDArray[Any], targets: npt.NDArray[np.float64]) -> float:
    """R2 as scikit-learn's `r2_score` has it, averaged over the targets that vary; NaN if none does.

    Args:
        predictions, targets: shape (n, targets)
    """
    variance = targets.var(axis=0)
    varied = variance > 0
    if not varied.any():
        return np.nan
    errors = np.square(predictions.astype(np.float64) - targets).mean(axis=0)
    return float(np.mean(1 - errors[varied] / variance[varied]))


def measure_targets(predictions: npt.NDArray[Any], targets: npt.NDArray[np.float64]) -> Scored:
    """R2, averaged over targets; and of a single target the root of the mean squared, and the mean absolute error.

    The interval of R2 is normal in log(1 - R2), from the derivatives of R2 by the weights of the images, so that it
    counts that the variance of the target is an estimate, too.

    Args:
        predictions, targets: shape (n, targets)

    Raises:
        ValueError: if shapes disagree, a target does not vary, or a prediction is not finite
    """
    if predictions.shape != targets.shape or not len(targets):
        raise ValueError(f"predictions {predictions.shape} do not fit targets {targets.shape}")
    _refuse_infinite(predictions)
    variance = targets.var(axis=0)
    if not (variance > 0).all():
        raise ValueError("a target is the same for all test images")
    n, errors = len(targets), np.square(predictions.astype(np.float64) - targets)
    mean = errors.mean(axis=0)
    images = 1 - (errors / variance).mean(axis=1)
    value = float(images.mean())
    spread = np.square(targets - targets.mean(axis=0)) / variance
    influence = ((mean * spread - errors) / variance).mean(axis=1) / n
    left = 1 - value
    half = Z95 * sqrt(float((influence**2).sum())) / left if left > 0 else 0.0
    low, high = (1 - left * exp(min(half, 700.0)), 1 - left * exp(-half)) if n > 1 else (-inf, 1.0)
    single = targets.shape[1] == 1
    squared = mean_estimate(errors[:, 0])
    return Scored(
        Metrics(
            accuracy=Estimate(value, (min(value, low), max(value, high))),
            top5=None,
            mean_per_class=None,
            nll=None,
            ece=None,
            rmse=Estimate(sqrt(squared.value), (sqrt(squared.ci95[0]), sqrt(squared.ci95[1]))) if single else None,
            mae=mean_estimate(np.sqrt(errors[:, 0])) if single else None,
        ),
        images.astype(np.float32),
    )


def _logit_interval(value: float, error: float, positives: int) -> tuple[float, float]:
    """The interval of a value in [0, 1] with a standard error; Wilson's where nothing varies.

    Args:
        positives: number of pairs of an image and a label that it has
    """
    spread = value * (1 - value)
    if not 0 < error < inf or spread <= 0:
        return wilson(value * positives, positives)
    half, middle = Z95 * error / spread, log(value / (1 - value))
    low, high = (1 / (1 + exp(min(700.0, max(-700.0, -end)))) for end in (middle - half, middle + half))
    return min(value, low), max(value, high)


def _refuse_infinite(scores: npt.NDArray[Any]) -> None:
    finite = np.isfinite(scores).all(axis=1)
    if not finite.all():
        raise ValueError(f"scores of test example {int(np.argmin(finite))} are not finite")
