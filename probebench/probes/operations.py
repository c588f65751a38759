"""The time that fits take, from their sizes alone.

The time of a fit is a sum of parts, each a product of sizes. How long a unit of each part takes was fitted to measured
times, and is stored as a number of operations of a float32 matrix product, so that one number,
`probebench.measure.cost.matrix_rate`, converts it to the seconds of a machine. `benchmarks/performance/cost.py`
measures, fits and checks; docs/scale.md has the outcome.

The iteration count of the solver of `probebench.probes.lbfgs` depends on the data and cannot be predicted from sizes:
factors of two either way are common.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from probebench.probes.base import FitSize
from probebench.probes.lbfgs import default_group
from probebench.probes.memory import SMALL

OPERATIONS: Mapping[str, float] = MappingProxyType(
    {"products": 36.0, "state": 2.6e4, "turns": 1.2e9, "axes": 7.0, "eigenvectors": 21.0, "rows": 2.1e4}
)
"""Operations of a float32 matrix product that take as long as a unit of each part of a path. The benchmark prints
them."""

RIDGE_ROWS = 4e3
"""Cost per feature value of a ridge probe, in the unit of `OPERATIONS`; it reads its rows a few times."""

USUAL_STRENGTHS = 10
"""Probes that are counted as a path, under protocols without one, are counted as a path of so many strengths."""


def fit_parts(n: int, width: int, classes: int, strengths: int, taps: int = 1) -> dict[str, float]:
    """Return the sizes whose weighted sum is the time of one tap's path, the last fit included.

    Args:
        n: training rows
        width: features
        classes: of the labels
        strengths: in the path
        taps: of that width, which are solved together if they are small

    Returns:
        ``products``: operations of one pass over the rows for each strength and the last fit; ``state``: weights of
        all of them; ``turns``: groups of strengths, each some tens of turns of the solver's loop; ``axes`` and
        ``eigenvectors``: of making principal axes, float64 counted twice; ``rows``: values, for the parts that do not
        grow with the classes
    """
    axes = min(n, width)
    group = default_group(classes)
    fits = strengths + 1
    doubled = 2 if n <= width else 1  # the dual form is float64
    together = _solved_together(n, width, group * classes, taps)
    return {
        "products": 4.0 * n * axes * classes * fits,
        "state": float(axes * classes * fits),
        "turns": (math.ceil(strengths / group) + 1) / together,
        "axes": float(doubled * n * width * axes),
        "eigenvectors": float(doubled * axes**3),
        "rows": float(n * width),
    }


def _solved_together(n: int, width: int, columns: int, taps: int) -> int:
    """Count the taps of `taps` that fit into the cache together, see `probebench.probes.memory.SMALL`."""
    return max(1, min(taps, SMALL // (4 * n * max(width, columns))))


def path_operations(
    n: int, width: int, classes: int, strengths: int, taps: int = 1, operations: Mapping[str, float] = OPERATIONS
) -> float:
    """Return the operations of a float32 matrix product that take as long as one tap's path; see `fit_parts`."""
    return sum(operations[name] * size for name, size in fit_parts(n, width, classes, strengths, taps).items())


CHOSEN = 0.45
"""The part of a path's operations that a path takes which ends early: about half of its strengths are solved, less
exactly than the last fit, and the axes are made once."""

CHOSEN_TURNS = 8
"""Groups of turns of such a path: seven strengths, one at a time, and the last fit."""

SHARED = 4
"""Taps that share their turns, at most, of those that are solved together on paths that end early."""


def chosen_path_operations(size: FitSize) -> float:
    """Return the operations of a float32 matrix product that take as long as a path that ends early, see `CHOSEN`.

    Taps that are solved together share less of the loop's turns than in `fit_parts`, because they end at different
    strengths.
    """
    whole = path_operations(size.n_train, size.width, size.classes, USUAL_STRENGTHS, size.taps)
    together = _solved_together(size.n_train, size.width, size.classes, min(size.taps, SHARED))
    return CHOSEN * whole + OPERATIONS["turns"] * CHOSEN_TURNS / together


def count_as_path(size: FitSize) -> float:
    """Return `path_operations` of a fit, also for probes that take about as long as a path (docs/performance.md)."""
    return path_operations(size.n_train, size.width, size.classes, size.strengths or USUAL_STRENGTHS, size.taps)
