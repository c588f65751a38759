"""Choose the taps that get the full probe by a first, cheap probe in closed form.

`benchmarks/statistics/screening.py` measures how often that finds the tap that the full probe of all taps chooses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from probebench._progress import NullProgress, Progress
from probebench.catalog.protocols import Protocol
from probebench.catalog.taps import FINAL, OUTPUT, Tap
from probebench.probes import get_probe
from probebench.probes.evaluate import TrainingSet


@dataclass(frozen=True)
class Reliability:
    """The rate at which a screening of some size leads to the same choice as the full probe of all taps.

    Attributes:
        same: the tap that the full probe chooses is among those screened
        tied: the tap that is chosen after screening is that one, or one that the test images cannot tell from it
        runs: number of measured runs
    """

    same: int
    tied: int
    runs: int


MEASURED: Mapping[int, Reliability] = MappingProxyType(
    {3: Reliability(19, 37, 39), 5: Reliability(22, 36, 39), 10: Reliability(28, 37, 39)}
)
"""By size of the screening, as printed by `python -m benchmarks.statistics.screening`; see docs/recommend.md."""


def scores(
    train: Mapping[Tap, npt.NDArray[np.float32]],
    chosen: TrainingSet,
    protocol: Protocol,
    device: str,
    jobs: int,
    progress: Progress | None = None,
) -> dict[Tap, float]:
    """Compute the accuracy in [0, 1] of a ridge probe at each tap on the held-out part of the training set.

    Args:
        train: per tap features of shape (n, width)
        chosen: the training set, with a held-out part
        protocol: standardisation and the path of strengths
        device, jobs: as for `probebench.probes.Probe`
        progress: told about each tap
    """
    assert chosen.held_out is not None
    features = train if chosen.rows is None else {tap: values[chosen.rows] for tap, values in train.items()}
    ridge = replace(protocol, probe="ridge_path")
    # A probe needs something to predict; the predictions are not used.
    unused = {tap: values[:1] for tap, values in features.items()}
    found = get_probe(ridge.probe)(features, chosen.labels, unused, chosen.held_out, ridge, device, jobs)
    progress = progress or NullProgress()
    progress.start("screen", len(features))
    scored = {}
    for tap, fit in found:
        scored[tap] = float(fit.held_out_accuracy or 0.0)
        progress.advance(1)
    return scored


def best(scored: Mapping[Tap, float], count: int) -> list[Tap]:
    """The `count` best taps, of equal ones those that data meets first; and those that are compared with in any case:
    ``final``, ``output``, and concatenations that were asked for."""
    ordered = sorted(scored, key=lambda tap: (-scored[tap], tap))
    asked = {tap for tap in scored if tap.is_combination and not tap.pooling}
    return sorted({*ordered[:count], Tap(FINAL, FINAL), Tap(OUTPUT, OUTPUT), *asked})


def measured(count: int) -> tuple[int, Reliability] | None:
    """The largest measured size that is not above a screening's, and its reliability; None below the smallest."""
    sizes: Sequence[int] = [size for size in MEASURED if size <= count]
    return (max(sizes), MEASURED[max(sizes)]) if sizes else None
