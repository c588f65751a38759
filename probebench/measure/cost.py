"""The time that fitting the probes of a sweep takes, from sizes alone.

`fit_operations` is a number of operations of a float32 matrix product that takes as long (see
`probebench.probes.operations`), `matrix_rate` how many of them a core of this machine does in a second.
"""

from __future__ import annotations

import math
import time
from collections import Counter

from probebench.measure.plan import Workload
from probebench.probes.base import find_probe
from probebench.probes.width_control import projection_operations


def fit_operations(workload: Workload) -> float:
    """Operations of a float32 matrix product that take as long as all fits of a sweep; `matrix_rate` divides them."""
    probe = find_probe(workload.protocol.probe)
    total = 0.0
    for width, count in Counter(workload.widths.values()).items():
        total += count * probe.operations(workload.fit_size(width, count))
    for width, count in Counter(workload.widths[tap] for tap in workload.matched).items():
        total += count * projection_operations(workload.n_train, width)
        total += count * probe.operations(workload.fit_size(workload.narrow or width, count))
    return workload.draws * total


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
        for _ in range(5):
            start = time.perf_counter()
            rows @ weights
            best = min(best, time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return 2 * 4000 * 512 * 64 / best
