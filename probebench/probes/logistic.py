"""The probe of `default@2`: multinomial logistic regression whose C is chosen by smoothed held-out accuracy.

C rises along the protocol's path, one value after the other. Each is fitted on the part of train that is not held out
and scored on the part that is; the scores are smoothed over neighbouring values. Once `Protocol.patience` values in a
row are no better, the rest of the path is left out. The fits that choose C are as exact as `Protocol.path_gap`; the
last one, on all of train at the chosen C, is solved to its optimum.

Features are standardised and rotated into their principal axes once, by all of train, and all fits work on these rows.
Neither needs labels, and the L2 penalty is the same in any orthogonal basis. The width control of a wide tap is the
same probe on the leading axes, so it needs no features of its own.

Labels that are no single class have a probe of the same kind: `probebench.probes.sigmoid` for any number of labels an
image, `probebench.probes.ridge` for real numbers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from probebench._arrays import Array
from probebench._hardware import usable_memory
from probebench.catalog.protocols import Protocol
from probebench.catalog.taps import Tap
from probebench.catalog.tasks import CLASSIFICATION, MULTILABEL, REGRESSION, TASKS
from probebench.probes.base import STRENGTHS, Fit, FitSize, MatchedFit, ProbeInfo
from probebench.probes.choice import Step, rise
from probebench.probes.lbfgs import solve_path, strength_of
from probebench.probes.memory import make_plan, path_bytes
from probebench.probes.operations import chosen_path_operations
from probebench.probes.parallel import encode
from probebench.probes.path import split_rows
from probebench.probes.principal_axes import PrincipalAxes
from probebench.probes.ridge import fit_targets, ridge_bytes, ridge_operations, ridge_taps
from probebench.probes.rows import Rows, RowsFit, fit_matched_rows
from probebench.probes.sigmoid import fit_labels
from probebench.scores import count_outputs, task_of


@dataclass(frozen=True)
class _Choice:
    """The strengths that were chosen for a batch of taps.

    Attributes:
        index: int64, shape (taps,), into the path
        accuracy: float64, shape (taps,), on the held-out rows; None if there are none
        start: float64, shape (taps, 1, C, 1 + axes), the weights; None if the fitted rows lack a class
        iterations: int64, shape (taps,)
    """

    index: npt.NDArray[np.int64]
    accuracy: npt.NDArray[np.float64] | None
    start: torch.Tensor | None
    iterations: npt.NDArray[np.int64]


def fit(
    train: Mapping[Tap, Array],
    train_labels: npt.NDArray[Any],
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
    for tap, both in fit_matched(train, train_labels, test, held_out, protocol, device, jobs, narrow=None):
        yield tap, both.fit


def fit_matched(
    train: Mapping[Tap, Array],
    train_labels: npt.NDArray[Any],
    test: Mapping[Tap, Array],
    held_out: npt.NDArray[np.bool_] | None,
    protocol: Protocol,
    device: str,
    jobs: int,
    narrow: int | None,
) -> Iterator[tuple[Tap, MatchedFit]]:
    """Do as `fit` does, and fit wide taps also on their `narrow` leading principal axes; None for no such control."""
    assert protocol.path is not None
    task = task_of(train_labels)
    fitted, rest = split_rows(train_labels, held_out)
    order = np.concatenate([fitted, rest])
    cores = jobs if device == "cpu" else 1
    outputs, tested = count_outputs(train_labels), len(next(iter(test.values())))
    budget, strengths = usable_memory(device) // cores, len(protocol.path)

    def size(width: int) -> int:
        if task is REGRESSION:
            return ridge_taps(len(order), width, outputs, strengths, budget, device, tested)
        return make_plan(len(order), width, outputs, strengths, budget, device, tested, together=1).taps

    fit_rows: RowsFit = {CLASSIFICATION: _fit_rows, MULTILABEL: fit_labels, REGRESSION: fit_targets}[task]
    dtype = torch.float64 if task is REGRESSION else torch.float32
    yield from fit_matched_rows(
        fit_rows, train, train_labels, test, order, len(fitted), protocol, device, cores, narrow, size, dtype
    )


def _fit_rows(
    rows: Rows,
    axes: PrincipalAxes,
    test: list[Array],
    path: npt.NDArray[np.float64],
    protocol: Protocol,
    shared: float = 0.0,
) -> list[Fit]:
    """Choose C for every tap of a batch, fit it on all rows, and predict; see `probebench.probes.rows.RowsFit`."""
    begin = time.thread_time()
    choice = _choose_strength(rows, path, protocol)
    known, encoded = encode(rows.labels)
    device = rows.values.device
    strengths = torch.from_numpy(strength_of(path[choice.index, None], len(rows.labels), len(known))).to(device)
    found = solve_path(
        rows.values, encoded.to(device), len(known), strengths, start=choice.start, max_iter=protocol.max_iter
    )
    scores = axes.scores(test, found.weights)
    seconds = shared + (time.thread_time() - begin) / len(test)
    iterations = choice.iterations + found.iterations[:, 0].cpu().numpy()
    gap = found.gap[:, 0].tolist()
    return [
        Fit(
            predictions=known[scores[i].argmax(axis=1)],
            classes=known,
            scores=scores[i],
            probabilities=True,
            seconds=seconds,
            iterations=int(iterations[i]),
            C=float(path[choice.index[i]]),
            gap=gap[i],
            held_out_accuracy=None if choice.accuracy is None else float(choice.accuracy[i]),
        )
        for i in range(len(test))
    ]


def _choose_strength(rows: Rows, path: npt.NDArray[np.float64], protocol: Protocol) -> _Choice:
    """Fit the path on the rows that are not held out until no strength of the rest can be better."""
    assert protocol.path_gap is not None
    gap, (taps, n, _) = protocol.path_gap, rows.values.shape
    if rows.fitted == n:
        return _Choice(np.zeros(taps, dtype=np.int64), None, None, np.zeros(taps, dtype=np.int64))
    device = rows.values.device
    known, encoded = encode(rows.labels[: rows.fitted])
    encoded, unseen = encoded.to(device), torch.from_numpy(rows.labels[rows.fitted :]).to(device)
    labels = torch.from_numpy(known).to(device)
    strengths = torch.from_numpy(strength_of(path, rows.fitted, len(known))).to(device)

    def fit(k: int, live: npt.NDArray[np.int64], start: torch.Tensor | None) -> Step:
        values = rows.values if len(live) == taps else rows.values[live]
        found = solve_path(
            values[:, : rows.fitted],
            encoded,
            len(known),
            strengths[k].expand(len(live), 1),
            start=start,
            tol=gap,
            max_iter=protocol.max_iter,
            verify=False,
        )
        logits = values[:, rows.fitted :] @ found.weights[:, 0].to(values.dtype).transpose(1, 2)
        correct = (labels[logits.argmax(dim=2)] == unseen).sum(dim=1).cpu().numpy().astype(np.float64)
        return Step(found.weights, correct, found.iterations[:, 0].cpu().numpy())

    chosen = rise(taps, len(path), protocol, fit, lambda correct: correct.astype(np.int64))
    complete = len(known) == len(np.unique(rows.labels))
    start = chosen.weights if complete else None
    return _Choice(chosen.index, chosen.score / len(unseen), start, chosen.iterations)


def _memory(size: FitSize) -> int:
    if size.task == REGRESSION.name:
        return ridge_bytes(size.n_train, size.width, size.classes, size.strengths)
    return path_bytes(size.n_train, size.width, size.classes, size.strengths, size.n_test, together=1)


def _operations(size: FitSize) -> float:
    if size.task == REGRESSION.name:
        return ridge_operations(size.n_train, size.width, size.classes, size.strengths, size.taps)
    return chosen_path_operations(size)


PROBE = ProbeInfo(
    fit,
    memory=_memory,
    operations=_operations,
    on_device=True,
    needs={
        "path": STRENGTHS,
        "held_out": "a held-out part to choose C on",
        "choice": "a rule that chooses C",
        "patience": "when to leave out the rest of the path",
        "path_gap": "how exact the fits are that choose C",
    },
    fit_matched=fit_matched,
    tasks=tuple(TASKS),
)
