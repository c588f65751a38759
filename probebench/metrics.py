"""Metrics of a probe on test images, each with its 95% interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import sqrt
from statistics import fmean, stdev
from typing import Any

import numpy as np
import numpy.typing as npt

from probebench.stats import wilson

BINS = 15
"""Of the top probability in the calibration error."""

_Z = 1.959963984540054
_RESAMPLES = 1000
_CHUNK = 1 << 22  # scores held in float64 at once


@dataclass(frozen=True)
class Estimate:
    """A number and its 95% interval, low and high."""

    value: float
    ci95: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "ci95": list(self.ci95)}


@dataclass(frozen=True)
class Metrics:
    """How good the predictions of a probe are.

    Attributes:
        accuracy: top-1, in [0, 1]
        top5: share of the images whose class is among the five of largest score; None for five classes or fewer
        mean_per_class: accuracy averaged over the classes that are tested: rare ones count as much as common ones
        nll: mean negative log-likelihood of the classes, in nats; None for a probe that gives no probabilities
        ece: expected calibration error in [0, 1]; None likewise
    """

    accuracy: Estimate
    top5: Estimate | None
    mean_per_class: Estimate
    nll: Estimate | None
    ece: Estimate | None

    def to_json(self) -> dict[str, Any]:
        """All but the accuracy, by name."""
        others = [field.name for field in fields(self) if field.name != "accuracy"]
        return {name: None if (found := getattr(self, name)) is None else found.to_json() for name in others}


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
        scores: shape (n, C), the larger the likelier; logits, if `probabilities`
        classes: shape (C,), rising, the class of each column; all of `labels` are among them
        predictions: shape (n,), which decide the accuracy; in the others scores do
        labels: shape (n,)
        probabilities: whether the softmax of the scores is meant as probabilities
    """
    n, count = scores.shape
    correct = predictions == labels
    truth = np.searchsorted(classes, labels)
    place = np.empty(n, dtype=np.int64)  # how many classes come before the true one
    loss, confidence = np.empty(n), np.empty(n)
    step = max(1, _CHUNK // count)
    for first in range(0, n, step):
        part = slice(first, first + step)
        logits = scores[part].astype(np.float64)
        own = logits[np.arange(len(logits)), truth[part], None]
        # Of equal scores, such as those of classes without a neighbour that votes, the first column comes first.
        equal_before = (logits == own) & (np.arange(count) < truth[part, None])
        place[part] = ((logits > own) | equal_before).sum(axis=1)
        if probabilities:
            top = logits.max(axis=1, keepdims=True)
            total = np.exp(logits - top).sum(axis=1)
            loss[part] = (top - own)[:, 0] + np.log(total)
            confidence[part] = 1 / total
    return Metrics(
        accuracy=proportion(correct),
        top5=proportion(place < 5) if count > 5 else None,
        mean_per_class=_mean_per_class(correct, truth),
        nll=_mean(loss) if probabilities else None,
        ece=_calibration_error(confidence, correct) if probabilities else None,
    )


def proportion(right: npt.NDArray[np.bool_]) -> Estimate:
    """A share with Wilson's interval."""
    count = int(np.count_nonzero(right))
    return Estimate(count / len(right), wilson(count, len(right)))


def _mean(values: npt.NDArray[np.float64]) -> Estimate:
    value = float(values.mean())
    # A single image tells nothing of the spread; that of an exponential distribution is as large as its mean.
    spread = float(values.std(ddof=1)) if len(values) > 1 else value
    half = _Z * spread / sqrt(len(values))
    return Estimate(value, (max(0.0, value - half), value + half))


def _mean_per_class(correct: npt.NDArray[np.bool_], labels: npt.NDArray[np.int64]) -> Estimate:
    """Classes are strata, whose sizes are given. Those of one image are taken to vary as all images together do."""
    sizes = np.bincount(labels)
    share = np.bincount(labels, weights=correct)[sizes > 0] / sizes[sizes > 0]
    sizes = sizes[sizes > 0]
    pooled = correct.mean() * (1 - correct.mean())
    variance = np.where(sizes > 1, share * (1 - share) / np.maximum(sizes - 1, 1), pooled)
    value, half = float(share.mean()), _Z * sqrt(float(variance.sum())) / len(share)
    return Estimate(value, (max(0.0, value - half), min(1.0, value + half)))


def _calibration_error(confidence: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_]) -> Estimate:
    """Over bins of equal width (C. Guo et al., arXiv 1706.04599, equation 3).

    The error is a sum of absolute values of sums, one a bin, which together are nearly normal. So they are drawn, not
    the images. The error of a finite sample is too large, the more so the better the calibration, and that of a draw is
    so once more: the basic bootstrap interval, which turns the draws around the estimate, takes that off. Where the
    error is not larger than that of a perfectly calibrated probe may be, the interval begins at zero.
    """
    n = len(correct)
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    excess = confidence - correct
    sums = np.bincount(bins, weights=excess, minlength=BINS)
    spread = np.diag(np.bincount(bins, weights=excess**2, minlength=BINS)) - np.outer(sums, sums) / n
    value = float(np.abs(sums).sum()) / n
    rng = np.random.default_rng(0)
    noise = rng.multivariate_normal(np.zeros(BINS), spread, _RESAMPLES, check_valid="ignore") / n
    low, high = np.quantile(np.abs(noise + sums / n).sum(axis=1), [0.025, 0.975])
    calibrated = value <= np.quantile(np.abs(noise).sum(axis=1), 0.95)
    return Estimate(value, (0.0 if calibrated else max(0.0, 2 * value - float(high)), max(0.0, 2 * value - float(low))))


def combine(draws: Sequence[Metrics]) -> Metrics:
    """The mean over several draws of the training set, whose probes are scored on the same test images."""

    def over(name: str) -> Estimate | None:
        found = [getattr(one, name) for one in draws]
        return None if None in found else combine_estimates(found)

    return Metrics(**{field.name: over(field.name) for field in fields(Metrics)})  # type: ignore[arg-type]


def combine_estimates(draws: Sequence[Estimate]) -> Estimate:
    """The mean over draws. Its interval joins the error of the draws (Student's t) with that of the test images.

    That is taken to be as large as for one draw, the mean of theirs: draws share their test images, so that it does not
    average out. What is one draw's own in it does, so the interval is rather too wide.
    """
    from scipy.stats import t

    if len(draws) == 1:
        return draws[0]
    value = fmean(one.value for one in draws)
    error = float(t.ppf(0.975, len(draws) - 1)) * stdev(one.value for one in draws) / sqrt(len(draws))
    low = sqrt(error**2 + fmean((one.value - one.ci95[0]) ** 2 for one in draws))
    high = sqrt(error**2 + fmean((one.ci95[1] - one.value) ** 2 for one in draws))
    lowest, highest = min(0.0, *(one.ci95[0] for one in draws)), max(1.0, *(one.ci95[1] for one in draws))
    return Estimate(value, (max(lowest, value - low), min(highest, value + high)))
