"""Ridge classification: a path of regularisation strengths in closed form, for many taps at once.

Least squares on the targets +1 for the own class and -1 for the others, with the form and the alpha of scikit-learn's
RidgeClassifier; s are row weights, all one unless given::

    minimise over W:   sum_i s_i * ||y_i - W z_i||^2  +  alpha * ||W without the intercept||^2

For two classes scikit-learn fits the second class's column alone; the first's is its negative.

In principal axes (`probebench.probes.principal_axes`) the Gram matrix is diagonal, so a strength costs one product. The
prediction for each example by a fit without it follows from the diagonal of the hat matrix (leave-one-out; Hastie,
Tibshirani and Friedman, *The Elements of Statistical Learning*, 2nd edition, equation 7.64).

As a probe, the path is that of the protocol with alpha = 1 / C. The C of highest accuracy on the held-out part of train
is chosen, and fitted again on all of train; if the protocol holds nothing out, the C of highest leave-one-out accuracy
is chosen. Leave-one-out leaves out one row: if other rows are views of the same source image, it is optimistic.

Real-valued targets are fitted as they are, as scikit-learn's Ridge does, and C is chosen by R2 on the held-out part. Of
several labels an image the targets are +1 and -1, 0 where a label is not known, and C is chosen by the mean average
precision.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from probebench._arrays import Array, HostArray
from probebench._hardware import usable_memory
from probebench.catalog.protocols import Protocol
from probebench.catalog.taps import Tap
from probebench.catalog.tasks import CLASSIFICATION, REGRESSION, TASKS
from probebench.probes.base import STRENGTHS, Fit, FitSize, ProbeInfo
from probebench.probes.linear import Linear, make_linear
from probebench.probes.memory import copy_bytes, sent_bytes, taps_at_once
from probebench.probes.operations import OPERATIONS, RIDGE_ROWS, fit_parts
from probebench.probes.parallel import Features, Results, axes_of, encode, fit_batches
from probebench.probes.path import Coefficients, PathSolution, fit_path, split_rows
from probebench.probes.principal_axes import CHUNK_VALUES, PrincipalAxes, principal_axes
from probebench.probes.rows import Rows, choose_best, fit_matched_rows
from probebench.scores import count_outputs, mean_average_precision, r2, task_of


@dataclass(frozen=True)
class RidgeSolution:
    """Solutions for every strength.

    Attributes:
        weights: float64, shape (taps, strengths, classes, 1 + axes), column 0 the intercept
        loo_accuracy: float64, shape (taps, strengths), share of the rows whose class is predicted by a fit without them
        loo_error: float64, shape (taps, strengths), squared error of the same predictions, mean over rows and classes
    """

    weights: torch.Tensor
    loo_accuracy: torch.Tensor
    loo_error: torch.Tensor

    def best(self, by: Literal["accuracy", "error"] = "accuracy") -> torch.Tensor:
        """Return the index of the best strength by leave-one-out, int64, shape (taps,); the first among equals."""
        return self.loo_accuracy.argmax(dim=1) if by == "accuracy" else self.loo_error.argmin(dim=1)


def ridge_path(
    rows: torch.Tensor, labels: torch.Tensor, classes: int, alphas: torch.Tensor, weights: torch.Tensor | None = None
) -> RidgeSolution:
    """Solve all strengths of all taps. Leave-one-out keeps the statistics that features were standardised with.

    Args:
        rows: shape (taps, n, 1 + axes), `PrincipalAxes.rows` made with the same `weights`: column 0 is one, the others
            have mean zero and are orthogonal to each other. They are so up to rounding, which in float32 makes
            solutions inexact where alpha is less than about 1e-6 of the largest eigenvalue of the Gram matrix: prefer
            float64.
        labels: int64, shape (n,), in 0 .. classes - 1
        alphas: float64, shape (taps, strengths), positive; falling, if the strongest of equals is to be the best
        weights: float64, shape (n,), positive; ones by default. Leave-one-out means are weighted by them, too

    Raises:
        ValueError: if a strength is not positive
    """
    if not bool((alphas > 0).all()):
        raise ValueError("every alpha must be positive")
    taps, n, size = rows.shape
    count, device = alphas.shape[1], rows.device
    share = torch.ones(n, dtype=torch.float64) if weights is None else weights.double()
    share, labels, alphas = share.to(device), labels.to(device), alphas.to(device)
    total = share.sum()
    targets = torch.full((n, classes), -1.0, dtype=torch.float64, device=device)
    targets.scatter_(1, labels[:, None], 1.0)
    step = max(1, CHUNK_VALUES // max(size, count * classes))
    chunks = [slice(first, min(first + step, n)) for first in range(0, n, step)]
    intercept, inverse, slopes = _solve(rows, targets, alphas, share, chunks)

    accuracy, error = (torch.zeros(taps, count, dtype=torch.float64, device=device) for _ in range(2))
    for part in chunks:
        z, own = rows[:, part, 1:].double(), share[part, None]
        hat = own * (1 / total + z.square() @ inverse.transpose(1, 2))
        fitted = intercept + (z @ slopes.flatten(1, 2).transpose(1, 2)).view(taps, -1, count, classes)
        truth = targets[part, None]
        # A row that alone decides its own fit (a hat value of one) would divide zero by zero.
        left_out = truth - (truth - fitted) / (1 - hat).clamp(min=1e-12)[..., None]
        accuracy += (own * (left_out.argmax(dim=3) == labels[part, None])).sum(dim=1)
        error += (own * (truth - left_out).square().mean(dim=3)).sum(dim=1)
    solution = torch.cat([intercept.expand(taps, count, -1)[..., None], slopes], dim=3)
    return RidgeSolution(solution, accuracy / total, error / total)


def _solve(
    rows: torch.Tensor, targets: torch.Tensor, alphas: torch.Tensor, share: torch.Tensor, chunks: list[slice]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Solve the normal equations.

    Returns:
        intercepts, of shape (targets,); the inverse diagonal of the penalised Gram matrix, (taps, strengths, axes); and
        slopes, (taps, strengths, targets, axes)
    """
    taps, _, size = rows.shape
    intercept = share @ targets / share.sum()
    norms = torch.zeros(taps, 1, size - 1, dtype=torch.float64, device=rows.device)
    moment = torch.zeros(taps, targets.shape[1], size - 1, dtype=torch.float64, device=rows.device)
    for part in chunks:
        z = rows[:, part, 1:].double()
        weighted = z * share[part, None]
        norms += (weighted * z).sum(dim=1, keepdim=True)
        moment += (targets[part] - intercept).T @ weighted
    inverse = 1 / (norms + alphas[:, :, None])
    return intercept, inverse, moment[:, None] * inverse[:, :, None]


def ridge_targets(rows: torch.Tensor, targets: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
    """Solve ridge regression of real-valued targets for all strengths of all taps.

    Args:
        rows: as of `ridge_path`
        targets: float64, shape (n, targets)
        alphas: float64, shape (taps, strengths), positive

    Returns:
        weights, float64, shape (taps, strengths, targets, 1 + axes), column 0 the intercept
    """
    n, size = rows.shape[1:]
    step = max(1, CHUNK_VALUES // size)
    chunks = [slice(first, min(first + step, n)) for first in range(0, n, step)]
    share = torch.ones(n, dtype=torch.float64, device=rows.device)
    intercept, _, slopes = _solve(rows, targets, alphas, share, chunks)
    return torch.cat([intercept.expand(*alphas.shape, -1)[..., None], slopes], dim=3)


def fit_targets(
    rows: Rows,
    axes: PrincipalAxes,
    test: list[Array],
    path: npt.NDArray[np.float64],
    protocol: Protocol,
    shared: float = 0.0,
) -> list[Fit]:
    """Fit real-valued targets, or labels as +1 and -1; see `probebench.probes.rows.RowsFit`. Rows are float64."""
    begin = time.thread_time()
    taps, device = len(test), rows.values.device
    regression = task_of(rows.labels) is REGRESSION
    values = rows.labels if regression else np.where(rows.labels < 0, 0.0, 2.0 * rows.labels - 1)
    # Without their mean, so that float32 has all digits of what is predicted.
    mean = values.mean(axis=0) if regression else 0.0
    targets = torch.from_numpy(values - mean).to(device)
    index, held_out = np.zeros(taps, dtype=np.int64), None
    if rows.fitted < len(targets):
        # In their own axes, because those of all rows are not orthogonal on a part of them.
        part = [each[: rows.fitted, 1:] for each in rows.values]
        own = principal_axes(part, standardize=False, device=device, dtype=torch.float64)
        alphas = torch.from_numpy(1 / path).to(device).expand(taps, -1)
        weights = ridge_targets(own.rows, targets[: rows.fitted], alphas)
        unseen = own.transform([each[rows.fitted :, 1:] for each in rows.values])
        predicted = (unseen[:, None] @ weights.transpose(2, 3)).cpu().numpy()
        truth, score = rows.labels[rows.fitted :], r2 if regression else mean_average_precision
        scores = np.array([[score(each + mean, truth) for each in found] for found in predicted])
        index = choose_best(scores, protocol)
        held_out = scores[np.arange(taps), index]
    alphas = torch.from_numpy(1 / path[index, None]).to(device)
    predictions = axes.scores(test, ridge_targets(rows.values, targets, alphas))
    predictions = predictions + mean if regression else predictions
    seconds = shared + (time.thread_time() - begin) / taps
    return [
        Fit(
            predictions=predictions[i] if regression else (predictions[i] > 0).astype(np.int64),
            classes=np.arange(targets.shape[1]),
            scores=predictions[i],
            probabilities=False,
            seconds=seconds,
            iterations=0,
            C=float(path[index[i]]),
            gap=0.0,
            held_out_accuracy=None if held_out is None or np.isnan(held_out[i]) else float(held_out[i]),
        )
        for i in range(taps)
    ]


def solve_targets(
    features: HostArray, targets: npt.NDArray[np.float64], C: float, protocol: Protocol, device: str
) -> Linear:
    """Fit real-valued targets at one tap and strength, as `probebench.probes.logistic_path.solve` fits classes."""
    axes = principal_axes([features], standardize=protocol.standardize, device=device, dtype=torch.float64)
    alpha = torch.tensor([[1 / C]], dtype=torch.float64, device=axes.rows.device)
    weights = ridge_targets(axes.rows, torch.from_numpy(targets).to(axes.rows.device), alpha)
    return make_linear(axes, np.arange(targets.shape[1]), weights)


def fit(
    train: Mapping[Tap, Array],
    train_labels: npt.NDArray[Any],
    test: Mapping[Tap, Array],
    held_out: npt.NDArray[np.bool_] | None,
    protocol: Protocol,
    device: str,
    jobs: int,
) -> Iterator[tuple[Tap, Fit]]:
    """See `probebench.probes.Probe`. `Fit.gap` is zero: the solution is exact. On a CPU each batch runs on one core.

    Raises:
        DataError: if there are fewer than two classes
        FeatureError: if the features of a tap are not finite, or a probe does not fit into memory
    """
    assert protocol.path is not None
    path = np.array(protocol.path)
    fitted, rest = split_rows(train_labels, held_out)  # too few classes are refused before any work
    outputs, cores = count_outputs(train_labels), jobs if device == "cpu" else 1
    budget, tested = usable_memory(device) // cores, len(next(iter(test.values())))

    def size(width: int) -> int:
        return ridge_taps(len(train_labels), width, outputs, len(path), budget, device, tested)

    if task_of(train_labels) is not CLASSIFICATION:
        order, count, double = np.concatenate([fitted, rest]), len(fitted), torch.float64
        for tap, both in fit_matched_rows(
            fit_targets, train, train_labels, test, order, count, protocol, device, cores, None, size, double
        ):
            yield tap, both.fit
        return
    known, labels = encode(train_labels)

    def solve(
        train: Features,
        rows: npt.NDArray[np.int64],
        C: npt.NDArray[np.float64],
        start: Coefficients | None = None,  # not used: nothing is iterated
    ) -> PathSolution:
        axes = axes_of(train, rows, protocol.standardize, device, torch.float64)
        found = ridge_path(axes.rows, labels[torch.from_numpy(rows)], len(known), torch.from_numpy(1 / C))
        exact = torch.zeros(C.shape, dtype=torch.float64)
        return PathSolution(axes, known, found.weights, exact.long(), exact, found.loo_accuracy)

    def fit_batch(train: Features, test: Features) -> Results:
        return fit_path(train, test, train_labels, held_out, path, solve, warm=False, probabilities=False)

    yield from fit_batches(fit_batch, train, test, size, cores, device)


def ridge_taps(n: int, width: int, classes: int, strengths: int, budget: int, device: str, tested: int = 0) -> int:
    """Return the number of taps of one width that are solved together; arguments as of `probebench.probes.memory`."""
    one = ridge_bytes(n, width, classes, strengths) + sent_bytes(n, width, tested, device)
    return taps_at_once(one, 8 * n * width, budget, device, f"{n} x {width} features with {classes} classes")


def ridge_bytes(n: int, width: int, classes: int, strengths: int) -> int:
    """Return the most memory, in bytes, of solving one tap's path."""
    axes = 1 + min(n, width)
    chunk = max(CHUNK_VALUES, axes, strengths * classes)
    return 8 * (
        n * axes
        + width * axes
        # The dual form has the features three times, the Gram matrix, its eigenvectors and their workspace. Otherwise
        # the Gram matrix and a product's share of it, its eigenvectors in both orders, their workspace, some rows.
        + (3 * n * width + 7 * n * n if n <= width else 7 * width * width + 3 * chunk)
        # Rows, squares and weighted rows; fitted values, those left out, their difference and its square.
        + 7 * chunk
        + classes * (2 * n + 4 * strengths * axes)
    )


def ridge_operations(n: int, width: int, classes: int, strengths: int, taps: int = 1) -> float:
    """Return the same as `path_operations` for a ridge probe, which is all float64 and in closed form."""
    parts = fit_parts(n, width, classes, strengths, taps)
    single = 1 if n <= width else 2
    making = single * sum(OPERATIONS[name] * parts[name] for name in ("axes", "eigenvectors"))
    return making + RIDGE_ROWS * parts["rows"] + 2 * parts["products"]


def _operations(size: FitSize) -> float:
    return ridge_operations(size.n_train, size.width, size.classes, size.strengths, size.taps)


PROBE = ProbeInfo(
    fit,
    memory=copy_bytes,
    operations=_operations,
    on_device=True,
    needs={"path": STRENGTHS},
    tasks=tuple(TASKS),
)
