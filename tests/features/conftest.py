"""A tiny network, images for it, and what a sweep asks of the cache."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from probebench.catalog import ModelSpec
from probebench.catalog.taps import Tap, all_taps
from probebench.datasets import Split
from probebench.datasets.views import Views
from probebench.features.batching import BatchSize
from probebench.features.cache import FeatureCache
from probebench.features.extraction import Features, read_features
from probebench.features.forward import extract
from probebench.features.settings import ExtractionSettings
from probebench.models.build import Model, build_model

KWARGS = {"img_size": 16, "patch_size": 8, "embed_dim": 8, "num_heads": 2, "num_classes": 0}
SPEC = ModelSpec(
    name="tiny",
    architecture="VisionTransformer",
    depth=2,
    weights="random",
    seed=0,
    input_size=16,
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    kwargs=KWARGS,
)
NAMES = {"model": "tiny", "dataset": "noise", "part": "test"}
TAPS = all_taps(2)


def noise(n: int = 40, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    return Split(rng.integers(0, 256, (n, 16, 16), dtype=np.uint8), np.arange(n, dtype=np.int64) % 3)


@dataclass(frozen=True)
class Asked:
    """Everything that features depend on, so that a test can change one thing."""

    model: Model
    split: Split
    indices: Any = None
    kind: str = "resize_center_crop"
    size: int = 16
    seed: int = 0
    interpolation: str = "bilinear"
    pooling: str = "mean"
    mean: float = 0.5
    std: float = 0.5
    batch_size: int = 8

    @property
    def views(self) -> Views:
        indices = np.arange(len(self.split)) if self.indices is None else self.indices
        return Views(self.split, indices, self.kind, self.size, self.seed, self.interpolation)

    @property
    def settings(self) -> ExtractionSettings:
        mean, std = (torch.full((3, 1, 1), value) for value in (self.mean, self.std))
        return ExtractionSettings(self.pooling, mean, std, BatchSize(self.batch_size), "cpu")

    def __call__(self, cache: FeatureCache | None, taps: list[Tap] = TAPS, **changes: Any) -> Features:
        settings = replace(self.settings, **changes)
        return read_features(self.model, self.views, taps, settings, cache=cache, names=NAMES)

    def plain(self, taps: list[Tap] = TAPS) -> dict[Tap, Any]:
        """Without a cache, by the function that has nothing to do with it."""
        return extract(self.model, self.views, taps, self.settings)

    def but(self, **changes: Any) -> Asked:
        return replace(self, **changes)


@pytest.fixture(scope="session")
def tiny() -> Model:
    return build_model(SPEC)


@pytest.fixture
def asked(tiny: Model) -> Asked:
    return Asked(tiny, noise())


@pytest.fixture
def cache(tmp_path: Any) -> FeatureCache:
    return FeatureCache(tmp_path / "features")


def same(found: dict[Tap, Any], expected: dict[Tap, Any]) -> bool:
    return found.keys() == expected.keys() and all(np.array_equal(found[tap], expected[tap]) for tap in expected)
