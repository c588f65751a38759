"""The object behind the `probe` fixture: check one case, and report its time to pytest-benchmark."""

from __future__ import annotations

import copy

import pytest

from probebench.catalog.cases import Case
from probebench.measure.outcome import SweepOutcome
from probebench.plugin.items import UNMEASURED
from probebench.records.types import CaseRecord


class Probe:
    """One measured case, as the `probe` fixture gives it to a test.

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
            self._report(entry)
        complaint = self._outcome.complaints.get(entry["id"])
        if complaint is not None:
            pytest.fail(complaint, pytrace=False)

    @property
    def accuracy(self) -> float:
        """Accuracy on the test images, a fraction from 0 to 1; with several draws of the training set, the mean."""
        return float(self._entry()["accuracy"])

    @property
    def ci95(self) -> tuple[float, float]:
        """The ends of the 95% interval of `accuracy`, as fractions."""
        low, high = self._entry()["ci95"]
        return low, high

    @property
    def record(self) -> CaseRecord:
        """A copy of this case's entry in the run record, as an object of ``cases`` in run-1.json."""
        return copy.deepcopy(self._entry())

    def _entry(self) -> CaseRecord:
        """Return the entry of the case. Fails the test if there is none, and explains why once a sweep."""
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

    def _report(self, entry: CaseRecord) -> None:
        """Add the case to the report of its test."""
        self._request.node.user_properties += [
            ("probe_accuracy", entry["accuracy"]),
            ("probe_verdict", entry["verdict"]),
        ]
        if entry["baseline_accuracy"] is not None:
            baseline = ("probe_baseline_accuracy", entry["baseline_accuracy"])
            self._request.node.user_properties.append(baseline)
        self._report_time(entry)

    def _report_time(self, entry: CaseRecord) -> None:
        """Report the attributed time to pytest-benchmark, unless it is not installed or is disabled."""
        config = self._request.config
        if not config.pluginmanager.has_plugin("benchmark") or getattr(config.option, "benchmark_skip", False):
            return
        if hasattr(config, "workerinput"):
            return  # pytest-benchmark drops the results of worker processes, with a warning
        clock = ChargedClock()
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


class ChargedClock:
    """A timer for pytest-benchmark that advances only by what it is charged: the cost of a case is already known."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def __call__(self) -> float:
        return self._seconds

    def charge(self, seconds: float) -> None:
        self._seconds += seconds
