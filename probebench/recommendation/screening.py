"""Which taps are worth the full probe: a probe in closed form says so first.

`benchmarks/statistics/screening.py` measures how often that finds what the full probe of all taps would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from probebench.catalog.protocols import Protocol
from probebench.catalog.taps import FINAL, Tap
from probebench.probes import get_probe
from probebench.probes.evaluate import TrainingSet


@dataclass(frozen=True)
class Found:
    """How often a screening of some size led where the full probe of all taps does.

    Attributes:
        same: the tap that the full probe chooses is among those screened
        tied: it, or one that the test images cannot tell from it, is the tap that is chosen after screening
        runs: of how many measured
    """

    same: int
    tied: int
    runs: int


MEASURED: Mapping[int, Found] = MappingProxyType({3: Found(19, 37, 39), 5: Found(22, 36, 39), 10: Found(28, 37, 39)})
"""By size of the screening; what `python -m benchmarks.statistics.screening` prints, see docs/recommend.md."""


def scores(
    train: Mapping[Tap, npt.NDArray[np.float32]], chosen: TrainingSet, protocol: Protocol, device: str, jobs: int
) -> dict[Tap, float]:
    """By tap, the accuracy in [0, 1] of a ridge probe on the held-out part of the training set.

    Args:
        train: per tap features of shape (n, width)
        chosen: the training set, with a held-out part
        protocol: standardisation and the path of strengths
        device, jobs: as of `probebench.probes.Probe`
    """
    assert chosen.held_out is not None
    features = train if chosen.rows is None else {tap: values[chosen.rows] for tap, values in train.items()}
    ridge = replace(protocol, probe="ridge_path")
    # A probe predicts something; what does not matter here.
    some = {tap: values[:1] for tap, values in features.items()}
    found = get_probe(ridge.probe)(features, chosen.labels, some, chosen.held_out, ridge, device, jobs)
    return {tap: float(fit.held_out_accuracy or 0.0) for tap, fit in found}


def best(scored: Mapping[Tap, float], count: int) -> list[Tap]:
    """The `count` best taps, of equals those that data meets first; and ``final``, which gains are over."""
    ordered = sorted(scored, key=lambda tap: (-scored[tap], tap))
    return sorted({*ordered[:count], Tap(FINAL, FINAL)})


def measured(count: int) -> tuple[int, Found] | None:
    """The largest measured size that is no larger than a screening's, and what was found; None below the smallest."""
    sizes: Sequence[int] = [size for size in MEASURED if size <= count]
    return (max(sizes), MEASURED[max(sizes)]) if sizes else None
