"""Weighted k-nearest neighbours as DINO uses them (Caron et al. 2021, arXiv 2104.14294, appendix).

Features are scaled to unit length; the k training images of highest cosine similarity vote for their class with weight
exp(similarity / temperature). As a probe, k is 20 and the temperature 0.07, as in DINO, under every protocol. Nothing
is trained or chosen, so the protocol's C, path and max_iter have no effect; its `standardize` and `held_out` have.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch

from probebench._arrays import Array
from probebench.catalog.protocols import Protocol
from probebench.catalog.taps import Tap
from probebench.errors import FeatureError
from probebench.probes.base import Fit, ProbeInfo
from probebench.probes.memory import copy_bytes
from probebench.probes.operations import count_as_path
from probebench.probes.parallel import Features, Results, encode, fit_batches
from probebench.probes.principal_axes import Selected, chunks, standardise, statistics

NEIGHBOURS = 20
TEMPERATURE = 0.07

SIMILARITIES = 1 << 23
"""The most similarities in memory at once."""


def knn_votes(
    train: torch.Tensor,
    labels: torch.Tensor,
    test: torch.Tensor,
    classes: int,
    k: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> torch.Tensor:
    """Return the votes for each class, float64 of shape (m, classes), scaled so that the nearest neighbour's is one.

    Args:
        train, test: float32 or float64, shapes (n, width) and (m, width), finite, on one device. A row of zeros has
            similarity zero to every other row; for a test row of zeros, all training rows vote
        labels: int64, shape (n,), in 0 .. classes - 1
        k: neighbours that vote; all rows if there are fewer. Ties at the k-th place are broken arbitrarily
        temperature: of the votes

    Raises:
        ValueError: if k or the temperature is not positive, or there is no training row
    """
    if not (k > 0 and temperature > 0 and len(train)):
        raise ValueError(f"k ({k}), temperature ({temperature}) and training rows ({len(train)}) must be positive")
    nowhere = ~test.any(dim=1)
    train, test = (torch.nn.functional.normalize(features, dim=1) for features in (train, test))
    k = min(k, len(train))
    step = max(1, SIMILARITIES // len(train))
    tally = test.new_zeros(len(test), classes, dtype=torch.float64)
    for first in range(0, len(test), step):
        part = slice(first, first + step)
        similarity, nearest = (test[part] @ train.T).topk(k, dim=1)
        # Relative to the nearest neighbour: the winner is the same, and nothing overflows.
        votes = ((similarity - similarity[:, :1]).double() / temperature).exp()
        tally[part].scatter_add_(1, labels[nearest], votes)
    tally[nowhere] = torch.bincount(labels, minlength=classes).double()
    return tally


def fit(
    train: Mapping[Tap, Array],
    train_labels: npt.NDArray[np.int64],
    test: Mapping[Tap, Array],
    held_out: npt.NDArray[np.bool_] | None,
    protocol: Protocol,
    device: str,
    jobs: int,
) -> Iterator[tuple[Tap, Fit]]:
    """See `probebench.probes.Probe`. `Fit.C` is None. The held-out part is predicted from the rest of train.

    Raises:
        FeatureError: if the features of a tap are not finite
    """
    known, labels = encode(train_labels)
    labels = labels.to(device)
    everything = np.arange(len(train_labels))
    mask = np.zeros(len(train_labels), dtype=bool) if held_out is None else held_out
    fitted, rest = np.flatnonzero(~mask), np.flatnonzero(mask)

    def vote(tap: Tap, known_part: Selected, unseen: Selected) -> npt.NDArray[np.float64]:
        try:
            mean, scale = statistics(known_part, device=device)
        except FeatureError as error:
            raise FeatureError(f"probe at {tap.id}: {error}") from error
        if not protocol.standardize:
            mean, scale = torch.zeros_like(mean), torch.ones_like(scale)
        near, far = (_prepare(features, mean, scale) for features in (known_part, unseen))
        votes = knn_votes(near, labels[torch.from_numpy(known_part.index).to(device)], far, len(known))
        return np.asarray(votes.cpu().numpy())

    def fit_one(train: Features, test: Features) -> Results:
        ((tap, seen),) = train.items()
        start = time.thread_time()
        accuracy = None
        if len(rest):
            predicted = known[vote(tap, Selected(seen, fitted), Selected(seen, rest)).argmax(axis=1)]
            accuracy = float((predicted == train_labels[rest]).mean())
        unseen = Selected(test[tap], np.arange(len(test[tap])))
        votes = vote(tap, Selected(seen, everything), unseen)
        fit = Fit(
            predictions=known[votes.argmax(axis=1)],
            classes=known,
            scores=votes.astype(np.float32),
            probabilities=False,
            seconds=time.thread_time() - start,
            iterations=0,
            C=None,
            held_out_accuracy=accuracy,
        )
        return [(tap, fit)]

    yield from fit_batches(fit_one, train, test, lambda width: 1, jobs if device == "cpu" else 1, device)


def _prepare(features: Selected, mean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return standardised features, computed in float64 a chunk at a time, as float32."""
    values = torch.empty(features.shape, dtype=torch.float32, device=mean.device)
    for part in chunks(features):
        values[part] = standardise(features[part], mean, scale, torch.float32)
    return values


PROBE = ProbeInfo(fit, memory=copy_bytes, operations=count_as_path, on_device=True)
