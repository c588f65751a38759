"""The time that fitting the probes of a sweep takes, from sizes alone.

`fit_operations` is a number of operations of a float32 matrix product that takes as long (see
`probebench.probes.operations`), `matrix_rate` how many of them a core of this machine does in a second.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from probebench.catalog.taps import Tap
from probebench.measure.combine import CANDIDATES
from probebench.measure.plan import Workload
from probebench.probes.base import find_probe
from probebench.probes.width_control import projection_operations


def fit_operations(workload: Workload) -> float:
    """Operations of a float32 matrix product that take as long as all fits of a sweep on one core."""
    return busiest_core(workload, [tuple(workload.widths)], 1)


def busiest_core(workload: Workload, groups: Iterable[Sequence[Tap]], jobs: int) -> float:
    """Operations of the core that has the most to do, in the unit of `fit_operations`.

    Cores share the fits of a group, but not a fit, and wait for each other before the next step: projections, fits at
    the width of the residual stream, and fits at full width come one after the other, unless the probe fits a tap
    together with its control.

    Args:
        groups: taps that are fitted together, see `probebench.measure.plan.SweepPlan`
        jobs: processor cores
    """
    total = 0.0
    for group in groups:
        for fits in _steps(workload, group):
            total += max(sum(fits) / jobs, max(fits, default=0.0))
    return workload.draws * total


def search_operations(workload: Workload, jobs: int) -> float:
    """Operations of the search for combinations, in the unit of `fit_operations`: `CANDIDATES` fits of two taps of
    average width, then of three, as far as they are asked for, and at last the best one again."""
    width, total = sum(workload.widths.values()) / len(workload.widths), 0.0
    for members in range(2, workload.combined + 1):
        fit = find_probe(workload.protocol.probe).operations(workload.fit_size(round(members * width)))
        total += (math.ceil(CANDIDATES / jobs) + 1) * fit
    return workload.draws * total


def _steps(workload: Workload, group: Sequence[Tap]) -> Iterator[list[float]]:
    """Yield the operations of each fit, step by step."""
    probe = find_probe(workload.protocol.probe)
    matched = {*group}.intersection(workload.matched)
    wide = sorted(workload.widths[tap] for tap in matched)
    counts = Counter(workload.widths[tap] for tap in group)
    own = {width: probe.operations(workload.fit_size(width, count)) for width, count in counts.items()}
    if probe.fit_matched is not None:
        narrow = probe.operations(workload.fit_size(workload.narrow or 1, len(wide)))
        yield [own[workload.widths[tap]] + (narrow if tap in matched else 0.0) for tap in group]
        return
    yield [projection_operations(workload.n_train, width) for width in wide]
    if workload.narrow is not None:
        yield [probe.operations(workload.fit_size(workload.narrow, len(wide)))] * len(wide)
    yield [own[workload.widths[tap]] for tap in group]


def matrix_rate() -> float:
    """Floating-point operations per second of one core of this machine, in float32 products of the probe's shapes."""
    import numpy as np
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rng = np.random.default_rng(0)
        rows = torch.from_numpy(rng.standard_normal((4000, 512), dtype=np.float32))
        weights = torch.from_numpy(rng.standard_normal((512, 64), dtype=np.float32))
        best = math.inf
        for _ in range(20):  # a moment without other work on the core is enough
            start = time.perf_counter()
            rows @ weights
            best = min(best, time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return 2 * 4000 * 512 * 64 / best
