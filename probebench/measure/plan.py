"""Plan a sweep: where its features are stored, how many passes over the images it takes, and how much memory.

The features of all taps stay on the GPU that made them if they and a probe fit there; otherwise they are stored in the
host's memory, if they fit; otherwise in the feature cache, mapped into memory; otherwise the images go through the
network several times, each time for as many taps as fit. Nothing here holds features.

The plan covers everything that grows with images, widths and classes: features, the arrays that the probes make of
them, and features that are being written to the disk. The network, its activations and the libraries come on top.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from probebench._format import counted, human
from probebench.catalog.taps import Tap
from probebench.catalog.tasks import CLASSIFICATION
from probebench.errors import FeatureError
from probebench.records.types import PlanRecord

if TYPE_CHECKING:
    from probebench.catalog.protocols import Protocol
    from probebench.probes.base import FitSize

Mode = Literal["device", "memory", "disk", "passes"]


@dataclass(frozen=True)
class Workload:
    """The size of a sweep.

    Attributes:
        protocol: how it is measured
        widths: number of features of each tap
        n_read: training images that go through the network
        n_train: training images of one draw
        n_test: test images
        classes: of the labels; of other tasks as in `probebench.scores.count_outputs`
        draws: training sets
        narrow: width of the residual stream, to which wider taps are projected as a control; None for no control
        task: of the labels
        combined: the most taps that are concatenated in a search for combinations; 1 for no search
        tokens: the most of an image at any tap, if they are kept besides the pooled features; 0 if they are not
    """

    protocol: Protocol
    widths: Mapping[Tap, int]
    n_read: int
    n_train: int
    n_test: int
    classes: int
    draws: int
    narrow: int | None
    task: str = CLASSIFICATION.name
    combined: int = 1
    tokens: int = 0

    @property
    def feature_bytes(self) -> int:
        """Bytes of the features of all taps: pooled in float32, tokens in bfloat16."""
        return self._feature_bytes(self.widths)

    @property
    def _value_bytes(self) -> int:
        """Bytes of one feature of an image, with those of all its tokens."""
        return 4 + 2 * self.tokens

    @property
    def matched(self) -> list[Tap]:
        """Taps that get a second probe at the width of the residual stream."""
        from probebench.probes.width_control import needs_control

        if self.tokens:  # a probe on tokens does not read what the control would project
            return []
        widths = self.widths.items()
        return [tap for tap, width in widths if needs_control(tap, width, self.narrow, self.n_train, self.protocol)]

    def fit_size(self, width: int, taps: int = 1) -> FitSize:
        """The size of one fit.

        Args:
            taps: of that width
        """
        from probebench.probes.base import FitSize

        protocol = self.protocol
        return FitSize(
            self.n_train,
            self.n_test,
            width,
            self.classes,
            strengths=len(protocol.path or ()),
            taps=taps,
            tokens=self.tokens,
            queries=protocol.queries or 0,
            batch=protocol.batch or 0,
            epochs=(protocol.epochs or 0) * (1 + len(protocol.rates or ())),
            task=self.task,
        )

    def _feature_bytes(self, taps: Iterable[Tap]) -> int:
        return self._value_bytes * (self.n_read + self.n_test) * sum(self.widths[tap] for tap in taps)

    def held_bytes(self, taps: Sequence[Tap], mode: Mode) -> int:
        """Bytes that are held while some taps are fitted together, in one process: on the device, or on the host."""
        projected = 4 * (self.n_train + self.n_test) * (self.narrow or 0) * len({*taps}.intersection(self.matched))
        drawn = self._value_bytes * self.n_train * sum(self.widths[tap] for tap in taps) if self.draws > 1 else 0
        if mode == "disk":
            # Rows that are scaled before the fit are copied into memory.
            copied = self._feature_bytes(taps) if self.protocol.feature_norm != "none" else 0
            return projected + drawn + _shards() + copied
        return projected + drawn + self._feature_bytes(taps)

    def fit_bytes(self, width: int) -> int:
        """Bytes that one job takes for a tap."""
        from probebench.probes.base import find_probe

        fitting = find_probe(self.protocol.probe).memory(self.fit_size(width))
        # Another process gets the features through shared memory: of the tap that it fits, and of the next.
        return fitting + 2 * self._value_bytes * (self.n_train + self.n_test) * width


@dataclass(frozen=True)
class SweepPlan:
    """The plan of a sweep.

    Attributes:
        mode: where features are stored: on the ``device``; in ``memory``; on ``disk``, in the feature cache; in memory,
            for one group of taps after the other, with a pass over the images for each (``passes``)
        groups: taps that are fitted together
        jobs: processor cores for the probes
        memory: the most bytes, besides the network, its activations and the libraries
        disk: bytes that go to the feature cache
        device: bytes of the device's memory that features and probes take; 0 in the other modes
    """

    mode: Mode
    groups: tuple[tuple[Tap, ...], ...]
    jobs: int
    memory: int
    disk: int
    device: int = 0

    def to_json(self) -> PlanRecord:
        """Return the entry in the run record."""
        return {
            "mode": self.mode,
            "passes": self.passes,
            "memory_bytes": self.memory,
            "disk_bytes": self.disk,
            "device_bytes": self.device,
        }

    @property
    def passes(self) -> int:
        """The number of times that the images go through the network."""
        return len(self.groups) if self.mode == "passes" else 1


def plan_sweep(workload: Workload, *, memory: int, disk: int, jobs: int, device: int = 0) -> SweepPlan:
    """Plan a sweep.

    Args:
        memory: bytes that it may take
        disk: bytes that the feature cache may take; 0 if there is no cache
        device: bytes that it may take on the device of network and probes; 0 to store no features there
        jobs: processor cores that the probes may use

    Raises:
        FeatureError: if not even one tap fits into the memory; or if tokens of all taps fit neither into the memory nor
            on the disk, because a pass over the images for each few of them is hardly meant
    """
    taps = tuple(workload.widths)
    on_device = _need(workload, taps, "device", 1)
    if on_device <= device:
        # The host holds shards that are being written, if the first features show that they are worth keeping.
        return SweepPlan("device", (taps,), 1, min(memory, _shards()), 0, on_device)
    whole = _need(workload, taps, "memory", jobs)
    if whole <= memory:
        return SweepPlan("memory", (taps,), jobs, whole, 0)
    widest = max(taps, key=workload.widths.__getitem__)
    fewest = (widest,) * workload.combined
    mode: Mode = "passes"
    if workload.feature_bytes <= disk and _need(workload, fewest, "disk", 1) <= memory:
        mode = "disk"
    if workload.tokens and mode == "passes":
        raise FeatureError(_too_many_tokens(workload, memory, disk))
    while jobs > 1 and _need(workload, (widest,) * jobs, mode, jobs) > memory:
        jobs -= 1
    least = _need(workload, fewest, mode, jobs)
    if least > memory:
        several = workload.combined > 1
        what = (
            f"a combination of {workload.combined} taps as wide as {widest.id}" if several else f"the tap {widest.id}"
        )
        raise FeatureError(
            f"{what} alone, {workload.n_train:,} x {workload.widths[widest] * workload.combined} features of "
            f"{workload.classes} classes, takes {human(least)}, but the sweep may take only {human(memory)}: raise "
            "--probe-memory, use a larger machine, or use fewer training images"
        )
    groups: list[tuple[Tap, ...]] = []
    for tap in taps:
        if groups and _need(workload, (*groups[-1], tap), mode, jobs) <= memory:
            groups[-1] = (*groups[-1], tap)
        else:
            groups.append((tap,))
    most = max(_need(workload, group, mode, jobs) for group in groups)
    return SweepPlan(mode, tuple(groups), jobs, most, workload.feature_bytes if mode == "disk" else 0)


def _too_many_tokens(workload: Workload, memory: int, disk: int) -> str:
    images, taps = workload.n_read + workload.n_test, len(workload.widths)
    return (
        f"protocol {workload.protocol.name} keeps every token: {human(workload.feature_bytes)} for {images:,} images, "
        f"{workload.tokens} tokens and {counted(taps, 'tap')}, but there are {human(memory)} of memory, and "
        f"{human(disk)} in the feature cache: name fewer taps with --probe-layer and --probe-site, use fewer images, "
        "or raise --probe-memory or --probe-cache-size"
    )


def _shards() -> int:
    """Bytes that are being written to the disk: a shard that is collected, and the same joined tap by tap."""
    from probebench.features.cache.writer import SHARD_BYTES

    return 2 * SHARD_BYTES


def _need(workload: Workload, taps: Sequence[Tap], mode: Mode, jobs: int) -> int:
    at_once, widest = min(jobs, len(taps)), max(workload.widths[tap] for tap in taps)
    fitting = at_once * workload.fit_bytes(widest)
    if workload.combined > 1:  # when the taps have been fitted one by one, and are still there
        width = workload.combined * widest
        joined = 4 * (workload.n_read + workload.n_test) * width
        fitting = max(fitting, jobs * (joined + workload.fit_bytes(width)))
    return workload.held_bytes(taps, mode) + fitting
