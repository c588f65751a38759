"""Several labels an image: logistic regression of each label, at one strength for all that is chosen by mean average
precision.

It is the probe of `probebench.probes.logistic` with another loss: C rises along the protocol's path, each value is
fitted on the part of train that is not held out and scored by the mean average precision on the part that is, smoothed
over neighbouring values; the last fit is on all of train. The labels share C, so a rare label need not choose a C by a
few held-out images.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import torch

from probebench._arrays import Array, HostArray
from probebench.catalog.protocols import Protocol
from probebench.probes.base import Fit
from probebench.probes.choice import Chosen, Step, rise
from probebench.probes.lbfgs import solve_labels
from probebench.probes.linear import Linear, make_linear
from probebench.probes.principal_axes import PrincipalAxes, principal_axes
from probebench.probes.rows import Rows, in_steps
from probebench.scores import Labels, mean_average_precision


def fit_labels(
    rows: Rows,
    axes: PrincipalAxes,
    test: list[Array],
    path: npt.NDArray[np.float64],
    protocol: Protocol,
    shared: float = 0.0,
) -> list[Fit]:
    """See `probebench.probes.rows.RowsFit`."""
    begin = time.thread_time()
    choice, taps, device = _choose_strength(rows, path, protocol), len(test), rows.values.device
    index = np.zeros(taps, dtype=np.int64) if choice is None else choice.index
    found = solve_labels(
        rows.values,
        torch.from_numpy(rows.labels).to(device),
        torch.from_numpy(path[index]).to(device),
        start=None if choice is None else choice.weights,
        max_iter=protocol.max_iter,
    )
    scores = axes.scores(test, found.weights)
    seconds = shared + (time.thread_time() - begin) / taps
    iterations = found.iterations.sum(dim=1).cpu().numpy() + (0 if choice is None else choice.iterations)
    gap = found.gap.amax(dim=1).tolist()
    return [
        Fit(
            predictions=(scores[i] > 0).astype(np.int64),
            classes=np.arange(rows.labels.shape[1]),
            scores=scores[i],
            probabilities=True,
            seconds=seconds,
            iterations=int(iterations[i]),
            C=float(path[index[i]]),
            gap=gap[i],
            held_out_accuracy=None if choice is None or np.isnan(choice.score[i]) else float(choice.score[i]),
        )
        for i in range(taps)
    ]


def _choose_strength(rows: Rows, path: npt.NDArray[np.float64], protocol: Protocol) -> Chosen | None:
    """Fit the path on the rows that are not held out until no strength of the rest can be better; None if no rows are
    held out."""
    taps, n, _ = rows.values.shape
    if rows.fitted == n:
        return None
    device = rows.values.device
    fitted = torch.from_numpy(rows.labels[: rows.fitted]).to(device)
    unseen = rows.labels[rows.fitted :]

    def fit(k: int, live: npt.NDArray[np.int64], start: torch.Tensor | None) -> Step:
        values = rows.values if len(live) == taps else rows.values[live]
        found = solve_labels(
            values[:, : rows.fitted],
            fitted,
            torch.full((len(live),), float(path[k]), dtype=torch.float64, device=device),
            start=start,
            tol=protocol.path_gap or 1e-6,
            max_iter=protocol.max_iter,
            verify=False,
        )
        logits = values[:, rows.fitted :] @ found.weights[:, 0].to(values.dtype).transpose(1, 2)
        score = np.array([mean_average_precision(scores, unseen) for scores in logits.cpu().numpy()])
        return Step(found.weights[:, 0], score, found.iterations.sum(dim=1).cpu().numpy())

    return rise(taps, len(path), protocol, fit, in_steps)


def solve(features: HostArray, labels: Labels, C: float, protocol: Protocol, device: str) -> Linear:
    """Fit one tap at one strength and return the weights, as `probebench.probes.logistic_path.solve` does."""
    axes = principal_axes([features], standardize=protocol.standardize, device=device)
    strength = torch.tensor([C], dtype=torch.float64, device=axes.rows.device)
    found = solve_labels(axes.rows, torch.from_numpy(labels), strength, max_iter=protocol.max_iter)
    return make_linear(axes, np.arange(labels.shape[1]), found.weights)
