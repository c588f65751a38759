"""Find images of equal pixels in different files, by their features.

Decoding all images to compare them would take as long as a part of the extraction. Equal pixels have equal features, up
to rounding, so only the few images whose features agree are decoded.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from probebench._arrays import Array, on_host
from probebench.datasets.dataset import image_keys, pixel_keys
from probebench.datasets.duplicates import Duplicates, count_duplicates
from probebench.datasets.views import RANDOM
from probebench.measure.extract import ExtractedFeatures
from probebench.measure.prepare import PreparedSweep

PROJECTIONS = 8
NEIGHBOURS = 4
"""Number of images, next in the order of the first projection, that each image is compared with. Equal images are next
to each other, unless others fall between them by chance."""

ROUNDING = {"fp32": 1e-4}
OTHER_ROUNDING = 1e-2
"""Largest difference of projections of equal images, by precision of the network, relative to a feature's length."""

SHARE, LEAST = 0.01, 200
"""At most this share of the images, or this number, is decoded once more."""


def find_equal_pixels(prepared: PreparedSweep, features: ExtractedFeatures) -> Duplicates:
    """Add images of equal pixels to the duplicates of a sweep, which are files of equal bytes.

    Nothing is added if training images are cropped at random, or if all images are in memory, where they were compared
    by their pixels before.

    Args:
        features: of one pass over the images
    """
    train, test = prepared.data.train, prepared.data.test
    in_memory = all(isinstance(split.images, np.ndarray) for split in (train, test))
    if in_memory or RANDOM in (prepared.protocol.train_view, prepared.protocol.test_view):
        return prepared.duplicates
    tap = features.taps[-1]
    pairs = _equal_features(features.train[tap], features.test[tap], prepared.protocol.precision)
    if not len(pairs):
        return prepared.duplicates
    count = len(prepared.read)
    keys = [
        _known(image_keys(train.images, prepared.read), count, "train"),
        _known(image_keys(test.images), len(test), "test"),
    ]
    known = keys[0] + keys[1]
    pairs = np.array([pair for pair in pairs.tolist() if known[pair[0]] != known[pair[1]]], dtype=np.int64)
    if not len(pairs):
        return prepared.duplicates
    most = max(LEAST, int(SHARE * len(known)))
    chosen = np.unique(pairs[: most // 2])
    of_train = chosen < count
    pixels = pixel_keys(train.images, prepared.read[chosen[of_train]]) + pixel_keys(
        test.images, chosen[~of_train] - count
    )
    same = {known[image]: key for image, key in zip(chosen.tolist(), pixels, strict=True)}
    found = count_duplicates(
        train, prepared.read, [same.get(key, key) for key in keys[0]], test, [same.get(key, key) for key in keys[1]]
    )
    return replace(found, dropped=prepared.duplicates.dropped, at_least=2 * len(pairs) > most)


def _known(keys: list[bytes] | None, count: int, part: str) -> list[bytes]:
    """Return the keys of a split. Without any, each image gets its own."""
    return [f"{part} {row}".encode() for row in range(count)] if keys is None else keys


def _equal_features(train: Array, test: Array, precision: str) -> npt.NDArray[np.int64]:
    """Return pairs of images whose features are equal up to rounding, the closest first: shape (n, 2).

    Images are numbered through, those of `train` first.
    """
    projected = np.concatenate([_project(part) for part in (train, test)])
    length = projected[:, -1]
    order = np.argsort(projected[:, 0], kind="stable")
    rounding = ROUNDING.get(precision, OTHER_ROUNDING)
    pairs, distances = [], []
    for step in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
        one, other = order[:-step], order[step:]
        distance = np.abs(projected[one] - projected[other]).max(axis=1)
        near = distance <= rounding * length[one]
        pairs.append(np.column_stack([one, other])[near])
        distances.append(distance[near])
    found = np.concatenate(pairs) if pairs else np.empty((0, 2), dtype=np.int64)
    return found[np.argsort(np.concatenate(distances), kind="stable")] if pairs else found


def _project(features: Array) -> npt.NDArray[np.float32]:
    """Project features on random axes, and append their length: float32, shape (n, PROJECTIONS + 1)."""
    axes = np.random.default_rng(0).standard_normal((features.shape[1], PROJECTIONS)).astype(np.float32)
    if isinstance(features, torch.Tensor):
        found = features @ torch.from_numpy(axes).to(features.device)
        length = torch.linalg.vector_norm(features, dim=1, keepdim=True)
        return on_host(torch.cat([found, length], dim=1))
    return np.concatenate([features @ axes, np.linalg.norm(features, axis=1, keepdims=True)], axis=1)
