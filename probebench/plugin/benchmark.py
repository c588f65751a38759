"""Make each case a benchmark of pytest-benchmark, with the time that is attributed to it.

The test of a case does not take the fixture `benchmark`, which must be used once and needs the time first. It is named
as if it did while plugins choose tests, and gets the fixture when the time is known.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from probebench.plugin.items import CASE, SWEEP, param_of

if TYPE_CHECKING:
    from probebench.catalog.cases import Case
    from probebench.records.types import CaseRecord

FIXTURE = "benchmark"
_NAMES = ("benchmark", "pytest_benchmark.plugin")  # of the plugin, by its entry point and by -p
_REPORTED: pytest.StashKey[bool] = pytest.StashKey()


class Benchmarks:
    """A pytest plugin, registered in every session."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None, object, object]:
        """Name cases as benchmarks for --benchmark-only, --benchmark-skip and others that look for the fixture."""
        cases: dict[Any, list[str]] = {}
        if self._chooses():
            longer: dict[int, list[str]] = {}  # the cases of a test function share one list
            for item in items:
                if param_of(item) is not None:
                    names: list[str] = item.fixturenames  # type: ignore[attr-defined]
                    cases[item] = names
                    item.fixturenames = longer.setdefault(id(names), [*names, FIXTURE])  # type: ignore[attr-defined]
        try:
            return (yield)
        finally:
            for item, names in cases.items():
                item.fixturenames = names

    def _chooses(self) -> bool:
        """In a worker of pytest-xdist a benchmark can only be skipped; of others pytest-benchmark warns there."""
        return not hasattr(self._config, "workerinput") or bool(getattr(self._config.option, "benchmark_skip", False))

    @pytest.hookimpl(wrapper=True, optionalhook=True)
    def pytest_benchmark_group_stats(self, benchmarks: list[dict[str, Any]]) -> Generator[None, Any, Any]:
        """Leave cases out of the table, unless an option asks for what only the table or its groups can show."""
        option = self._config.option
        wanted = ("probe_benchmark_table", "benchmark_compare", "benchmark_histogram")
        if not any(getattr(option, name, None) for name in wanted):
            # Before they are grouped: by a parameter of other benchmarks they could not be.
            benchmarks[:] = [each for each in benchmarks if "probe" not in each["extra_info"]]
        return (yield)


def report_time(request: pytest.FixtureRequest, case: Case, entry: CaseRecord) -> None:
    """Report the attributed time of a case, once, unless pytest-benchmark is not installed or is disabled."""
    config, item = request.config, request.node
    if not any(map(config.pluginmanager.has_plugin, _NAMES)) or getattr(config.option, "benchmark_skip", False):
        return
    if hasattr(config, "workerinput"):
        return  # pytest-benchmark drops the results of worker processes, with a warning
    if item.stash.setdefault(_REPORTED, False):
        return  # the test runs again, because it failed
    item.stash[_REPORTED] = True
    clock = ChargedClock()
    item.add_marker(pytest.mark.benchmark(group=f"probe {case.sweep.id}", timer=clock))
    benchmark = request.getfixturevalue(FIXTURE)
    benchmark.params = _params(item, case)
    benchmark.extra_info.update(
        case.marks,
        probe=case.id,
        protocol=case.sweep.protocol,
        accuracy=entry["accuracy"],
        verdict=entry["verdict"],
    )
    benchmark.pedantic(clock.charge, args=(entry["seconds"],), rounds=1, iterations=1)


def _params(item: Any, case: Case) -> dict[str, Any]:
    """What --benchmark-group-by=param:NAME can name: model, dataset, layer, site, and parameters of the test's own."""
    own = {name: value for name, value in item.callspec.params.items() if name not in (SWEEP, CASE)}
    return {**case.marks, **own}


class ChargedClock:
    """A timer for pytest-benchmark that advances only by what it is charged: the cost of a case is already known."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def __call__(self) -> float:
        return self._seconds

    def charge(self, seconds: float) -> None:
        self._seconds += seconds
