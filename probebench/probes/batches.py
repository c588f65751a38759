"""Fit taps of equal width together, a batch at a time, each batch on a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from probebench.errors import FeatureError
from probebench.probes import Fit
from probebench.probes.axes import PrincipalAxes, Selected, principal_axes
from probebench.sites import Tap


def fit_batches(
    features: Mapping[Tap, npt.NDArray[Any]],
    size: Callable[[int], int],
    fit: Callable[[list[Tap]], list[tuple[Tap, Fit]]],
    jobs: int,
) -> Iterator[tuple[Tap, Fit]]:
    """Results as batches finish.

    Args:
        features: per tap, of shape (n, width)
        size: how many taps of a width go into a batch
        fit: what to do with a batch; its torch operations run on one thread
        jobs: batches at a time
    """
    batches: list[list[Tap]] = []
    # Wide taps take longest: start them first so that the cores finish together.
    for width in sorted({values.shape[1] for values in features.values()}, reverse=True):
        taps = [tap for tap, values in features.items() if values.shape[1] == width]
        step = size(width)
        batches += [taps[i : i + step] for i in range(0, len(taps), step)]

    def run(taps: list[Tap]) -> list[tuple[Tap, Fit]]:
        torch.set_num_threads(1)  # of this thread
        return fit(taps)

    # Threads, not processes: the time is spent inside torch, and the features need no copy.
    pool = ThreadPoolExecutor(jobs)
    threads = torch.get_num_threads()
    try:
        for done in as_completed([pool.submit(run, taps) for taps in batches]):
            yield from done.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def axes_of(
    features: Mapping[Tap, npt.NDArray[Any]],
    taps: Sequence[Tap],
    index: npt.NDArray[np.int64],
    standardize: bool,
    device: str,
    dtype: torch.dtype = torch.float32,
) -> PrincipalAxes:
    """The principal axes of some rows of the taps of a batch.

    Raises:
        FeatureError: naming the taps, if a feature is NaN or infinite
    """
    chosen = [Selected(features[tap], index) for tap in taps]
    try:
        return principal_axes(chosen, standardize=standardize, device=device, dtype=dtype)
    except FeatureError as error:
        raise FeatureError(f"probe at {', '.join(tap.id for tap in taps)}: {error}") from error


def encode(labels: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], torch.Tensor]:
    """The classes that are there, and the labels as places among them, int64 of shape (n,)."""
    known, places = np.unique(labels, return_inverse=True)
    return known, torch.from_numpy(places.astype(np.int64))
