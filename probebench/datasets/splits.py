"""Select the training images of a protocol, and the part of them that is held out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from probebench.catalog.protocols import Protocol
from probebench.catalog.tasks import MULTILABEL, REGRESSION
from probebench.datasets import Split
from probebench.scores import task_of

PARTS = 10
"""Groups of real-valued targets, by rank, of each of which a share is held out."""


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
    classes. Labels are drawn one after the other, rare ones first, and then the images without any. Real numbers are
    drawn per tenth of their range by rank, of the first target.

    Args:
        split: the official train split
        indices: the images of it that are used, in order

    Returns:
        bool, shape (len(indices),), or None if the protocol holds nothing out
    """
    if protocol.held_out is None:
        return None
    classes = _classes(split.labels[indices])
    sources = np.unique(indices if split.groups is None else split.groups[indices], return_inverse=True)[1]
    of_class = [np.unique(sources[own]) for own in classes]
    rng = np.random.default_rng(protocol.seed)
    held = np.zeros(len(indices), dtype=bool)  # by source
    for own in of_class:
        count = min(len(own) - 1, max(1, round(protocol.held_out * len(own))))
        drawn = rng.permutation(own)
        free = drawn[~held[drawn]]  # a source of several classes may be held out for another one
        held[free[: max(0, count - (len(drawn) - len(free)))]] = True
    for own in of_class:
        if held[own].all():
            held[own[0]] = False
    mask: npt.NDArray[np.bool_] = held[sources]
    return mask


def _classes(labels: npt.NDArray[Any]) -> list[npt.NDArray[np.bool_]]:
    """Return the groups of images that a held-out part has its share of: of each, bool of shape (n,), who is in it."""
    task = task_of(labels)
    if task is MULTILABEL:
        having = labels == 1
        rare_first = np.argsort(having.sum(axis=0), kind="stable")
        found = [*(having[:, label] for label in rare_first), ~having.any(axis=1)]
        return [own for own in found if own.any()]
    if task is REGRESSION:
        ranks = np.argsort(np.argsort(labels[:, 0], kind="stable"), kind="stable")
        labels = ranks * PARTS // len(ranks)
    return [labels == label for label in np.unique(labels)]
