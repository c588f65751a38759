"""The probe of `default@1`: a path of regularisation strengths solved to the optimum, the best chosen on held-out data.

C is the one of highest accuracy on the held-out part of train, the strongest regularisation among equals; then the
probe is fitted on all of train with that C.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from probebench._arrays import Array, HostArray
from probebench._hardware import usable_memory
from probebench.catalog.protocols import Protocol
from probebench.catalog.taps import Tap
from probebench.probes.base import STRENGTHS, Fit, FitSize, ProbeInfo
from probebench.probes.lbfgs import Solution, solve_path, strength_of
from probebench.probes.linear import Linear, make_linear
from probebench.probes.memory import make_plan, path_bytes
from probebench.probes.operations import count_as_path
from probebench.probes.parallel import Features, Results, axes_of, encode, fit_batches
from probebench.probes.path import Coefficients, PathSolution, fit_path, split_rows
from probebench.probes.principal_axes import PrincipalAxes, principal_axes


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
    assert protocol.path is not None
    path = np.array(protocol.path)
    split_rows(train_labels, held_out)  # too few classes are refused before any work
    cores = jobs if device == "cpu" else 1
    classes, tested = len(np.unique(train_labels)), len(next(iter(test.values())))
    budget = usable_memory(device) // cores
    solve = partial(_solve_rows, labels=train_labels, protocol=protocol, device=device)

    def size(width: int) -> int:
        return make_plan(len(train_labels), width, classes, len(path), budget, device, tested).taps

    def fit_batch(train: Features, test: Features) -> Results:
        return fit_path(train, test, train_labels, held_out, path, solve, warm=True, probabilities=True)

    yield from fit_batches(fit_batch, train, test, size, cores, device)


def solve(features: HostArray, labels: npt.NDArray[np.int64], C: float, protocol: Protocol, device: str) -> Linear:
    """Fit one tap at one strength and return the weights: those that `fit` predicts with, up to its tolerance.

    Args:
        features: float32, shape (n, width), as in `probebench.probes.Probe`
        labels: shape (n,)
        C: inverse regularisation strength, as in `probebench.probes.Fit`

    Raises:
        FeatureError: if the features are not finite
    """
    axes = principal_axes([features], standardize=protocol.standardize, device=device)
    known, solution = _solve(axes, labels, np.array([[C]]), protocol)
    return make_linear(axes, known, solution.weights)


def _solve_rows(
    train: Features,
    rows: npt.NDArray[np.int64],
    C: npt.NDArray[np.float64],
    start: Coefficients | None = None,
    *,
    labels: npt.NDArray[np.int64],
    protocol: Protocol,
    device: str,
) -> PathSolution:
    """See `probebench.probes.path.PathSolver`."""
    axes = axes_of(train, rows, protocol.standardize, device)
    begin = None if start is None else axes.weights(*start)
    classes, solution = _solve(axes, labels[rows], C, protocol, begin)
    return PathSolution(axes, classes, solution.weights, solution.iterations, solution.gap)


def _solve(
    axes: PrincipalAxes,
    labels: npt.NDArray[np.int64],
    C: npt.NDArray[np.float64],
    protocol: Protocol,
    begin: torch.Tensor | None = None,
) -> tuple[npt.NDArray[np.int64], Solution]:
    """The classes in `labels`, and the optimum at every C, of shape (taps, strengths)."""
    known, encoded = encode(labels)
    strengths = torch.from_numpy(strength_of(C, len(labels), len(known))).to(axes.rows.device)
    target = encoded.to(axes.rows.device)
    solution = solve_path(axes.rows, target, len(known), strengths, start=begin, max_iter=protocol.max_iter)
    return known, solution


def _memory(size: FitSize) -> int:
    return path_bytes(size.n_train, size.width, size.classes, size.strengths, size.n_test)


PROBE = ProbeInfo(
    fit,
    memory=_memory,
    operations=count_as_path,
    on_device=True,
    needs={"path": STRENGTHS, "held_out": "a held-out part to choose C on"},
)
