"""Before a sweep: where its features lie, how many passes over the images it takes, and how much memory.

Features of all taps stay on the GPU that made them if they and a probe fit there; else they lie in the host's memory if
they fit; else in the feature cache, mapped into memory; else the images go through the network several times, each time
for as many taps as fit. Nothing here holds features.

What is planned is what grows with images, widths and classes: features, what the probes make of them, and what is on
its way to the disk. The network, its activations and the libraries come on top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from probebench._format import human
from probebench.catalog.taps import Tap
from probebench.errors import FeatureError
from probebench.records.types import PlanRecord

if TYPE_CHECKING:
    from probebench.catalog.protocols import Protocol

Mode = Literal["device", "memory", "disk", "passes"]


@dataclass(frozen=True)
class Workload:
    """What a sweep asks for.

    Attributes:
        protocol: how it is measured
        widths: features of each tap
        n_read: training images that go through the network
        n_train: training images of one draw
        n_test: test images
        classes: of the labels
        draws: training sets
        narrow: width of the residual stream, to which wider taps are projected as a control; None leaves that out
    """

    protocol: Protocol
    widths: Mapping[Tap, int]
    n_read: int
    n_train: int
    n_test: int
    classes: int
    draws: int
    narrow: int | None

    @property
    def strengths(self) -> int:
        """How many C the probe is fitted with."""
        return len(self.protocol.path or (1.0,))

    @property
    def feature_bytes(self) -> int:
        """Of all taps: float32."""
        return self.features(self.widths)

    @property
    def matched(self) -> list[Tap]:
        """Taps that get a second probe at the width of the residual stream."""
        from probebench.probes.width_control import loses

        widths = self.widths.items()
        return [tap for tap, width in widths if loses(tap, width, self.narrow, self.n_train, self.protocol)]

    def features(self, taps: Sequence[Tap] | Mapping[Tap, int]) -> int:
        """Bytes of the features of some taps."""
        return 4 * (self.n_read + self.n_test) * sum(self.widths[tap] for tap in taps)

    def held(self, taps: Sequence[Tap], mode: Mode) -> int:
        """Bytes that are held while some taps are fitted together, in one process: on the device, or on the host."""
        narrowed = 4 * (self.n_train + self.n_test) * (self.narrow or 0) * len({*taps}.intersection(self.matched))
        drawn = 4 * self.n_train * sum(self.widths[tap] for tap in taps) if self.draws > 1 else 0
        if mode == "disk":
            # Rows that are scaled before the fit are copied into memory.
            copied = self.features(taps) if self.protocol.feature_norm != "none" else 0
            return narrowed + drawn + _shards() + copied
        return narrowed + drawn + self.features(taps)

    def fit(self, width: int) -> int:
        """Bytes that one job takes for a tap."""
        if self.protocol.probe == "logistic_path":
            from probebench.probes.memory import path_bytes

            fitting = path_bytes(self.n_train, width, self.classes, self.strengths, self.n_test)
        else:
            fitting = 8 * (3 * self.n_train + self.n_test) * width + 8 * self.n_test * self.classes
        # Another process gets the features by way of memory that both see: what it fits, and what it fits next.
        return fitting + 2 * 4 * (self.n_train + self.n_test) * width


@dataclass(frozen=True)
class SweepPlan:
    """How a sweep is going to be measured.

    Attributes:
        mode: where features lie: on the ``device``; in ``memory``; on ``disk``, in the feature cache; in memory, for
            one group of taps after the other, with a pass over the images for each (``passes``)
        groups: taps that are fitted together
        jobs: processor cores for the probes
        memory: most bytes, besides the network, its activations and the libraries
        disk: bytes that go to the feature cache
        device: bytes that features and probes take of the device's memory, where features lie there
    """

    mode: Mode
    groups: tuple[tuple[Tap, ...], ...]
    jobs: int
    memory: int
    disk: int
    device: int = 0

    def to_json(self) -> PlanRecord:
        """Its entry in the run record."""
        return {
            "mode": self.mode,
            "passes": self.passes,
            "memory_bytes": self.memory,
            "disk_bytes": self.disk,
            "device_bytes": self.device,
        }

    @property
    def passes(self) -> int:
        """How often the images go through the network."""
        return len(self.groups) if self.mode == "passes" else 1


def plan_sweep(demand: Workload, *, memory: int, disk: int, jobs: int, device: int = 0) -> SweepPlan:
    """The plan of a sweep.

    Args:
        memory: bytes that it may take
        disk: bytes that the feature cache may take; 0 where there is none
        device: bytes that it may take on the device where network and probes are; 0 to leave nothing there
        jobs: processor cores that the probes may use

    Raises:
        FeatureError: if not even one tap fits into the memory
    """
    taps = tuple(demand.widths)
    on_device = _need(demand, taps, "device", 1)
    if on_device <= device:
        # On the host are shards on their way to the disk, if the first features show that they are worth keeping.
        return SweepPlan("device", (taps,), 1, min(memory, _shards()), 0, on_device)
    whole = _need(demand, taps, "memory", jobs)
    if whole <= memory:
        return SweepPlan("memory", (taps,), jobs, whole, 0)
    widest = max(taps, key=demand.widths.__getitem__)
    mode: Mode = "passes"
    if demand.feature_bytes <= disk and _need(demand, (widest,), "disk", 1) <= memory:
        mode = "disk"
    while jobs > 1 and _need(demand, (widest,) * jobs, mode, jobs) > memory:
        jobs -= 1
    least = _need(demand, (widest,), mode, jobs)
    if least > memory:
        raise FeatureError(
            f"the tap {widest.id} alone, {demand.n_train:,} x {demand.widths[widest]} features of {demand.classes} "
            f"classes, takes {human(least)}, and the sweep may take {human(memory)}: give it more by "
            "--probe-memory or a larger machine, or use fewer training images"
        )
    groups: list[tuple[Tap, ...]] = []
    for tap in taps:
        if groups and _need(demand, (*groups[-1], tap), mode, jobs) <= memory:
            groups[-1] = (*groups[-1], tap)
        else:
            groups.append((tap,))
    most = max(_need(demand, group, mode, jobs) for group in groups)
    return SweepPlan(mode, tuple(groups), jobs, most, demand.feature_bytes if mode == "disk" else 0)


def _shards() -> int:
    """Bytes on their way to the disk: a shard that is collected, and the same joined tap by tap."""
    from probebench.features.cache.writer import SHARD_BYTES

    return 2 * SHARD_BYTES


def _need(demand: Workload, taps: Sequence[Tap], mode: Mode, jobs: int) -> int:
    at_once = min(jobs, len(taps))
    return demand.held(taps, mode) + at_once * demand.fit(max(demand.widths[tap] for tap in taps))
