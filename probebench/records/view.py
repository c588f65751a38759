"""A run record as every face reads it: rankings, sweeps with their cases by tap and the selected tap, and controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from probebench.catalog.taps import FINAL, OUTPUT, Tap
from probebench.catalog.tasks import CLASSIFICATION, Task
from probebench.records.cases import SweepKey, key_of, task_of
from probebench.records.contrasts import ContrastAnswer, contrast_answers
from probebench.records.controls import Controls, controls
from probebench.records.poolings import PoolingAnswer, pooling_answers, pooling_of
from probebench.records.ranking import Row, best_taps, optimism, rank
from probebench.records.tap_selection import Selections, select_tap, stored_selection
from probebench.records.trends import ShiftTrend, shift_trends, unavailable_distances
from probebench.records.types import CaseRecord, PoolingRecord, Record, SelectionRecord, SweepRecord, Verdict

VERDICTS: tuple[Verdict, ...] = ("regressed", "improved", "not comparable", "new", "same")
"""All verdicts; those that need attention come first."""

MOVED: tuple[Verdict, ...] = VERDICTS[:2]
"""The verdicts on cases that changed."""


@dataclass(frozen=True)
class SweepView:
    """One sweep of the record.

    Attributes:
        number: its position in the record, used by links and scripts
        record: its entry in the record
        rows: its cases by tap, in the order data meets them
        selection: as the record has it; chosen here, without ties, if the record has none of these cases
    """

    number: int
    record: SweepRecord
    rows: Mapping[Tap, Row] = field(repr=False)
    selection: SelectionRecord

    @property
    def key(self) -> SweepKey:
        """Model and dataset."""
        return key_of(self.record)

    @property
    def task(self) -> Task:
        """The task of the dataset: how its scores are called and written."""
        return task_of(self.record)

    @property
    def model(self) -> str:
        return self.record["model"]

    @property
    def dataset(self) -> str:
        return self.record["dataset"]

    @property
    def depth(self) -> int:
        return self.record["depth"]

    @property
    def control_of(self) -> str | None:
        return self.record["control_of"]

    @property
    def shift(self) -> str:
        """``none``, ``shift`` or ``strong``, as the catalog has it; empty if it is not known."""
        return self.record["shift"]

    @property
    def trained_on(self) -> str:
        """The dataset that the probe was fitted on, if it is another one; else empty."""
        name = self.record.get("trained_on") or self.dataset
        return "" if name == self.dataset else name

    @property
    def distance(self) -> tuple[float, float] | None:
        """The distance from the pretraining data and its standard error; None if it was not measured."""
        found = self.record.get("shift_distance")
        return None if found is None or "unavailable" in found else (found["value"], found["standard_error"])

    @property
    def leaked(self) -> int:
        """The number of test images that are also among the training images, as far as that is known."""
        found = self.record.get("duplicates")
        return 0 if found is None else found["test_in_train"]

    @property
    def chosen(self) -> Row:
        return self.rows[Tap.parse(self.selection["tap"])]

    @property
    def final(self) -> Row | None:
        return self.rows.get(Tap(FINAL, FINAL))

    @property
    def output(self) -> Row | None:
        return self.rows.get(Tap(OUTPUT, OUTPUT))

    @cached_property
    def plain(self) -> dict[Tap, Row]:
        """The rows of taps with the pooling of the protocol, which curves and maps show."""
        return {tap: row for tap, row in self.rows.items() if not tap.pooling}

    @cached_property
    def poolings(self) -> list[PoolingRecord]:
        """Accuracy by pooling and depth, see `probebench.records.poolings.compare_poolings`."""
        ids = {tap.id for tap in self.rows}
        return [each for each in self.record.get("poolings", ()) if each["tap"] in ids]

    @property
    def pooling(self) -> str:
        """The pooling of the protocol; empty if it is not known."""
        return pooling_of(self.record["protocol"], [self.record])

    def count(self, verdict: Verdict) -> int:
        return sum(row.case["verdict"] == verdict for row in self.rows.values())


@dataclass(frozen=True)
class RecordView:
    """A run record with everything that is derived from it, each computed once.

    Attributes:
        record: the run record
        name: what it is called; empty if it has no name
    """

    record: Record
    name: str = ""

    @cached_property
    def ranking(self) -> dict[str, list[Row]]:
        """The ranked cases of each dataset."""
        return rank(self.record)

    @property
    def rows(self) -> list[Row]:
        """The ranked cases of all datasets."""
        return [row for rows in self.ranking.values() for row in rows]

    @cached_property
    def sweeps(self) -> list[SweepView]:
        """The sweeps that have a case."""
        rows: dict[SweepKey, list[Row]] = {}
        for row in self.rows:
            rows.setdefault(row.key, []).append(row)
        found: list[SweepView] = []
        for record in self.record["sweeps"]:
            own = sorted(rows.get(key_of(record), ()), key=lambda row: row.tap)
            cases = [row.case for row in own]
            if (selection := stored_selection(record, cases) or select_tap(cases, {})) is not None:
                found.append(SweepView(len(found), record, {row.tap: row for row in own}, selection))
        return found

    @cached_property
    def by_key(self) -> dict[SweepKey, SweepView]:
        """Sweeps by model and dataset."""
        return {sweep.key: sweep for sweep in self.sweeps}

    @property
    def selections(self) -> Selections:
        """Selections by model and dataset."""
        return {sweep.key: sweep.selection for sweep in self.sweeps}

    @cached_property
    def best(self) -> list[Row]:
        """The case of the chosen tap of each model on each dataset."""
        return best_taps(self.ranking)

    @cached_property
    def datasets(self) -> dict[str, list[SweepView]]:
        """Sweeps by dataset; a control follows its model if both were measured on it."""
        groups: dict[str, list[SweepView]] = {}
        for sweep in self.sweeps:
            groups.setdefault(sweep.dataset, []).append(sweep)
        for dataset, sweeps in groups.items():
            there = [sweep.model for sweep in sweeps]
            first = {
                s.number: there.index(s.control_of) if s.control_of in there else there.index(s.model) for s in sweeps
            }
            groups[dataset] = sorted(sweeps, key=lambda s: (first[s.number], s.control_of in there, s.number))
        return groups

    @cached_property
    def models(self) -> list[str]:
        return list(dict.fromkeys(sweep.model for sweep in self.sweeps))

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """The task of each dataset."""
        return {dataset: sweeps[0].task for dataset, sweeps in self.datasets.items()}

    @cached_property
    def task(self) -> Task | None:
        """The task that all datasets have; None if they have several, so that their scores cannot be averaged."""
        found = set(self.tasks.values())
        return found.pop() if len(found) == 1 else None if found else CLASSIFICATION

    @property
    def score_heading(self) -> str:
        """The title of a column of the scores of all datasets."""
        return "score" if self.task is None else self.task.heading

    def cases_with(self, verdict: Verdict) -> list[CaseRecord]:
        """The cases that have a verdict, in the order of the record."""
        return [case for case in self.record["cases"] if case["verdict"] == verdict]

    @cached_property
    def counts(self) -> dict[Verdict, int]:
        """The number of cases of each of `VERDICTS`."""
        return {verdict: len(self.cases_with(verdict)) for verdict in VERDICTS}

    @cached_property
    def controls(self) -> list[Controls]:
        return controls(self.record, self.ranking)

    @cached_property
    def shift_trends(self) -> list[ShiftTrend]:
        return shift_trends(self.record, self.ranking)

    @cached_property
    def pooling_answers(self) -> list[PoolingAnswer]:
        return pooling_answers(self.record)

    @cached_property
    def contrast_answers(self) -> list[ContrastAnswer]:
        return contrast_answers(self.record)

    @cached_property
    def unavailable_distances(self) -> dict[str, list[SweepKey]]:
        return unavailable_distances(self.record)

    @cached_property
    def data_notes(self) -> list[str]:
        """List what is known about how the images of its datasets were found, each once."""
        return list(dict.fromkeys(note for sweep in self.record["sweeps"] for note in sweep.get("data_notes", ())))

    @cached_property
    def optimism(self) -> dict[Task, float]:
        """The optimism gap of the datasets of each task that has one, see `probebench.records.ranking.optimism`."""
        found = {
            task: optimism(self.record, {name for name, own in self.tasks.items() if own is task})
            for task in dict.fromkeys(self.tasks.values())
        }
        return {task: gap for task, gap in found.items() if gap is not None}

    def control(self, model: str, dataset: str) -> SweepView | None:
        """The sweep of a model's random control on a dataset."""
        return next((s for s in self.datasets[dataset] if s.control_of == model), None)
