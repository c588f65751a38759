"""What --probe-plan prints: for every sweep where its features would lie, how many passes, memory and time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from tabulate import tabulate

from probebench._arrays import Array
from probebench._format import counted, human
from probebench._hardware import available_cores, choose_device
from probebench._progress import NullProgress
from probebench.catalog.cases import Case, Sweep
from probebench.catalog.protocols import get_protocol
from probebench.catalog.taps import Tap
from probebench.cost import fit_operations, matrix_rate
from probebench.datasets.views import pixel_statistics
from probebench.errors import ProbebenchError
from probebench.features.batching import BatchSize
from probebench.features.cache import FeatureCache
from probebench.features.forward import forward
from probebench.planning import SweepPlan
from probebench.preparation import Prepared, prepare
from probebench.run import feature_cache

if TYPE_CHECKING:
    from probebench.catalog import Catalog
    from probebench.options import Options


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


def lines(cases: Sequence[Case], catalog: Catalog, options: Options) -> tuple[list[str], int]:
    """The table, and what all sweeps take together. Networks are built and timed on two batches of empty images.

    Returns:
        the lines, and how many sweeps cannot be planned
    """
    cache = feature_cache(options)
    taps: dict[Sweep, list[Tap]] = {}
    for case in cases:
        taps.setdefault(case.sweep, []).append(case.tap)
    speed = matrix_rate()
    found: dict[Sweep, Estimate | str] = {}
    for sweep, wanted in taps.items():
        try:
            found[sweep] = estimate(sweep, wanted, catalog, options, cache, speed)
        except ProbebenchError as error:
            found[sweep] = str(error)
    header = ("sweep", "taps", "images", "features", "in", "passes", "memory", "disk", "extract", "fit")
    known = {sweep: each for sweep, each in found.items() if isinstance(each, Estimate)}
    rows = [_cells(sweep, each) for sweep, each in known.items()]
    aligned = ("left", "right", "right", "right", "left", *["right"] * 5)
    text: list[str] = []
    if rows:
        text += tabulate(rows, header, tablefmt="simple", colalign=aligned, disable_numparse=True).splitlines()
    text += [f"{sweep.id}: cannot be planned: {each}" for sweep, each in found.items() if isinstance(each, str)]
    if known:
        total = sum(each.extract_seconds + each.fit_seconds for each in known.values())
        most, on_gpu = (max(getattr(each.plan, name) for each in known.values()) for name in ("memory", "device"))
        disk = sum(each.plan.disk for each in known.values())
        text.append(
            f"{counted(len(known), 'sweep')}: about {_duration(total)}, at most {human(most)} of memory"
            f"{f' and {human(on_gpu)} of a GPU' if on_gpu else ''} at a time besides network and libraries"
            f"{f', {human(disk)} of disk' if disk else ''}"
        )
    return text, len(found) - len(known)


def estimate(
    sweep: Sweep, taps: Sequence[Tap], catalog: Catalog, options: Options, cache: FeatureCache | None, speed: float
) -> Estimate:
    """What one sweep takes.

    Args:
        speed: of a core of this machine, see `probebench.cost.matrix_rate`

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


def images_per_second(ready: Prepared, batch_size: int | None, device: str) -> float:
    """Of the network with its taps, decoding and resizing included: the second of two batches."""
    size = min(BatchSize.for_network(ready.model.net, device, batch_size).now, len(ready.test_views))
    mean, std = pixel_statistics(ready.protocol, ready.model.spec)
    views = torch.utils.data.Subset(ready.test_views, [*range(size), *range(size)])
    ends: list[tuple[float, int]] = []  # more than two where memory suffices for less than a batch

    def put(features: Sequence[Array]) -> None:
        ends.append((time.perf_counter(), len(features[0])))

    forward(
        ready.model,
        views,
        ready.taps,
        put,
        pooling=ready.protocol.pooling,
        mean=mean,
        std=std,
        batch_size=BatchSize(size),
        device=device,
    )
    return sum(images for _, images in ends[1:]) / (ends[-1][0] - ends[0][0])


def _cells(sweep: Sweep, each: Estimate) -> tuple[str, ...]:
    return (
        sweep.id,
        str(each.taps),
        f"{each.images:,}",
        human(each.feature_bytes),
        {"disk": "disk", "device": "GPU"}.get(each.plan.mode, "memory"),
        str(each.plan.passes),
        human(each.plan.device or each.plan.memory),
        human(each.plan.disk) if each.plan.disk else "",
        _duration(each.extract_seconds),
        _duration(each.fit_seconds),
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
