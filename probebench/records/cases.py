"""Reading the cases and sweeps of a run record: their keys, taps and metrics."""

from __future__ import annotations

from collections.abc import Iterable

from probebench.catalog.taps import Tap
from probebench.catalog.tasks import Task, task_of_metric
from probebench.records.types import (
    CaseRecord,
    EstimateRecord,
    MetricName,
    MetricsRecord,
    Record,
    SweepRecord,
    TapScore,
)

SweepKey = tuple[str, str]
"""Model and dataset: in one record, or a merged one, they name a sweep."""


def key_of(entry: CaseRecord | SweepRecord) -> SweepKey:
    """Model and dataset of a case or a sweep."""
    return entry["model"], entry["dataset"]


def task_of(sweep: SweepRecord) -> Task:
    """The task of a sweep's dataset, which its metric tells; classification in older records, which have none."""
    return task_of_metric(sweep.get("metric", ""))


def tap_of(case: TapScore) -> Tap:
    """The tap of a case."""
    return Tap(case["layer"], case["site"], case.get("pooling", ""))


def group_by_sweep(cases: Iterable[CaseRecord]) -> dict[SweepKey, list[CaseRecord]]:
    """The cases of each sweep, in the order they come."""
    groups: dict[SweepKey, list[CaseRecord]] = {}
    for case in cases:
        groups.setdefault(key_of(case), []).append(case)
    return groups


def sweeps_by_key(record: Record) -> dict[SweepKey, SweepRecord]:
    """The sweeps of a record by model and dataset."""
    return {key_of(sweep): sweep for sweep in record["sweeps"]}


def change_of(case: CaseRecord) -> float | None:
    """Accuracy minus that of the baseline; None without a comparable baseline."""
    before = case["baseline_accuracy"]
    return None if before is None else case["accuracy"] - before


def metric_value(case: CaseRecord, name: MetricName) -> float | None:
    """A metric of a case; None for one that it does not have."""
    if (found := _estimate(case, name)) is not None:
        return found["value"]
    return case.get("mean_per_class") if name == "mean_per_class" else None  # the place in older records


def metric_interval(case: CaseRecord, name: MetricName) -> list[float] | None:
    """The 95% interval of a metric of a case; None for one that it does not have."""
    found = _estimate(case, name)
    return None if found is None else found["ci95"]


def _estimate(case: CaseRecord, name: MetricName) -> EstimateRecord | None:
    return case.get("metrics", MetricsRecord()).get(name)
