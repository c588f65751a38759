"""Fit a path of regularisation strengths: choose one on held-out rows, then fit again with it on all rows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from probebench.catalog.tasks import CLASSIFICATION
from probebench.errors import DataError
from probebench.probes.base import Fit
from probebench.probes.parallel import Features, Results
from probebench.probes.principal_axes import PrincipalAxes, Selected
from probebench.scores import task_of

Coefficients = tuple[torch.Tensor, torch.Tensor]
"""Coefficients and intercepts on the features as they were given, see `PrincipalAxes.coefficients`."""


@dataclass(frozen=True)
class PathSolution:
    """Taps of equal width solved at several strengths.

    Attributes:
        axes: of the rows that were fitted on
        classes: int64, shape (C,), the label of each class
        weights: float64, shape (taps, strengths, C, 1 + axes), column 0 the intercept
        iterations: int64, shape (taps, strengths)
        gap: float64, shape (taps, strengths), relative distance to the optimum
        loo_accuracy: float64, shape (taps, strengths), leave-one-out; None if the solver has none
    """

    axes: PrincipalAxes
    classes: npt.NDArray[np.int64]
    weights: torch.Tensor
    iterations: torch.Tensor
    gap: torch.Tensor
    loo_accuracy: torch.Tensor | None = None


class PathSolver(Protocol):
    """Solves taps of equal width on some of their rows."""

    def __call__(
        self,
        train: Features,
        rows: npt.NDArray[np.int64],
        C: npt.NDArray[np.float64],
        start: Coefficients | None = None,
    ) -> PathSolution:
        """Solve every tap at its strengths.

        Args:
            train: per tap, of shape (n, width)
            rows: which of the n rows
            C: inverse regularisation strengths, shape (taps, strengths)
            start: for all classes of `rows`, where to start from; None for a start from zero
        """
        ...


def split_rows(
    labels: npt.NDArray[Any], held_out: npt.NDArray[np.bool_] | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The rows to fit on and the rows that are held out.

    Raises:
        DataError: if there are fewer than two classes to fit on
    """
    mask = np.zeros(len(labels), dtype=bool) if held_out is None else held_out
    fitted, rest = np.flatnonzero(~mask), np.flatnonzero(mask)
    if task_of(labels) is CLASSIFICATION and len(np.unique(labels[fitted])) < 2:
        raise DataError("a probe needs training images of at least two classes")
    return fitted, rest


def fit_path(
    train: Features,
    test: Features,
    labels: npt.NDArray[np.int64],
    held_out: npt.NDArray[np.bool_] | None,
    path: npt.NDArray[np.float64],
    solve: PathSolver,
    *,
    warm: bool,
    probabilities: bool,
) -> Results:
    """Fit taps of equal width.

    The strength of highest accuracy on the held-out rows is chosen, the first among equals, and the probe fitted again
    on all rows. If no rows are held out, the strength of highest leave-one-out accuracy is chosen, if the solver has
    one, and the first of the path otherwise.

    Args:
        train, test: per tap, of shapes (n, width) and (n_test, width)
        labels: shape (n,)
        held_out: shape (n,); None if no rows are held out
        path: inverse regularisation strengths, rising, so that the first is the strongest regularisation
        warm: whether the last fit starts from the chosen solution
        probabilities: see `Fit`
    """
    begin = time.thread_time()
    taps = list(train)
    fitted, rest = split_rows(labels, held_out)
    solution = solve(train, fitted, np.tile(path, (len(taps), 1)))
    iterations, gap = solution.iterations.sum(dim=1), solution.gap.amax(dim=1)
    choice = np.zeros(len(taps), dtype=np.int64)
    accuracies = None
    if len(rest):
        predicted = solution.axes.predict([Selected(values, rest) for values in train.values()], solution.weights)
        accuracies = (solution.classes[predicted] == labels[rest]).mean(axis=2)
        choice = accuracies.argmax(axis=1)
    elif solution.loo_accuracy is not None:
        accuracies = solution.loo_accuracy.cpu().numpy()
        choice = solution.loo_accuracy.argmax(dim=1).cpu().numpy()
    chosen = torch.from_numpy(choice).to(solution.weights.device)[:, None, None, None]
    weights = solution.weights.take_along_dim(chosen, dim=1)
    if len(rest) or accuracies is None:
        start = None
        if warm and len(solution.classes) == len(np.unique(labels)):
            start = solution.axes.coefficients(weights)
        del solution, weights  # before the next are made
        solution = solve(train, np.arange(len(labels)), path[choice][:, None], start)
        iterations, gap = iterations + solution.iterations[:, 0], torch.maximum(gap, solution.gap[:, 0])
        weights = solution.weights
    scores = solution.axes.scores(list(test.values()), weights)
    seconds = (time.thread_time() - begin) / len(taps)
    counts, gaps = iterations.tolist(), gap.tolist()
    return [
        (
            tap,
            Fit(
                predictions=solution.classes[scores[i].argmax(axis=1)],
                classes=solution.classes,
                scores=scores[i],
                probabilities=probabilities,
                seconds=seconds,
                iterations=counts[i],
                C=float(path[choice[i]]),
                gap=gaps[i],
                held_out_accuracy=None if accuracies is None else float(accuracies[i, choice[i]]),
            ),
        )
        for i, tap in enumerate(taps)
    ]
