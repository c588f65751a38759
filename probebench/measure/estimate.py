"""Estimate the time and the memory of a sweep on this machine, without running it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from probebench._arrays import Array
from probebench.catalog.cases import Sweep
from probebench.catalog.protocols import get_protocol
from probebench.catalog.taps import Tap
from probebench.features.batching import BatchSize
from probebench.features.cache import FeatureCache
from probebench.features.forward import forward
from probebench.features.settings import ExtractionSettings
from probebench.measure.cost import fit_operations
from probebench.measure.plan import SweepPlan
from probebench.measure.prepare import PreparedSweep, prepare

if TYPE_CHECKING:
    from probebench.catalog import Catalog
    from probebench.measure.options import Options


@dataclass(frozen=True)
class Estimate:
    """The estimated cost of a sweep.

    Attributes:
        plan: where features are kept, and in how many passes they are extracted
        taps: their number
        images: number of images that go through the network, counted once for each pass
        feature_bytes: of all taps
        extract_seconds, fit_seconds: on this machine
    """

    plan: SweepPlan
    taps: int
    images: int
    feature_bytes: int
    extract_seconds: float
    fit_seconds: float


def estimate(
    sweep: Sweep, taps: Sequence[Tap], catalog: Catalog, options: Options, cache: FeatureCache | None, speed: float
) -> Estimate:
    """Estimate the cost of one sweep.

    Args:
        speed: of a core of this machine, see `probebench.measure.cost.matrix_rate`

    Raises:
        ProbebenchError: if its model or data are not on this machine or cannot be used, or memory does not suffice
    """
    model, dataset = catalog.model(sweep.model), catalog.dataset(sweep.dataset)
    prepared = prepare(
        model,
        dataset,
        protocol=get_protocol(sweep.protocol),
        taps=taps,
        clean=catalog.clean(dataset),
        reference=catalog.reference(model),
        weights=options.weights.get(sweep.model),
        download=False,
        device=options.device,
    )
    plan = prepared.plan(memory=options.memory, device_memory=options.device_memory, cache=cache, jobs=options.jobs)
    images = prepared.images * plan.passes
    rate = measure_images_per_second(prepared, options.batch_size)
    return Estimate(
        plan,
        len(taps),
        images,
        prepared.workload.feature_bytes,
        images / rate,
        fit_operations(prepared.workload) / speed / plan.jobs,
    )


def measure_images_per_second(prepared: PreparedSweep, batch_size: int | None) -> float:
    """Measure the speed of the network with its taps, decoding and resizing included: on the second of two batches."""
    size = BatchSize.for_network(prepared.model.net, prepared.device, batch_size).now
    size = min(size, len(prepared.test_views))
    views = torch.utils.data.Subset(prepared.test_views, [*range(size), *range(size)])
    ends: list[tuple[float, int]] = []  # more than two if memory does not suffice for a whole batch

    def put(features: Sequence[Array]) -> None:
        ends.append((time.perf_counter(), len(features[0])))

    settings = ExtractionSettings.for_model(prepared.protocol, prepared.model.spec, BatchSize(size), prepared.device)
    forward(prepared.model, views, prepared.taps, put, settings)
    return sum(images for _, images in ends[1:]) / (ends[-1][0] - ends[0][0])
