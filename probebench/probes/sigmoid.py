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
from probebench.probes.choice import choose, is_settled
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
    index, held_out, start, iterations = _choose_strength(rows, path, protocol)
    device = rows.values.device
    found = solve_labels(
        rows.values,
        torch.from_numpy(rows.labels).to(device),
        torch.from_numpy(path[index]).to(device),
        start=start,
        max_iter=protocol.max_iter,
    )
    scores = axes.scores(test, found.weights)
    seconds = shared + (time.thread_time() - begin) / len(test)
    iterations += found.iterations.sum(dim=1).cpu().numpy()
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
            held_out_accuracy=None if held_out is None or np.isnan(held_out[i]) else float(held_out[i]),
        )
        for i in range(len(test))
    ]


def _choose_strength(
    rows: Rows, path: npt.NDArray[np.float64], protocol: Protocol
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64] | None, torch.Tensor | None, npt.NDArray[np.int64]]:
    """Fit the path on the rows that are not held out until no strength of the rest can be better.

    Returns:
        by tap the index of the strength, its held-out score, the weights that it gave, of shape (taps, labels, axes),
        and the iterations; no score and no weights if no rows are held out
    """
    assert protocol.patience is not None
    taps, n, size = rows.values.shape
    index, iterations = np.zeros(taps, dtype=np.int64), np.zeros(taps, dtype=np.int64)
    if rows.fitted == n:
        return index, None, None, iterations
    device = rows.values.device
    fitted = torch.from_numpy(rows.labels[: rows.fitted]).to(device)
    unseen = rows.labels[rows.fitted :]
    held_out = np.zeros((taps, len(path)))
    solved: list[torch.Tensor] = []
    chosen = torch.zeros(taps, rows.labels.shape[1], size, dtype=torch.float64, device=device)
    live = np.arange(taps)
    for k in range(len(path)):
        values = rows.values if len(live) == taps else rows.values[live]
        start = None if not solved else solved[-1] if len(solved) == 1 else 2 * solved[-1] - solved[-2]
        found = solve_labels(
            values[:, : rows.fitted],
            fitted,
            torch.full((len(live),), float(path[k]), dtype=torch.float64, device=device),
            start=None if start is None else start[live],
            tol=protocol.path_gap or 1e-6,
            max_iter=protocol.max_iter,
            verify=False,
        )
        weights = torch.zeros_like(chosen)
        weights[live] = found.weights[:, 0]
        solved.append(weights)
        logits = values[:, rows.fitted :] @ found.weights[:, 0].to(values.dtype).transpose(1, 2)
        for tap, scores in zip(live, logits.cpu().numpy(), strict=True):
            held_out[tap, k] = mean_average_precision(scores, unseen)
        iterations[live] += found.iterations.sum(dim=1).cpu().numpy()
        last = k + 1 == len(path)
        done = np.full(len(live), last)
        if not last and k + 1 >= (protocol.path_least or 0):
            done = is_settled(in_steps(held_out[live, : k + 1]), protocol.patience)
        stopped = live[done]
        if len(stopped):
            index[stopped] = choose(in_steps(held_out[stopped, : k + 1]), ended=last)
            for tap in stopped:
                chosen[tap] = solved[index[tap]][tap]
            live = live[~done]
        if not len(live):
            break
    return index, held_out[np.arange(taps), index], chosen, iterations


def solve(features: HostArray, labels: Labels, C: float, protocol: Protocol, device: str) -> Linear:
    """Fit one tap at one strength and return the weights, as `probebench.probes.logistic_path.solve` does."""
    axes = principal_axes([features], standardize=protocol.standardize, device=device)
    strength = torch.tensor([C], dtype=torch.float64, device=axes.rows.device)
    found = solve_labels(axes.rows, torch.from_numpy(labels), strength, max_iter=protocol.max_iter)
    return make_linear(axes, np.arange(labels.shape[1]), found.weights)
