"""Fit a batch of taps on their rows in principal axes, and wide taps also on the leading axes: the width control.

What is fitted depends on the labels: `probebench.probes.logistic` fits one class an image, `probebench.probes.sigmoid`
any number of labels, `probebench.probes.ridge` real numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from typing import Protocol as TypingProtocol

import numpy as np
import numpy.typing as npt
import torch

from probebench._arrays import Array
from probebench.catalog.protocols import Protocol
from probebench.catalog.taps import Tap
from probebench.probes.base import Fit, MatchedFit
from probebench.probes.choice import choose
from probebench.probes.parallel import Features, axes_of, fit_batches
from probebench.probes.principal_axes import PrincipalAxes
from probebench.probes.width_control import NOTHING, needs_control

STEPS = 1e6
"""Scores that are no whole numbers of images are chosen by in millionths, so that what differs by rounding is equal."""

WORST = -1e6
"""R2 has no lower bound; one below this counts as this."""


@dataclass(frozen=True)
class Rows:
    """Training rows of a batch of taps.

    Attributes:
        values: float32 or float64, shape (taps, n, 1 + axes), as in `PrincipalAxes.rows`; those that are held out come
            last
        labels: shape (n,) or (n, outputs), in the same order, see `probebench.probes.Probe`
        fitted: the number of rows that are not held out
    """

    values: torch.Tensor
    labels: npt.NDArray[Any]
    fitted: int


class RowsFit(TypingProtocol):
    """Chooses a strength for every tap of a batch, fits the tap on all rows, and predicts."""

    def __call__(
        self,
        rows: Rows,
        axes: PrincipalAxes,
        test: list[Array],
        path: npt.NDArray[np.float64],
        protocol: Protocol,
        shared: float = 0.0,
    ) -> list[Fit]:
        """Fit all taps of a batch.

        Args:
            axes: of the rows
            test: per tap, of shape (m, width)
            path: strengths C, rising
            shared: processor time per tap that was taken before
        """
        ...


def fit_matched_rows(
    fit_rows: RowsFit,
    train: Mapping[Tap, Array],
    labels: npt.NDArray[Any],
    test: Mapping[Tap, Array],
    order: npt.NDArray[np.int64],
    fitted: int,
    protocol: Protocol,
    device: str,
    cores: int,
    narrow: int | None,
    size: Callable[[int], int],
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[Tap, MatchedFit]]:
    """Fit every tap, and wide taps also on their `narrow` leading axes.

    Args:
        order: of the training rows, those that are held out last
        fitted: the number of rows that are not held out
        cores: batches at a time
        narrow: width of the residual stream; None for no control
        size: returns the number of taps of a width that go into a batch
        dtype: of the rows
    """
    assert protocol.path is not None
    path = np.array(protocol.path)

    def fit_batch(train: Features, test: Features) -> list[tuple[Tap, MatchedFit]]:
        begin = time.thread_time()
        axes = axes_of(train, order, protocol.standardize, device, dtype)
        rows = Rows(axes.rows, labels[order], fitted)
        shared = (time.thread_time() - begin) / len(train)
        fits = fit_rows(rows, axes, list(test.values()), path, protocol, shared)
        matched: dict[int, Fit] = {}
        wide = [
            i
            for i, (tap, values) in enumerate(train.items())
            if narrow is not None
            and needs_control(tap, values.shape[1], narrow, len(values), protocol)
            and float(axes.variance[i, narrow:].sum()) > NOTHING * float(axes.variance[i].sum())
        ]
        if wide:
            assert narrow is not None
            leading = Rows(axes.rows[wide, :, : 1 + narrow], rows.labels, rows.fitted)
            seen = [list(test.values())[i] for i in wide]
            narrowed = fit_rows(leading, axes.take(wide, narrow), seen, path, protocol)
            matched = dict(zip(wide, narrowed, strict=True))
        return [(tap, MatchedFit(fits[i], matched.get(i))) for i, tap in enumerate(train)]

    yield from fit_batches(fit_batch, train, test, size, cores, device)


def in_steps(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return scores as whole numbers, as `probebench.probes.choice` takes them; NaN counts as the worst."""
    finite = np.where(np.isnan(scores), WORST, np.maximum(scores, WORST))
    whole: npt.NDArray[np.int64] = np.rint(STEPS * finite).astype(np.int64)
    return whole


def choose_best(scores: npt.NDArray[np.float64], protocol: Protocol) -> npt.NDArray[np.int64]:
    """Return the index of the strength that a protocol chooses by the scores of its whole path, int64, shape (taps,).

    Args:
        scores: held-out scores, shape (taps, strengths)
    """
    steps = in_steps(scores)
    index: npt.NDArray[np.int64] = choose(steps, ended=True) if protocol.choice == "smoothed" else steps.argmax(axis=1)
    return index
