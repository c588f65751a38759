"""Metrics of a probe on test images, each with its 95% interval.

docs/statistics.md says what each interval covers and how often it did in simulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import inf, log, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

from probebench._format import list_some
from probebench.stats import Z95, wilson

TOP = 5

BINS = 15
"""Bins of the top probability in the calibration error, as many as Guo et al. use."""

_DRAWS = 4000
_CHUNK = 1 << 17  # scores held in float64 at once


@dataclass(frozen=True)
class Estimate:
    """A value measured on the test images and its 95% interval, low and high, which contains it."""

    value: float
    ci95: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "ci95": list(self.ci95)}


@dataclass(frozen=True)
class Metrics:
    """The metrics of a probe's predictions.

    Attributes:
        accuracy: top-1, in [0, 1]; of a multi-label dataset the mean average precision, of real-valued targets R2, see
            `probebench.scores`
        top5: how often the true class is among five guesses, in [0, 1]; None if there are five classes or fewer.
            The guesses are the prediction and the classes that at most four others score as high as; so a tie across
            the fifth place, as among the classes without a vote in kNN, makes no guess of any of them
        mean_per_class: accuracy averaged over the classes that are tested: rare ones count as much as common ones;
            None if there are no classes
        nll: mean negative log-likelihood of the classes, in nats; of labels, that of each label, averaged over the
            labels of an image; None for a probe that gives no probabilities
        ece: expected calibration error in [0, 1]; None for a probe that gives no probabilities
        rmse, mae: root of the mean squared error, and mean absolute error, in the unit of the target; None unless a
            single real-valued target is predicted
    """

    accuracy: Estimate
    top5: Estimate | None
    mean_per_class: Estimate | None
    nll: Estimate | None
    ece: Estimate | None
    rmse: Estimate | None = None
    mae: Estimate | None = None


def measure(
    scores: npt.NDArray[np.float32],
    classes: npt.NDArray[np.int64],
    predictions: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    *,
    probabilities: bool,
) -> Metrics:
    """The metrics of one probe.

    Args:
        scores: shape (n, C), finite. Logits, that is log-probabilities up to a constant per row, where `probabilities`
            is true; else any scores that are higher for likelier classes
        classes: int64, shape (C,), the label of each column, each once, in any order
        predictions: int64, shape (n,), the predicted labels; what is right is decided by these
        labels: int64, shape (n,), the true ones, not negative, all among `classes`
        probabilities: whether the softmax of a row of scores is the probe's distribution over the classes

    Raises:
        ValueError: if there is no example, shapes disagree, a label has no column, or a score is not finite
    """
    n = len(labels)
    if n == 0:
        raise ValueError("no test example to measure on")
    if scores.shape != (n, len(classes)) or predictions.shape != (n,):
        raise ValueError(
            f"scores {scores.shape} and predictions {predictions.shape} do not fit "
            f"{n} labels and {len(classes)} classes"
        )
    rivals, losses, confidence = _read(scores, _columns(classes, labels), probabilities)
    correct = predictions == labels
    return Metrics(
        accuracy=proportion(correct),
        top5=proportion((rivals < TOP) | correct) if len(classes) > TOP else None,
        mean_per_class=mean_per_class(correct, labels),
        nll=mean_estimate(losses) if probabilities else None,
        ece=calibration_error(confidence, correct) if probabilities else None,
    )


def proportion(right: npt.NDArray[np.bool_]) -> Estimate:
    """A share with Wilson's interval."""
    count = int(np.count_nonzero(right))
    return Estimate(count / len(right), wilson(count, len(right)))


def mean_per_class(correct: npt.NDArray[np.bool_], labels: npt.NDArray[np.int64]) -> Estimate:
    """Accuracy averaged over the classes that are tested.

    The interval is Wilson's with an effective number of examples: as many as would give a plain proportion the same
    variance (Franco, Little, Louis and Slud, J. Surv. Stat. Methodol. 7, 2019). The variance is the larger of two: that
    of the mean over strata, the sum of p(1 - p) / (n - 1) over K² (Cochran, Sampling Techniques, 3rd ed., chapter 5),
    where a class of one example, which has no variance of its own, gets that of the mean accuracy; and that of K
    classes of equal accuracy. The first sees no error in a rare class that happens to be all right, the second does
    not see that the rare classes may be the hard ones.

    Args:
        correct: shape (n,)
        labels: shape (n,), of the same examples, not negative
    """
    count = np.bincount(labels)
    there = count > 0
    n = count[there]
    accuracy = np.bincount(labels, weights=correct)[there] / n
    mean, K = float(accuracy.mean()), len(n)
    even = mean * (1 - mean)
    stratified = np.where(n > 1, accuracy * (1 - accuracy) / np.maximum(n - 1, 1), even).sum() / K**2
    share = (1 / n).sum() / K**2
    effective = float(min(1 / share, even / stratified) if stratified > 0 else 1 / share)
    return Estimate(mean, wilson(mean * effective, effective))


def calibration_error(confidence: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_]) -> Estimate:
    """Expected calibration error: how far confidence and accuracy are apart, over 15 bins of equal width.

    With the bins (0, 1/15], ..., (14/15, 1] it is the sum over bins of |sum in the bin of (confidence - correct)| / n
    (Guo et al., ICML 2017, arXiv 1706.04599). Noise adds to absolute values, so the value of a perfectly calibrated
    probe is above zero, and bootstrap replicates of it are higher still. The interval is for what unlimited test images
    would give with the same bins. Its ends come from the bins' sums, which are close to normal:

    - Upper: the value is at least the sum with the true signs, whose expectation is the true error. So the error is
      at most the value and 1.96 standard deviations of that sum, to which two wrong examples are added that were not
      seen (as in Agresti and Coull, Am. Stat. 52, 1998).
    - Lower: the value is above the truth by no more than the sum of the absolute noise of the bins. Of that the 97.5%
      quantile is drawn, with a fixed seed, and subtracted. Bins whose sign is clear, beyond sqrt(log n) standard
      deviations from zero, count with their signed noise (Andrews and Soares, Econometrica 78, 2010).

    A bin's variance is the larger of the observed and the one that its confidences imply.

    Args:
        confidence: shape (n,), the probability of the predicted class
        correct: shape (n,), whether it was the true one
    """
    n = len(correct)
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)

    def binned(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.bincount(bins, weights=values, minlength=BINS) / n)

    excess = confidence - correct
    gaps = np.abs(binned(excess))
    value = float(gaps.sum())
    variance = np.maximum(binned(excess**2), binned(confidence * (1 - confidence))) / n
    upper = value + Z95 * sqrt(variance.sum() + 2 / n**2)

    clear = gaps > sqrt(log(n)) * np.sqrt(variance)
    draws = _standard_normal(BINS + 1)
    noise = np.abs(draws[:, :BINS]) @ np.sqrt(np.where(clear, 0, variance))
    noise += draws[:, BINS] * sqrt(variance[clear].sum())
    lower = value - float(np.quantile(noise, 0.975))
    return Estimate(value, (max(0.0, lower), min(1.0, upper)))


def combine(draws: Sequence[Metrics]) -> Metrics:
    """The mean over several draws of the training set, whose probes are scored on the same test images.

    Args:
        draws: at least one; one alone is returned as it is

    Raises:
        ValueError: if there is no draw, or only some have a metric
    """

    def over(name: str, most: float = 1.0) -> Estimate | None:
        found = [estimate for draw in draws if (estimate := getattr(draw, name)) is not None]
        if found and len(found) < len(draws):
            raise ValueError(f"{len(found)} of {len(draws)} draws have {name}; combine draws of one probe")
        return combine_estimates(found, most) if found else None

    if not draws:
        raise ValueError("no draw to combine")
    return Metrics(
        accuracy=combine_estimates([draw.accuracy for draw in draws]),
        top5=over("top5"),
        mean_per_class=over("mean_per_class"),
        nll=over("nll", most=inf),
        ece=over("ece"),
        rmse=over("rmse", most=inf),
        mae=over("mae", most=inf),
    )


def combine_estimates(draws: Sequence[Estimate], most: float = 1.0) -> Estimate:
    """The mean over draws, of a metric between 0 and `most`.

    A half-width is sqrt(a² + b²): a that of Student's t interval of the mean over the draws' values, b the mean of the
    draws' own half-widths on that side. That is wider than needed. The images are the same in all draws, so the
    error that is due to them does not shrink with the number of draws, and b stands for it whole; but b also holds
    how each image's outcome varies from one training set to the next, which a has already from the draws' spread.
    """
    if len(draws) == 1:
        return draws[0]
    values = np.array([one.value for one in draws])
    ends = np.array([one.ci95 for one in draws])
    count, mean = len(values), float(values.mean())
    between = float(stdtrit(count - 1, 0.975) * values.std(ddof=1)) / sqrt(count)
    low, high = np.hypot(between, np.abs(ends - values[:, None]).mean(axis=0))
    return Estimate(mean, (max(0.0, mean - float(low)), min(most, mean + float(high))))


def _columns(classes: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    order = np.argsort(classes)
    place = np.searchsorted(classes, labels, sorter=order)
    columns = order[np.minimum(place, len(classes) - 1)]
    missing = np.unique(labels[classes[columns] != labels])
    if len(missing):
        raise ValueError(f"labels without a column of scores: {list_some(missing, most=5)}")
    return columns


def _read(
    scores: npt.NDArray[np.float32], columns: npt.NDArray[np.int64], probabilities: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """One pass over the scores, a chunk of rows at a time.

    Returns:
        per example how many other classes score at least as high as the true one; and, zeros unless `probabilities`,
        the negative log-probability of the true class and the highest probability
    """
    n, width = scores.shape
    rivals, losses, confidence = np.empty(n, dtype=np.int64), np.zeros(n), np.zeros(n)
    step = max(1, _CHUNK // width)
    for first in range(0, n, step):
        part = slice(first, first + step)
        rows = scores[part]
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            raise ValueError(f"scores of test example {first + int(np.argmin(finite))} are not finite")
        true = np.take_along_axis(rows, columns[part, None], axis=1)
        rivals[part] = np.count_nonzero(rows >= true, axis=1) - 1
        if probabilities:
            highest = rows.max(axis=1, keepdims=True).astype(np.float64)
            shifted = rows - highest
            total = np.exp(shifted, out=shifted).sum(axis=1)
            losses[part] = np.log(total) + (highest - true)[:, 0]
            confidence[part] = 1 / total
    return rivals, losses, confidence


def mean_estimate(losses: npt.NDArray[np.float64]) -> Estimate:
    """The mean of losses that are not negative, with the normal interval from the standard error, cut off at 0."""
    n, mean = len(losses), float(losses.mean())
    # A single image has no spread; that of an exponential distribution is as large as its mean.
    spread = float(losses.std(ddof=1)) if n > 1 else mean
    half = Z95 * spread / sqrt(n)
    return Estimate(mean, (max(0.0, mean - half), mean + half))


@cache
def _standard_normal(columns: int) -> npt.NDArray[np.float64]:
    """Draws of shape (_DRAWS, columns). Each column is one grid of quantiles, shuffled: alone, it has them exactly."""
    grid = ndtri((np.arange(_DRAWS) + 0.5) / _DRAWS)
    draws = np.random.default_rng(0).permuted(np.tile(grid[:, None], columns), axis=0)
    draws.setflags(write=False)  # shared by all callers
    return draws
