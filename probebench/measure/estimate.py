"""What a sweep would take on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from probebench._arrays import Array
from probebench._hardware import available_cores, choose_device
from probebench._progress import NullProgress
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
    """What a sweep would take.

    Attributes:
        images: that go through the network, once for each pass
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
    """What one sweep takes.

    Args:
        speed: of a core of this machine, see `probebench.measure.cost.matrix_rate`

    Raises:
        ProbebenchError: if its model or data are not here or cannot be used, or it does not fit
    """
    device = choose_device(options.device)
    dataset = catalog.dataset(sweep.dataset)
    ready = prepare(
        catalog.model(sweep.model),
        dataset,
        protocol=get_protocol(sweep.protocol),
        taps=taps,
        clean=catalog.clean(dataset),
        weights=options.weights.get(sweep.model),
        download=False,
        device=device,
        progress=NullProgress(),
    )
    plan = ready.plan(
        memory=options.memory,
        device_memory=options.device_memory,
        cache=cache,
        jobs=options.jobs or available_cores(),
    )
    images = ready.images * plan.passes
    rate = images_per_second(ready, options.batch_size, device)
    return Estimate(
        plan,
        len(taps),
        images,
        ready.demand.feature_bytes,
        images / rate,
        fit_operations(ready.demand) / speed / plan.jobs,
    )


def images_per_second(ready: PreparedSweep, batch_size: int | None, device: str) -> float:
    """Of the network with its taps, decoding and resizing included: the second of two batches."""
    size = min(BatchSize.for_network(ready.model.net, device, batch_size).now, len(ready.test_views))
    views = torch.utils.data.Subset(ready.test_views, [*range(size), *range(size)])
    ends: list[tuple[float, int]] = []  # more than two where memory suffices for less than a batch

    def put(features: Sequence[Array]) -> None:
        ends.append((time.perf_counter(), len(features[0])))

    settings = ExtractionSettings.for_model(ready.protocol, ready.model.spec, BatchSize(size), device)
    forward(ready.model, views, ready.taps, put, settings)
    return sum(images for _, images in ends[1:]) / (ends[-1][0] - ends[0][0])
