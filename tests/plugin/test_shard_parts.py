from __future__ import annotations

import random

import pytest

from probebench.catalog.cases import Sweep
from probebench.plugin.shard import divide


def sweeps(sizes):
    return {Sweep(model, dataset, "default@2"): size for (model, dataset), size in sizes.items()}


MANY = sweeps({(f"model{m:02}", f"data{d}"): 8 * (6 + 6 * (m % 4)) + 2 for m in range(30) for d in range(7)})


@pytest.mark.parametrize("count", [1, 2, 3, 8, 50])
def test_every_sweep_is_in_one_part_and_parts_are_of_about_one_size(count):
    parts = divide(MANY, count)
    assert parts.keys() == MANY.keys()
    loads = [sum(size for sweep, size in MANY.items() if parts[sweep] == part) for part in range(1, count + 1)]
    assert sum(loads) == sum(MANY.values())
    assert max(loads) - min(loads) <= max(MANY.values())


def test_the_order_in_which_they_are_found_does_not_matter():
    shuffled = list(MANY.items())
    random.Random(0).shuffle(shuffled)
    assert divide(dict(shuffled), 5) == divide(MANY, 5)


def test_the_sweeps_of_a_model_are_spread():
    parts = divide(MANY, 7)
    assert {parts[Sweep("model03", f"data{d}", "default@2")] for d in range(7)} == set(range(1, 8))


def test_more_parts_than_sweeps_leave_some_empty():
    assert sorted(divide(sweeps({("a", "x"): 3, ("b", "x"): 9}), 4).values()) == [1, 2]
