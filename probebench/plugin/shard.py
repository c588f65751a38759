"""``--probe-shard I/N``: measure one of N parts of a run, in whole sweeps.

The shard of a sweep depends only on the sweeps that the command line and the marks describe, not on what is on this
machine, so that every machine of a matrix divides them in the same way.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from typing import TYPE_CHECKING

import pytest

from probebench.plugin.items import cases_of, param_of, skipped_of

if TYPE_CHECKING:
    from probebench.catalog.cases import Sweep
    from probebench.catalog.taps import Tap


def divide(sizes: Mapping[Sweep, int], count: int) -> dict[Sweep, int]:
    """Divide sweeps into shards of about equally many cases.

    The largest sweep is placed first, each in the shard that has the fewest cases by then: no shard is larger than 4/3
    of the largest one of the best division (Graham, 1969). Sweeps of one size take turns in the order of their ids,
    which spreads those of a model.

    Args:
        sizes: number of cases of each sweep

    Returns:
        the shard of each sweep, from 1 to `count`
    """
    loads = [0] * count
    parts = {}
    for sweep in sorted(sizes, key=lambda sweep: (-sizes[sweep], sweep.id)):
        part = loads.index(min(loads))
        loads[part] += sizes[sweep]
        parts[sweep] = part + 1
    return parts


_OTHERS = {"splits": "--splits", "num_shards": "--num-shards", "test-group-count": "--test-group-count"}
"""Options of pytest-split, pytest-shard and pytest-test-groups, by the names under which pytest keeps them."""


def describe_splitting(config: pytest.Config) -> str:
    """Explain what it costs that another plugin divides the tests; empty if none does."""
    found = [option for name, option in _OTHERS.items() if (getattr(config.option, name, None) or 1) > 1]
    if not found:
        return ""
    return (
        f"{found[0]} divides tests, not sweeps: the images of a sweep that it cuts go through the network once for "
        "each group, and verdicts take only the cases of the group into account. --probe-shard=I/N keeps sweeps whole, "
        "and verdicts those of the whole run"
    )


class Sharding:
    """A pytest plugin, registered when ``--probe-shard`` is given.

    Attributes:
        cases: number of cases of all shards together: those that this machine could measure, and those of other shards
            that the command line names
        sweeps: number of their sweeps
    """

    def __init__(self, shard: tuple[int, int]) -> None:
        self._part, self._count = shard
        self._taps: dict[Sweep, set[Tap]] = {}
        self._parts: dict[Sweep, int] = {}
        self.cases = self.sweeps = 0

    def add(self, sweeps: Mapping[Sweep, Iterable[Tap]]) -> None:
        """Add sweeps of the whole run, before options other than those of probebench leave some of their taps out."""
        for sweep, taps in sweeps.items():
            self._taps.setdefault(sweep, set()).update(taps)

    def holds(self, sweep: Sweep) -> bool:
        """Return True if a sweep is part of this shard. Known when collection is over."""
        return self._parts[sweep] == self._part

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, None, None]:
        """Deselect other shards, after -k, -m and --deselect; before --last-failed, which knows only this shard."""
        yield
        self._parts = divide({sweep: len(taps) for sweep, taps in self._taps.items()}, self._count)
        others = [item for item in items if (param := param_of(item)) and not self.holds(param.sweep)]
        cases = set(cases_of(items))
        elsewhere = [skipped for item in others if (skipped := skipped_of(item))]
        self.cases = len(cases) + len(elsewhere)
        self.sweeps = len({case.sweep for case in cases} | {each.sweep for each in elsewhere})
        if others:
            config.hook.pytest_deselected(items=others)
            left = set(others)
            items[:] = [item for item in items if item not in left]
