"""``--probe-shard I/N``: measure one of N parts of a run, in whole sweeps.

Which part a sweep belongs to depends on nothing but the sweeps that the command line and the marks describe: not on
what is on this machine, so that every machine of a matrix divides them in the same way.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from typing import TYPE_CHECKING

import pytest

from probebench.plugin.items import cases_of, param_of, withheld_of

if TYPE_CHECKING:
    from probebench.catalog.cases import Case, Sweep
    from probebench.catalog.taps import Tap


def divide(sizes: Mapping[Sweep, int], count: int) -> dict[Sweep, int]:
    """Sweeps in parts of about equally many cases.

    The largest first, each to the part that has the fewest by then: no part is larger than 4/3 of the largest of the
    best division (Graham, 1969). Sweeps of one size go round in the order of their ids, so those of a model are spread.

    Args:
        sizes: number of cases of each sweep

    Returns:
        the number of each one's part, from 1 to `count`
    """
    loads = [0] * count
    parts = {}
    for sweep in sorted(sizes, key=lambda sweep: (-sizes[sweep], sweep.id)):
        part = loads.index(min(loads))
        loads[part] += sizes[sweep]
        parts[sweep] = part + 1
    return parts


class Sharding:
    """A pytest plugin, registered when ``--probe-shard`` is given.

    Attributes:
        cases: how many the whole run has: all that this machine would measure, and those of other parts that were asked
            for by name and are not on this machine
        sweeps: how many it has
    """

    def __init__(self, shard: tuple[int, int]) -> None:
        self._part, self._count = shard
        self._taps: dict[Sweep, set[Tap]] = {}
        self.cases = self.sweeps = 0

    def add(self, cases: Iterable[Case]) -> None:
        """Cases of the whole run, before other options than those of probebench leave some out."""
        for case in cases:
            self._taps.setdefault(case.sweep, set()).add(case.tap)

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, None, None]:
        """After -k, -m and --deselect; before --last-failed, which knows of this part only."""
        yield
        parts = divide({sweep: len(taps) for sweep, taps in self._taps.items()}, self._count)
        others = [item for item in items if (param := param_of(item)) and parts[param.sweep] != self._part]
        cases = set(cases_of(items))
        elsewhere = [withheld for item in others if (withheld := withheld_of(item)) and withheld.requested]
        # Of a model that was asked for every case is an item; else one item stands for all of a sweep.
        self.cases = len(cases) + sum(1 if each.model_requested else each.cases for each in elsewhere)
        self.sweeps = len({case.sweep for case in cases} | {each.sweep for each in elsewhere})
        if others:
            config.hook.pytest_deselected(items=others)
            left = set(others)
            items[:] = [item for item in items if item not in left]
