"""The cost model of a fit; that it holds is measured by benchmarks/performance/cost.py."""

from __future__ import annotations

import pytest

from probebench.probes.memory import SMALL
from probebench.probes.operations import OPERATIONS, fit_parts, path_operations
from probebench.probes.ridge import ridge_operations


def test_parts_are_products_of_sizes():
    parts = fit_parts(2000, 500, 10, 10)
    assert parts["products"] == 4 * 2000 * 500 * 10 * 11  # ten strengths and the last fit
    assert parts["axes"] == 2000 * 500 * 500
    assert parts["eigenvectors"] == 500**3
    assert parts["rows"] == 2000 * 500
    assert parts["turns"] == 2 + 1  # five strengths at a time
    assert path_operations(2000, 500, 10, 10) == sum(OPERATIONS[name] * parts[name] for name in OPERATIONS)


def test_fewer_rows_than_features_are_solved_among_the_rows_in_float64():
    parts = fit_parts(100, 3072, 10, 10)
    assert parts["products"] == 4 * 100 * 100 * 10 * 11
    assert parts["axes"] == 2 * 100 * 3072 * 100
    assert parts["eigenvectors"] == 2 * 100**3


def test_small_taps_share_the_turns_of_the_loop():
    alone, together = (fit_parts(1000, 64, 10, 10, taps)["turns"] for taps in (1, 98))
    assert alone / together == SMALL // (4 * 1000 * 64)
    assert fit_parts(50_000, 768, 10, 10, 1) == fit_parts(50_000, 768, 10, 10, 98)


@pytest.mark.parametrize("operations", [path_operations, ridge_operations])
def test_more_of_anything_takes_longer(operations):
    base = operations(4000, 384, 20, 10)
    for larger in ((8000, 384, 20, 10), (4000, 768, 20, 10), (4000, 384, 40, 10), (4000, 384, 20, 20)):
        assert base < operations(*larger)


def test_ridge_takes_less_than_the_path():
    assert ridge_operations(4000, 768, 100, 10) < path_operations(4000, 768, 100, 10) / 4
