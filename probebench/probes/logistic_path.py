"""The probe of `default@1`: a path of regularisation strengths solved to the optimum, the best chosen on held-out data.

C is chosen by the accuracy on the held-out part of train, the strongest regularisation among equals; then the probe is
fitted on all of train with that C.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from probebench._arrays import Array, HostArray
from probebench._hardware import usable_memory
from probebench.catalog.protocols import Protocol
from probebench.catalog.taps import Tap
from probebench.errors import DataError
from probebench.probes import Fit
from probebench.probes.lbfgs import Solution, solve_path
from probebench.probes.linear import Linear
from probebench.probes.memory import make_plan
from probebench.probes.parallel import axes_of, encode, fit_batches
from probebench.probes.principal_axes import PrincipalAxes, Selected, principal_axes


def fit(
    train: Mapping[Tap, Array],
    train_labels: npt.NDArray[np.int64],
    test: Mapping[Tap, Array],
    held_out: npt.NDArray[np.bool_] | None,
    protocol: Protocol,
    device: str,
    jobs: int,
) -> Iterator[tuple[Tap, Fit]]:
    """See `probebench.probes.Probe`. On a CPU each batch of taps runs on one core.

    Raises:
        DataError: if there are fewer than two classes
        FeatureError: if the features of a tap are not finite, or a probe does not fit into memory
    """
    assert held_out is not None
    if len(np.unique(train_labels[~held_out])) < 2:
        raise DataError("a probe needs training images of at least two classes")
    cores = jobs if device == "cpu" else 1
    classes, strengths = len(np.unique(train_labels)), len(_path(protocol))
    tested = len(next(iter(test.values())))
    budget = usable_memory(device) // cores

    def size(width: int) -> int:
        return make_plan(len(train_labels), width, classes, strengths, budget, device, tested).taps

    fit_batch = partial(_fit_batch, labels=train_labels, held_out=held_out, protocol=protocol, device=device)
    yield from fit_batches(fit_batch, train, test, size, cores, device)


def solve(features: HostArray, labels: npt.NDArray[np.int64], C: float, protocol: Protocol, device: str) -> Linear:
    """The probe of one tap at one strength as weights: what `fit` predicts with, up to its tolerance.

    Args:
        features: float32, shape (n, width), as of `probebench.probes.Probe`
        labels: shape (n,)
        C: inverse regularisation strength, as of `probebench.probes.Fit`

    Raises:
        FeatureError: if the features are not finite
    """
    axes = principal_axes([features], standardize=protocol.standardize, device=device)
    known, solution = _solve(axes, labels, np.array([[C]]), protocol)
    coef, _ = axes.coefficients(solution.weights)
    arrays = (axes.mean[0], axes.scale[0], coef[0, 0] * axes.scale[0], solution.weights[0, 0, :, 0])
    mean, scale, weight, bias = (values.cpu().numpy().astype(np.float32) for values in arrays)
    return Linear(known, mean, scale, weight, bias)


def _path(protocol: Protocol) -> tuple[float, ...]:
    assert protocol.path is not None
    return protocol.path


def _fit_batch(
    train: Mapping[Tap, Array],
    test: Mapping[Tap, Array],
    labels: npt.NDArray[np.int64],
    held_out: npt.NDArray[np.bool_],
    protocol: Protocol,
    device: str,
) -> list[tuple[Tap, Fit]]:
    """Taps of equal width."""
    start = time.thread_time()
    path = np.array(_path(protocol))
    taps = list(train)
    fitted, rest = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    axes = axes_of(train, fitted, protocol.standardize, device)
    repeated = np.tile(path, (len(taps), 1))
    known, solution = _solve(axes, labels[fitted], repeated, protocol)
    choice = np.zeros(len(taps), dtype=np.int64)
    accuracies = np.full((len(taps), len(path)), np.nan)
    if len(rest):
        predicted = axes.predict([Selected(values, rest) for values in train.values()], solution.weights)
        accuracies = (known[predicted] == labels[rest]).mean(axis=2)
        choice = accuracies.argmax(axis=1)  # the first, and so the strongest regularisation, among equals
    chosen = torch.from_numpy(choice).to(solution.weights.device)[:, None, None, None]
    best = solution.weights.take_along_dim(chosen, dim=1)
    coefficients = axes.coefficients(best)
    del axes

    axes = axes_of(train, np.arange(len(labels)), protocol.standardize, device)
    all_known = np.unique(labels)
    begin = None
    if len(known) == len(all_known):
        begin = axes.weights(*coefficients)
    known, final = _solve(axes, labels, path[choice][:, None], protocol, begin)
    scores = axes.scores(list(test.values()), final.weights)

    seconds = (time.thread_time() - start) / len(taps)
    iterations = (solution.iterations.sum(dim=1) + final.iterations.sum(dim=1)).tolist()
    gaps = torch.maximum(solution.gap.amax(dim=1), final.gap.amax(dim=1)).tolist()
    fits = []
    for i, tap in enumerate(taps):
        fit = Fit(
            predictions=known[scores[i].argmax(axis=1)],
            classes=known,
            scores=scores[i],
            probabilities=True,
            seconds=seconds,
            iterations=iterations[i],
            C=float(path[choice[i]]),
            gap=float(gaps[i]),
            held_out_accuracy=float(accuracies[i, choice[i]]) if len(rest) else None,
        )
        fits.append((tap, fit))
    return fits


def _solve(
    axes: PrincipalAxes,
    labels: npt.NDArray[np.int64],
    C: npt.NDArray[np.float64],
    protocol: Protocol,
    begin: torch.Tensor | None = None,
) -> tuple[npt.NDArray[np.int64], Solution]:
    """The classes there are, and the optimum at every C, of shape (taps, strengths)."""
    known, encoded = encode(labels)
    strengths = torch.from_numpy(1 / (C * len(labels))).to(axes.rows.device)
    if len(known) == 2:
        # scikit-learn penalises the difference of the two classes' weights, which is twice as long as each.
        strengths = 2 * strengths
    target = encoded.to(axes.rows.device)
    solution = solve_path(axes.rows, target, len(known), strengths, start=begin, max_iter=protocol.max_iter)
    return known, solution
