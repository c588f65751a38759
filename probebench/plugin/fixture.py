"""What a test does with one measured case: check it, and enter its time into pytest-benchmark."""

from __future__ import annotations

import copy

import pytest

from probebench.catalog.cases import Case
from probebench.measure.outcome import SweepOutcome
from probebench.plugin.items import UNMEASURED
from probebench.records.types import CaseRecord


class Probe:
    """What the `probe` fixture gives a test: one measured case.

    Reading a number of a case that could not be measured fails the test, as `check` does.
    """

    def __init__(self, request: pytest.FixtureRequest, outcome: SweepOutcome, case: Case) -> None:
        self._request, self._outcome, self.case = request, outcome, case
        self._recorded = False

    def __repr__(self) -> str:
        return f"<probe {self.case.id}>"

    def check(self) -> None:
        """Fail if the case regressed against its baseline, or could not be measured."""
        __tracebackhide__ = True
        entry = self._entry()
        if not self._recorded:  # a test may check its case again
            self._recorded = True
            self._enter(entry)
        complaint = self._outcome.complaints.get(entry["id"])
        if complaint is not None:
            pytest.fail(complaint, pytrace=False)

    @property
    def accuracy(self) -> float:
        """On the test images, a fraction from 0 to 1; of several draws of the training set the mean."""
        return float(self._entry()["accuracy"])

    @property
    def ci95(self) -> tuple[float, float]:
        """The ends of the 95% interval of `accuracy`, as fractions."""
        low, high = self._entry()["ci95"]
        return low, high

    @property
    def record(self) -> CaseRecord:
        """A copy of everything that the run record has of this case, as an object of ``cases`` in run-1.json."""
        return copy.deepcopy(self._entry())

    def _entry(self) -> CaseRecord:
        """What was measured; fails the test if nothing was, with the explanation once a sweep."""
        __tracebackhide__ = True
        item, outcome = self._request.node, self._outcome
        entry = outcome.case(self.case)
        if outcome.error is None and entry is not None:
            return entry
        if outcome.explained_by is None:
            outcome.explained_by = item.nodeid
            if outcome.traceback:
                item.add_report_section("call", "traceback", outcome.traceback)
            pytest.fail(f"sweep {self.case.sweep.id} could not be measured.\n{outcome.error}", pytrace=False)
        item.user_properties.append(UNMEASURED)
        pytest.fail(f"not measured: the sweep failed, see {outcome.explained_by}", pytrace=False)

    def _enter(self, entry: CaseRecord) -> None:
        """Enter the case into the report of its test."""
        self._request.node.user_properties += [
            ("probe_accuracy", entry["accuracy"]),
            ("probe_verdict", entry["verdict"]),
        ]
        if entry["baseline_accuracy"] is not None:
            baseline = ("probe_baseline_accuracy", entry["baseline_accuracy"])
            self._request.node.user_properties.append(baseline)
        self._benchmark(entry)

    def _benchmark(self, entry: CaseRecord) -> None:
        """Enter the attributed time into pytest-benchmark, if it is there and was not told to stay out."""
        config = self._request.config
        if not config.pluginmanager.has_plugin("benchmark") or getattr(config.option, "benchmark_skip", False):
            return
        if hasattr(config, "workerinput"):
            return  # it keeps nothing of what worker processes ran, and warns
        clock = Ledger()
        self._request.node.add_marker(pytest.mark.benchmark(group=f"probe {self.case.sweep.id}", timer=clock))
        benchmark = self._request.getfixturevalue("benchmark")
        benchmark.extra_info.update(
            self.case.marks,
            probe=self.case.id,
            protocol=self.case.sweep.protocol,
            accuracy=entry["accuracy"],
            verdict=entry["verdict"],
        )
        benchmark.pedantic(clock.charge, args=(entry["seconds"],), rounds=1, iterations=1)


class Ledger:
    """A clock that runs only when it is charged: what a case cost is known, not measured again."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def __call__(self) -> float:
        return self._seconds

    def charge(self, seconds: float) -> None:
        self._seconds += seconds
