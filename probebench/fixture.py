"""What a test does with one measured case: check it, and enter its time into pytest-benchmark."""

from __future__ import annotations

import pytest

from probebench.baselines import Judgement
from probebench.cases import Case
from probebench.plugin import UNMEASURED
from probebench.probing import TapResult
from probebench.run import Measured, Run


class Probe:
    """What the `probe` fixture gives a test: one measured case."""

    def __init__(self, request: pytest.FixtureRequest, run: Run, measured: Measured, case: Case) -> None:
        self._request, self._run, self._measured, self.case = request, run, measured, case

    def check(self) -> None:
        """Fail if the case regressed against its baseline, or could not be measured."""
        __tracebackhide__ = True
        item, measured = self._request.node, self._measured
        if measured.error is not None or measured.result is None or self.case.tap not in measured.result.taps:
            if measured.explained_by is None:
                measured.explained_by = item.nodeid
                if measured.traceback:
                    item.add_report_section("call", "traceback", measured.traceback)
                pytest.fail(f"sweep {self.case.sweep.id} could not be measured.\n{measured.error}", pytrace=False)
            item.user_properties.append(UNMEASURED)
            pytest.fail(f"not measured: the sweep failed, see {measured.explained_by}", pytrace=False)
        assert measured.judgements is not None
        result, judgement = measured.result.taps[self.case.tap], measured.judgements[self.case.tap]
        item.user_properties += [
            ("probe_accuracy", result.accuracy),
            ("probe_verdict", judgement.verdict),
        ]
        if judgement.baseline_accuracy is not None:
            item.user_properties.append(("probe_baseline_accuracy", judgement.baseline_accuracy))
        self._benchmark(result, judgement)
        complaint = self._run.complaint(self.case)
        if complaint is not None:
            pytest.fail(complaint, pytrace=False)

    def _benchmark(self, result: TapResult, judgement: Judgement) -> None:
        """Enter the attributed time into pytest-benchmark, if it is there and was not told to stay out."""
        config = self._request.config
        if not config.pluginmanager.has_plugin("benchmark") or getattr(config.option, "benchmark_skip", False):
            return
        clock = Ledger()
        self._request.node.add_marker(pytest.mark.benchmark(group=f"probe {self.case.sweep.id}", timer=clock))
        benchmark = self._request.getfixturevalue("benchmark")
        benchmark.extra_info.update(
            self.case.marks,
            probe=self.case.id,
            protocol=self.case.sweep.protocol,
            accuracy=result.accuracy,
            verdict=judgement.verdict,
        )
        benchmark.pedantic(clock.charge, args=(result.seconds,), rounds=1, iterations=1)


class Ledger:
    """A clock that runs only when it is charged: what a case cost is known, not measured again."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def __call__(self) -> float:
        return self._seconds

    def charge(self, seconds: float) -> None:
        self._seconds += seconds
