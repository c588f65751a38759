"""Estimate the time and the memory of sweeps on this machine, without running them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from probebench._hardware import available_cores, choose_device
from probebench.catalog.cases import Sweep
from probebench.catalog.protocols import Protocol, get_protocol
from probebench.catalog.taps import SEARCHED, Tap, most_combined
from probebench.features.batching import BatchSize
from probebench.features.cache import FeatureCache
from probebench.features.hooks import widths_of
from probebench.features.settings import ExtractionSettings
from probebench.features.tokens import check_tokens, count_tokens, tokens_of
from probebench.measure.cost import busiest_core, matrix_rate, search_operations
from probebench.measure.plan import SweepPlan, Workload
from probebench.measure.prepare import check_combinations, clean_of, device_of, plan_here, read_images, stream_width
from probebench.measure.timing import Pace, time_images, time_network
from probebench.models.build import build_model
from probebench.probes import find_probe

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
        extract_seconds, fit_seconds: on this machine; no features are expected in the cache
    """

    plan: SweepPlan
    taps: int
    images: int
    feature_bytes: int
    extract_seconds: float
    fit_seconds: float


@dataclass(frozen=True)
class _TimedNetwork:
    """A network that was timed; it is not held itself.

    Attributes:
        widths: number of features of each tap
        tokens: of an image, see `Workload`
        narrow: width of the residual stream, see `Workload`
        device: that it was on
        pace: at these taps
    """

    widths: Mapping[Tap, int]
    tokens: int
    narrow: int | None
    device: str
    pace: Pace


@dataclass(frozen=True)
class _TimedImages:
    """The images of a sweep, counted and timed; they are not held themselves.

    Attributes:
        workload: without taps
        seconds: to make all of them ready for a network
    """

    workload: Workload
    seconds: float


class Estimator:
    """Estimates sweeps. A network is built and timed once, and so are the images of a dataset for one size of input.

    Args:
        cache: of the features; None for none
    """

    def __init__(self, catalog: Catalog, options: Options, cache: FeatureCache | None) -> None:
        self._catalog, self._options, self._cache = catalog, options, cache
        self._device, self._rate = choose_device(options.device), matrix_rate()
        self._networks: dict[tuple[object, ...], _TimedNetwork] = {}
        self._images: dict[tuple[object, ...], _TimedImages] = {}

    def estimate(self, sweep: Sweep, taps: Sequence[Tap]) -> Estimate:
        """Estimate the cost of one sweep.

        Raises:
            ProbebenchError: if its model or data are not on this machine or cannot be used, or memory does not suffice
        """
        options, protocol = self._options, get_protocol(sweep.protocol)
        find_probe(protocol.probe).check(protocol)
        check_tokens(taps, protocol)
        images = self._time_images(sweep, protocol)
        check_combinations(taps, protocol)
        combined = most_combined(taps)
        read = sorted(tap for tap in taps if tap.layer not in SEARCHED)
        network = self._time_network(sweep.model, read, protocol)
        workload = replace(
            images.workload, widths=network.widths, tokens=network.tokens, narrow=network.narrow, combined=combined
        )
        plan = plan_here(
            workload,
            network.device,
            memory=options.memory,
            device_memory=options.device_memory,
            cache=self._cache,
            jobs=options.jobs,
        )
        forward = network.pace.seconds(workload.n_read) + network.pace.seconds(workload.n_test)
        # On a CPU one waits for the other; a GPU works while the next images are made ready.
        on_cpu = torch.device(network.device).type == "cpu"
        cores = min(plan.jobs, available_cores())
        a_pass = forward + images.seconds if on_cpu else max(forward, images.seconds)
        return Estimate(
            plan,
            len(taps),
            (workload.n_read + workload.n_test) * plan.passes,
            workload.feature_bytes,
            a_pass * plan.passes,
            (busiest_core(workload, plan.groups, cores) + search_operations(workload, cores)) / self._rate,
        )

    def _time_images(self, sweep: Sweep, protocol: Protocol) -> _TimedImages:
        """Count the images of a sweep, and time how they are made ready."""
        model, dataset = self._catalog.model(sweep.model), self._catalog.dataset(sweep.dataset)
        key = (sweep.dataset, sweep.protocol, model.input_size, protocol.resizing(model))
        if key not in self._images:
            images = read_images(dataset, clean_of(dataset, protocol, self._catalog), protocol)
            seconds = sum(len(views) * time_images(views, self._device) for views in images.views(model))
            self._images[key] = _TimedImages(images.workload({}, None), seconds)
        return self._images[key]

    def _time_network(self, name: str, taps: list[Tap], protocol: Protocol) -> _TimedNetwork:
        """Build a network and time it."""
        key = (name, tuple(taps), protocol.precision, protocol.pooling, protocol.reads_tokens)
        if key not in self._networks:
            options = self._options
            built = build_model(
                self._catalog.model(name),
                weights=options.weights.get(name),
                device=self._device,
                precision=protocol.precision,
            )
            # The first pass through a network takes longer than others, and is not timed.
            widths = widths_of(built, taps, pooling=protocol.pooling, device=self._device)
            size = BatchSize.for_network(built.net, self._device, options.batch_size)
            settings = ExtractionSettings.for_model(protocol, built.spec, size, self._device)
            tokens = [tokens_of(tap, protocol.pooling) for tap in taps] if protocol.reads_tokens else []
            most = count_tokens(built, taps, pooling=protocol.pooling, device=self._device) if tokens else 0
            pace = time_network(built, [*taps, *tokens], settings)
            self._networks[key] = _TimedNetwork(widths, most, stream_width(built), device_of(built), pace)
        return self._networks[key]
