"""Fit probes on the features of many taps and score them on the test images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Any

import numpy as np
import numpy.typing as npt

from probebench._arrays import Array, take
from probebench.catalog.protocols import Protocol
from probebench.catalog.taps import Tap
from probebench.catalog.tasks import CLASSIFICATION, MULTILABEL, REGRESSION, Task
from probebench.metrics import Estimate, Metrics, combine, combine_estimates, measure, proportion
from probebench.probes.base import Fit, MatchedFit, find_probe
from probebench.probes.width_control import project_wide_taps
from probebench.scores import Scored, measure_labels, measure_targets, task_of
from probebench.stats import Scores

Features = Mapping[Tap, Array]


@dataclass(frozen=True)
class TrainingSet:
    """The rows and labels that one probe is fitted on.

    Attributes:
        rows: int64, shape (n,), indices into the training images that features were extracted from; None for all
        labels: shape (n,) or (n, outputs), as in `probebench.probes.Probe`
        held_out: bool, shape (n,), the part to choose hyperparameters on; None if there is none
    """

    rows: npt.NDArray[np.int64] | None
    labels: npt.NDArray[Any]
    held_out: npt.NDArray[np.bool_] | None


@dataclass(frozen=True)
class WidthMatched:
    """The score of a tap whose features were projected to the width of the residual stream.

    Attributes:
        width: of the residual stream: the number of principal components that were kept
        accuracy: top-1 on the test split, or the score of the task
    """

    width: int
    accuracy: Estimate


@dataclass(frozen=True)
class Combination:
    """The comparison of a concatenation of taps with the best of them.

    Attributes:
        members: the taps, in the order of the concatenation
        best_member: the one that is best on held-out images; None if none of them was measured alone
        gain: test accuracy of the concatenation minus that of `best_member`
        p_value: that the two are equally good, by the exact two-sided paired test
        tried: the number of concatenations that were fitted to find it
    """

    members: tuple[Tap, ...]
    best_member: Tap | None
    gain: float | None
    p_value: float | None
    tried: int


@dataclass(frozen=True)
class LinearBeside:
    """The linear probe on the mean of the tokens that another probe was fitted on.

    Attributes:
        accuracy: on the test split, in [0, 1]
        ci95: its 95% interval
        p_value: that the two probes are equally good, by the exact two-sided paired test
    """

    accuracy: float
    ci95: tuple[float, float]
    p_value: float


@dataclass(frozen=True)
class TapResult:
    """The result of one case. With several draws of the training set, numbers are means over draws.

    Attributes:
        tap: that features were read at
        width: number of features
        metrics: on the test split
        correct: bool, which test examples were right: shape (n_test,), or (draws, n_test) for several draws. If the
            labels are no classes, float32: the score of each test example, see `probebench.scores`
        seconds: of the tap's own fits and its share of the extraction
        iterations: of the probe's solver, summed over all problems that it solved
        C: inverse regularisation strength of the probe, the median over draws; None if it has none
        gap: largest relative distance to the optimum, as the solver estimates it; None if it gives no estimate
        held_out_accuracy: on the held-out part of train, or leave-one-out if the probe chose C by that; None if there
            is neither
        width_matched: the same tap at the width of the residual stream; None if it is no wider
        task: of the labels
        same_as: the tap with the same features up to rounding, of which this is a copy; None if it was fitted
        combination: of a concatenation of taps, how it compares with them
        linear: of a probe on tokens, the linear probe on their mean
    """

    tap: Tap
    width: int
    metrics: Metrics
    correct: Scores
    seconds: float
    iterations: int
    C: float | None
    gap: float | None
    held_out_accuracy: float | None
    width_matched: WidthMatched | None = None
    task: Task = CLASSIFICATION
    same_as: Tap | None = None
    combination: Combination | None = None
    linear: LinearBeside | None = None

    def __repr__(self) -> str:
        C = "" if self.C is None else f", C {self.C:g}"
        held_out = "" if self.held_out_accuracy is None else f", held-out {self.task.text(self.held_out_accuracy)}"
        accuracy = f"{self.task.text(self.accuracy)} ({self.task.interval(self.ci95)})"
        return f"<TapResult {self.tap.id}: {accuracy}, width {self.width}{C}{held_out}>"

    @property
    def accuracy(self) -> float:
        """Top-1 on the test split, in [0, 1]; of labels the mean average precision, of real-valued targets R2."""
        return self.metrics.accuracy.value

    @property
    def ci95(self) -> tuple[float, float]:
        """The 95% interval of the accuracy."""
        return self.metrics.accuracy.ci95

    @property
    def draws(self) -> int:
        return len(np.atleast_2d(self.correct))


def probe_taps(
    train: Features,
    test: Features,
    sets: Sequence[TrainingSet],
    test_labels: npt.NDArray[Any],
    protocol: Protocol,
    *,
    narrow: int | None,
    device: str,
    jobs: int,
) -> Iterator[TapResult]:
    """Fit a probe at every tap on every training set.

    Args:
        train, test: per tap float32 features of shape (n, width) and (n_test, width), normalised row by row as the
            protocol says, not standardised; on the host or on the device
        sets: the training sets, one a draw
        narrow: width of the residual stream, to which wider taps are projected as a control; None for no control
        device, jobs: as in `probebench.probes.Probe`

    Yields:
        the result of each tap, once its last fit is done, in any order
    """
    fits: dict[Tap, list[Fit]] = {tap: [] for tap in train}
    scored: dict[Tap, list[Scored]] = {tap: [] for tap in train}
    matched: dict[Tap, list[Estimate]] = {tap: [] for tap in train}
    for chosen in sets:
        features = train if chosen.rows is None else {tap: take(each, chosen.rows) for tap, each in train.items()}
        for tap, both in _fit_matched(features, chosen, test, protocol, narrow, device, jobs):
            fit = both.fit
            scored[tap].append(_score(fit, test_labels))
            if both.narrow is None:
                matched[tap].append(scored[tap][-1].metrics.accuracy)
            else:
                matched[tap].append(_score_control(both.narrow, test_labels))
                fit = replace(fit, seconds=fit.seconds + both.narrow.seconds)
            fits[tap].append(replace(fit, scores=fit.scores[:0]))  # scores are large, and not needed any more
            if len(fits[tap]) == len(sets):
                result = _result(tap, train[tap].shape[-1], fits[tap], scored[tap], task_of(test_labels))
                if narrow is not None and result.width > narrow:
                    result = replace(result, width_matched=WidthMatched(narrow, combine_estimates(matched[tap])))
                yield result


def _score(fit: Fit, labels: npt.NDArray[Any]) -> Scored:
    """Score a fit by the task of the labels."""
    task = task_of(labels)
    if task is MULTILABEL:
        return measure_labels(fit.scores, labels, probabilities=fit.probabilities)
    if task is REGRESSION:
        return measure_targets(fit.scores, labels)
    metrics = measure(fit.scores, fit.classes, fit.predictions, labels, probabilities=fit.probabilities)
    return Scored(metrics, fit.predictions == labels)


def _score_control(fit: Fit, labels: npt.NDArray[Any]) -> Estimate:
    """Return the score of a width control."""
    if task_of(labels) is CLASSIFICATION:
        return proportion(fit.predictions == labels)
    return _score(fit, labels).metrics.accuracy


def _fit_matched(
    train: Features,
    chosen: TrainingSet,
    test: Features,
    protocol: Protocol,
    narrow: int | None,
    device: str,
    jobs: int,
) -> Iterator[tuple[Tap, MatchedFit]]:
    """Yield every tap with its fit and its width control, in any order."""
    probe = find_probe(protocol.probe)
    if probe.fit_matched is not None:
        yield from probe.fit_matched(train, chosen.labels, test, chosen.held_out, protocol, device, jobs, narrow)
        return
    # The control comes first, so that a tap is complete with its own fit. Components are not standardised, because that
    # would remove their unequal variances.
    controls: dict[Tap, Fit] = {}
    leading = project_wide_taps(train, test, narrow, protocol, device, jobs)
    if leading is not None:
        plain = replace(protocol, standardize=False)
        for tap, fit in probe.fit(leading[0], chosen.labels, leading[1], chosen.held_out, plain, device, jobs):
            # What is scored by its predictions needs no scores, which are large.
            controls[tap] = replace(fit, scores=fit.scores[:0]) if task_of(chosen.labels) is CLASSIFICATION else fit
        del leading
    for tap, fit in probe.fit(train, chosen.labels, test, chosen.held_out, protocol, device, jobs):
        yield tap, MatchedFit(fit, controls.get(tap))


def _result(
    tap: Tap,
    width: int,
    fits: Sequence[Fit],
    scored: Sequence[Scored],
    task: Task,
) -> TapResult:
    each: list[npt.NDArray[Any]] = [one.scores for one in scored]
    correct = each[0] if len(each) == 1 else np.stack(each)
    strengths = [fit.C for fit in fits if fit.C is not None]
    gaps = [fit.gap for fit in fits if fit.gap is not None]
    held_out = [fit.held_out_accuracy for fit in fits if fit.held_out_accuracy is not None]
    return TapResult(
        tap=tap,
        width=width,
        metrics=combine([one.metrics for one in scored]),
        correct=correct,
        seconds=sum(fit.seconds for fit in fits),
        iterations=sum(fit.iterations for fit in fits),
        C=median(strengths) if strengths else None,
        gap=max(gaps) if gaps else None,
        held_out_accuracy=fmean(held_out) if held_out else None,
        task=task,
    )
