"""The second stage of a sweep: send its images through the network, or read their features from the cache."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from probebench.catalog.taps import Tap
from probebench.datasets.dataset import explain_broken
from probebench.errors import DataError
from probebench.features.cache import FeatureCache
from probebench.features.extraction import Features, read_features
from probebench.features.settings import ExtractionSettings
from probebench.features.tokens import tokens_of
from probebench.measure import shift
from probebench.measure.prepare import PreparedSweep


@dataclass(frozen=True)
class ExtractedFeatures:
    """The features of one pass over the images of a sweep.

    Attributes:
        taps: those to probe
        train, test: per tap float32 of shape (images, width), as the network gave them, and under a protocol that
            reads tokens these as well, see `probebench.features.tokens.tokens_of`; `test` has ``final`` in any case,
            for the shift distance
        batch_size: images per forward pass, at the end: memory may have run out
        seconds: wall time, loading of the images included
    """

    taps: tuple[Tap, ...]
    train: Features
    test: Features
    batch_size: int
    seconds: float

    @property
    def images(self) -> int:
        """Number of images that went through the network; those whose features were cached did not."""
        return self.train.images + self.test.images


def extract(
    prepared: PreparedSweep, taps: Sequence[Tap], settings: ExtractionSettings, cache: FeatureCache | None = None
) -> ExtractedFeatures:
    """Extract the features of the training and of the test images at some taps.

    Args:
        taps: one of `PreparedSweep.passes`
        settings: as `PreparedSweep.settings` makes them. Their batch size is halved if memory runs out
        cache: where features are looked up and stored; None for nowhere

    Raises:
        DataError: if images cannot be read; the message has all of them
        FeatureError: for features that are not finite, or if memory does not suffice for one image
        LayoutError: if the network cannot be read
    """
    start = time.perf_counter()
    settings.progress.start("extract", prepared.images)
    try:
        train, test = _read(prepared, taps, settings, cache)
    except DataError as error:
        raise explain_broken([prepared.data.train, prepared.data.test], error) from error
    return ExtractedFeatures(tuple(taps), train, test, settings.batch_size.now, time.perf_counter() - start)


def _read(
    prepared: PreparedSweep, taps: Sequence[Tap], settings: ExtractionSettings, cache: FeatureCache | None
) -> tuple[Features, Features]:
    protocol = prepared.protocol
    tokens = [tokens_of(tap, protocol.pooling) for tap in taps] if protocol.reads_tokens else []
    train, test = (
        read_features(
            prepared.model,
            views,
            wanted,
            settings,
            cache=cache,
            names={"model": prepared.model.spec.name, "dataset": dataset.name, "part": part},
        )
        for views, wanted, dataset, part in (
            (prepared.train_views, [*taps, *tokens], prepared.clean, "train"),
            (prepared.test_views, sorted({*taps, *tokens, shift.WHERE}), prepared.dataset, "test"),
        )
    )
    return train, test
