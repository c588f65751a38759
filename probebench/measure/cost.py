"""What probing costs, from sizes alone: floating-point operations, bytes and seconds.

Extraction takes as many operations as the network has for an image, and reaches some share of what the device can do.
Features take four bytes a value. A fit is a sum of parts, each a product of sizes: how long a unit of each takes was
fitted to measured times, as a number of operations of a float32 matrix product, so that one number, `matrix_rate`,
brings them to a machine. `benchmarks/performance/cost.py` measures, fits and checks; docs/scale.md has the outcome.

How many iterations the solver of `probebench.probes.lbfgs` needs hangs on the features, and not in a way that sizes
would tell: twice as many and half as many are both common.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from probebench.measure.plan import Workload
from probebench.probes.lbfgs import default_group
from probebench.probes.memory import SMALL

OPERATIONS: Mapping[str, float] = MappingProxyType(
    {"products": 36.0, "state": 2.6e4, "turns": 1.2e9, "axes": 7.0, "eigenvectors": 21.0, "rows": 2.1e4}
)
"""Of a float32 matrix product, in the time that a unit of each part of a path takes. Printed by the benchmark."""

RIDGE_ROWS = 4e3
"""The same of a value of the rows of a ridge probe, which reads them a few times."""


def fit_parts(n: int, width: int, classes: int, strengths: int, taps: int = 1) -> dict[str, float]:
    """The sizes that the time of one tap's path, the last fit included, is a sum of.

    Args:
        n: training rows
        width: features
        classes: of the labels
        strengths: in the path
        taps: of that width, which are solved together where they are small

    Returns:
        ``products``: operations of one pass over the rows for each strength and the last fit; ``state``: weights of
        all of them; ``turns``: groups of strengths, each some tens of turns of the solver's loop; ``axes`` and
        ``eigenvectors``: of making principal axes, float64 counted twice; ``rows``: values, for what does not grow
        with the classes
    """
    axes = min(n, width)
    group = default_group(classes)
    fits = strengths + 1
    doubled = 2 if n <= width else 1  # the dual form is float64
    together = max(1, min(taps, SMALL // (4 * n * max(width, group * classes))))
    return {
        "products": 4.0 * n * axes * classes * fits,
        "state": float(axes * classes * fits),
        "turns": (math.ceil(strengths / group) + 1) / together,
        "axes": float(doubled * n * width * axes),
        "eigenvectors": float(doubled * axes**3),
        "rows": float(n * width),
    }


def path_operations(
    n: int, width: int, classes: int, strengths: int, taps: int = 1, operations: Mapping[str, float] = OPERATIONS
) -> float:
    """What the path of one tap takes, as operations of a float32 matrix product; arguments as of `fit_parts`."""
    return sum(operations[name] * size for name, size in fit_parts(n, width, classes, strengths, taps).items())


def ridge_operations(n: int, width: int, classes: int, strengths: int, taps: int = 1) -> float:
    """The same of a ridge probe, which is all float64 and in closed form."""
    parts = fit_parts(n, width, classes, strengths, taps)
    single = 1 if n <= width else 2
    making = single * sum(OPERATIONS[name] * parts[name] for name in ("axes", "eigenvectors"))
    return making + RIDGE_ROWS * parts["rows"] + 2 * parts["products"]


def fit_operations(demand: Workload) -> float:
    """Operations of all fits of a sweep, as of a float32 matrix product; what `matrix_rate` divides.

    Fits of scikit-learn take about as long as the path (docs/performance.md) and are taken for it.
    """
    probe = ridge_operations if demand.protocol.probe == "ridge_path" else path_operations
    n, strengths = demand.n_train, len(demand.protocol.path or range(10))
    total = 0.0
    for width, count in Counter(demand.widths.values()).items():
        total += count * probe(n, width, demand.classes, strengths, count)
    for width, count in Counter(demand.widths[tap] for tap in demand.matched).items():
        # Their leading components first.
        parts = fit_parts(n, width, demand.classes, strengths)
        total += (
            count * (RIDGE_ROWS * parts["rows"] + sum(OPERATIONS[k] * parts[k] for k in ("axes", "eigenvectors"))) / 2
        )
        total += count * probe(n, demand.narrow or width, demand.classes, strengths, count)
    return demand.draws * total


def matrix_rate() -> float:
    """Floating-point operations a second of one core of this machine, in float32 products of the probe's shapes."""
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
