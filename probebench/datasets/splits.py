"""Select the training images of a protocol, and the part of them that is held out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from probebench.catalog.protocols import Protocol
from probebench.datasets import Split


def training_sets(split: Split, protocol: Protocol) -> list[npt.NDArray[np.int64]]:
    """Return the indices of the training images of a protocol, in reading order: one set, or one per draw.

    A class with fewer source images than `Protocol.shots` contributes all of them.
    """
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(protocol.seed))
    keep = int(protocol.train_fraction * len(split))
    if keep >= protocol.train_multiple:
        keep -= keep % protocol.train_multiple
    chosen = order[:keep].numpy()
    if protocol.shots is None or protocol.draws is None:
        return [chosen]
    return [_draw_shots(split, chosen, protocol.shots, [protocol.seed, draw]) for draw in range(protocol.draws)]


def _draw_shots(split: Split, chosen: npt.NDArray[np.int64], shots: int, seed: list[int]) -> npt.NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    chosen = np.sort(chosen)
    sources = chosen if split.groups is None else split.groups[chosen]
    _, first = np.unique(sources, return_index=True)
    chosen = chosen[np.sort(first)]
    labels = split.labels[chosen]
    return np.concatenate([rng.permutation(chosen[labels == label])[:shots] for label in np.unique(labels)])


def held_out_part(split: Split, indices: npt.NDArray[np.int64], protocol: Protocol) -> npt.NDArray[np.bool_] | None:
    """Select the images of a training set that are held out to choose hyperparameters on.

    They are drawn with the protocol's seed per class, so that every class with two or more sources is on both sides,
    and per source, so that views of one image are never on both, even if a source (a patient, a film) has several
    classes.

    Args:
        split: the official train split
        indices: the images of it that are used, in order

    Returns:
        bool, shape (len(indices),), or None if the protocol holds nothing out
    """
    if protocol.held_out is None:
        return None
    labels = split.labels[indices]
    sources = np.unique(indices if split.groups is None else split.groups[indices], return_inverse=True)[1]
    of_class = {label: np.unique(sources[labels == label]) for label in np.unique(labels)}
    rng = np.random.default_rng(protocol.seed)
    held = np.zeros(len(indices), dtype=bool)  # by source
    for own in of_class.values():
        count = min(len(own) - 1, max(1, round(protocol.held_out * len(own))))
        drawn = rng.permutation(own)
        free = drawn[~held[drawn]]  # a source of several classes may be held out for another one
        held[free[: max(0, count - (len(drawn) - len(free)))]] = True
    for own in of_class.values():
        if held[own].all():
            held[own[0]] = False
    mask: npt.NDArray[np.bool_] = held[sources]
    return mask
