"""The settings of a run, as one frozen object."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from probebench.catalog.protocols import get_protocol

ENGINES = ("local", "ray")


RAY_ADDRESS = re.compile(r"(?:ray://)?(?:\[([^\]/]+)\]|([^\s/:\[\]]+)):([0-9]{1,5})")


LEADERBOARD_LEVELS = ("none", "brief", "normal", "full")


@dataclass(frozen=True)
class Options:
    """The options of one run. Fields are the options of the same name; paths are absolute."""

    models: tuple[str, ...]
    datasets: tuple[str, ...]
    layers: tuple[str, ...]
    sites: tuple[str, ...]
    poolings: tuple[str, ...]  # besides that of the protocol
    combinations: tuple[str, ...]
    protocol: str
    weights: dict[str, Path]
    offline: bool
    licences: tuple[str, ...]
    json: Path | None
    baselines: Path
    update: Literal["new", "all"] | None
    prune: bool
    strict: bool
    alpha: float
    min_drop: float  # as a fraction, not points
    leaderboard: str
    leaderboard_files: tuple[Path, ...]
    report: Path | None
    benchmark_table: bool
    cache: Literal["auto", "on", "off"]
    cache_root: Path | None  # None for the default
    cache_size: int  # bytes
    memory: int | None  # bytes
    device_memory: int | None  # bytes on a GPU
    plan: bool
    resume: bool
    device: str
    batch_size: int | None
    jobs: int | None
    shard: tuple[int, int] | None  # the number of a part, from 1, and of how many
    engine: Literal["local", "ray"]
    ray_address: str | None
    root: Path
    paths: tuple[str, ...]  # the files and folders that pytest was given, as they were typed

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The files that the command line names, which are written even if nothing was measured."""
        return tuple(path for path in (self.json, *self.leaderboard_files, self.report) if path is not None)

    @property
    def tests(self) -> str:
        """The arguments that another command line needs for the same tests and baselines."""
        elsewhere = [f"--probe-baselines={self.baselines}"] if self.baselines != self.root / "baselines" else []
        return shlex.join([*self.paths, *elsewhere, *self.variants])

    @property
    def variants(self) -> list[str]:
        """The options that add taps, as on a command line; the protocol names the first pooling."""
        first = get_protocol(self.protocol).pooling
        poolings = [f"--probe-pooling={','.join((first, *self.poolings))}"] if self.poolings else []
        return poolings + ([f"--probe-combine={','.join(self.combinations)}"] if self.combinations else [])

    @property
    def selected(self) -> str:
        """The options that select cases, as on a command line."""
        by = {"model": self.models, "dataset": self.datasets, "layer": self.layers, "site": self.sites}
        return " ".join(f"--probe-{name}={','.join(values)}" for name, values in by.items() if values)
