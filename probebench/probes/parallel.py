"""Fit taps of equal width together, a batch at a time, each batch on one core."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from joblib import Parallel, delayed, parallel_config

from probebench._arrays import Array, on_device
from probebench.catalog.taps import Tap
from probebench.errors import FeatureError
from probebench.probes.base import Fit
from probebench.probes.principal_axes import PrincipalAxes, Selected, principal_axes

Features = Mapping[Tap, Array]
Results = list[tuple[Tap, Fit]]
Result = TypeVar("Result")


def fit_batches(
    fit: Callable[[Features, Features], list[tuple[Tap, Result]]],
    train: Features,
    test: Features,
    size: Callable[[int], int],
    jobs: int,
    device: str,
) -> Iterator[tuple[Tap, Result]]:
    """Yield the results of batches of taps as the batches finish.

    Args:
        fit: called with the train and test features of a batch; its torch operations run on one thread. For more than
            one job it is sent to other processes, together with the objects that it refers to
        train, test: per tap, of shapes (n, width) and (m, width)
        size: returns the number of taps of a width that go into a batch
        jobs: batches at a time
        device: that `fit` works on; other features are sent there, a batch at a time
    """
    batches: list[list[Tap]] = []
    # Wide taps take longest: start them first so that the cores finish together.
    for width in sorted({values.shape[1] for values in train.values()}, reverse=True):
        taps = [tap for tap, values in train.items() if values.shape[1] == width]
        step = size(width)
        batches += [taps[i : i + step] for i in range(0, len(taps), step)]
    parts = (({tap: train[tap] for tap in taps}, {tap: test[tap] for tap in taps}) for taps in batches)
    for results in run_on_cores(fit, parts, jobs, device):
        yield from results


def run_on_cores(
    work: Callable[[Features, Features], Result], parts: Iterable[tuple[Features, Features]], jobs: int, device: str
) -> Iterator[Result]:
    """Yield the result of `work` for each part, in any order; arguments as in `fit_batches`.

    With more than one job and more than one part, the parts are sent to other processes.

    Args:
        parts: training and test features of some taps
    """
    if jobs > 1:
        rest = iter(parts)
        first = list(islice(rest, 2))
        parts = chain(first, rest)
        if len(first) < 2:  # it is done here before another process has imported torch
            jobs = 1
    if jobs == 1:
        for part in parts:
            yield _run_on_one_thread(work, *part, device)
        return
    # Processes, not threads: many operations are so small that threads would wait for the interpreter lock.
    with parallel_config("loky", inner_max_num_threads=1):
        tasks = (delayed(_run_on_one_thread)(work, *part, device) for part in parts)
        yield from Parallel(n_jobs=jobs, return_as="generator_unordered")(tasks)


def _run_on_one_thread(
    work: Callable[[Features, Features], Result], train: Features, test: Features, device: str
) -> Result:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # `work` reads each of them several times.
        there = ({tap: on_device(values, device) for tap, values in features.items()} for features in (train, test))
        return work(*there)
    finally:
        torch.set_num_threads(threads)


def axes_of(
    features: Features,
    index: npt.NDArray[np.int64],
    standardize: bool,
    device: str,
    dtype: torch.dtype = torch.float32,
) -> PrincipalAxes:
    """Return the principal axes of some rows of all taps of a batch.

    Raises:
        FeatureError: naming the taps, if a feature is NaN or infinite
    """
    chosen = [Selected(values, index) for values in features.values()]
    try:
        return principal_axes(chosen, standardize=standardize, device=device, dtype=dtype)
    except FeatureError as error:
        raise FeatureError(f"probe at {', '.join(tap.id for tap in features)}: {error}") from error


def encode(labels: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], torch.Tensor]:
    """Return the distinct labels, int64 of shape (C,), and the index of each label among them, int64 of shape (n,)."""
    known, places = np.unique(labels, return_inverse=True)
    return known, torch.from_numpy(places.astype(np.int64))
