"""The object behind the `probe` fixture: check one case, and enter it in the report of its test."""

from __future__ import annotations

import copy

import pytest

from probebench.catalog.cases import Case
from probebench.measure.outcome import SweepOutcome
from probebench.plugin.benchmark import report_time
from probebench.plugin.items import UNMEASURED, set_property
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
        """Accuracy on the test images, a fraction from 0 to 1; with several draws of the training set, the mean.

        Of a dataset of several labels an image it is the mean average precision, of real-valued targets R2.
        """
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
        if outcome.explained_by in (None, item.nodeid):  # a test that runs again because it failed explains it again
            if outcome.explained_by is None and outcome.traceback:
                item.add_report_section("call", "traceback", outcome.traceback)
            outcome.explained_by = item.nodeid
            pytest.fail(f"sweep {self.case.sweep.id} could not be measured.\n{outcome.error}", pytrace=False)
        set_property(item, UNMEASURED)
        pytest.fail(f"not measured: the sweep failed, see {outcome.explained_by}", pytrace=False)

    def _report(self, entry: CaseRecord) -> None:
        """Add the case to the report of its test."""
        item = self._request.node
        set_property(item, ("probe_accuracy", entry["accuracy"]))
        set_property(item, ("probe_verdict", entry["verdict"]))
        if entry["baseline_accuracy"] is not None:
            set_property(item, ("probe_baseline_accuracy", entry["baseline_accuracy"]))
        report_time(self._request, self.case, entry)
