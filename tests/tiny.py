"""A network of a few weights."""

from __future__ import annotations

from probebench import ModelSpec


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
