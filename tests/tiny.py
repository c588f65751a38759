"""A network of a few weights, and images for it."""

from __future__ import annotations

import numpy as np

from probebench import ModelSpec
from probebench.datasets import Split


def tiny_model(size: int, depth: int = 2, **kwargs) -> ModelSpec:
    """timm's class itself with random weights, for images of `size` pixels; `kwargs` are its own."""
    return ModelSpec(
        "tiny",
        "VisionTransformer",
        depth=depth,
        weights="random",
        seed=0,
        input_size=size,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        kwargs={"img_size": size, "num_heads": 2, "num_classes": 0} | kwargs,
    )


def squares():
    """Four classes: a bright patch in one of four corners, under noise."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (400, 16, 16, 3), dtype=np.uint8)
    labels = np.arange(400, dtype=np.int64) % 4
    for image, label in zip(images, labels, strict=True):
        top, left = 8 * (label // 2), 8 * (label % 2)
        image[top : top + 8, left : left + 8] += 20
    return ["a", "b", "c", "d"], Split(images[:200], labels[:200]), Split(images[200:], labels[200:])
