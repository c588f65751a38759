"""A run record arranged as the report reads it: sweeps with their cases by tap, and the tap that each chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from probebench.catalog.taps import FINAL, Tap
from probebench.records.ranking import Row, rank, selection_score
from probebench.records.tap_selection import select_tap
from probebench.records.types import Record


@dataclass(frozen=True)
class SweepView:
    """One sweep of the record.

    Attributes:
        number: its position in the record, which links and scripts go by
        record: as the record has it
        rows: its cases by tap, in the order data meets them
        selection: as the schema describes it, always there
    """

    number: int
    record: Record
    rows: Mapping[Tap, Row] = field(repr=False)
    selection: Record

    @property
    def model(self) -> str:
        return str(self.record["model"])

    @property
    def dataset(self) -> str:
        return str(self.record["dataset"])

    @property
    def depth(self) -> int:
        return int(self.record["depth"])

    @property
    def control_of(self) -> str | None:
        found: str | None = self.record["control_of"]
        return found

    @property
    def shift(self) -> str:
        """``none``, ``shift`` or ``strong``, as the catalog has it; empty where it is not known."""
        return str(self.record["shift"])

    @property
    def trained_on(self) -> str:
        """Where the probe was fitted, if that is another dataset; else empty."""
        name = str(self.record.get("trained_on") or self.dataset)
        return "" if name == self.dataset else name

    @property
    def chosen(self) -> Row:
        return self.rows[Tap.parse(self.selection["tap"])]

    @property
    def final(self) -> Row | None:
        return self.rows.get(Tap(FINAL, FINAL))

    def count(self, verdict: str) -> int:
        return sum(row.case["verdict"] == verdict for row in self.rows.values())


@dataclass(frozen=True)
class RecordView:
    """All that the sections of the report are made of.

    Attributes:
        record: the run record
        name: what it is called; empty if it has no name
    """

    record: Record
    name: str

    @cached_property
    def ranking(self) -> dict[str, list[Row]]:
        return rank(self.record)

    @cached_property
    def sweeps(self) -> list[SweepView]:
        rows: dict[tuple[str, str], dict[Tap, Row]] = {}
        for ranked in self.ranking.values():
            for row in ranked:
                rows.setdefault((row.case["model"], row.case["dataset"]), {})[row.tap] = row
        found: list[SweepView] = []
        for record in self.record["sweeps"]:
            key = record["model"], record["dataset"]
            if key not in rows:
                continue
            its_rows = dict(sorted(rows[key].items()))
            selection = _stored_selection(record, its_rows)
            if selection is None:  # nothing is compared without bits, so at no level
                selection = select_tap([row.case for row in its_rows.values()], {}) or {}
                selection |= {"level": None}
            found.append(SweepView(len(found), record, its_rows, selection))
        return found

    @cached_property
    def by_name(self) -> dict[tuple[str, str], SweepView]:
        """Sweeps by model and dataset."""
        return {(sweep.model, sweep.dataset): sweep for sweep in self.sweeps}

    @cached_property
    def datasets(self) -> dict[str, list[SweepView]]:
        """Sweeps by dataset; a control follows its model where both were measured on it."""
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
    def counts(self) -> dict[str, int]:
        """Cases by verdict, what needs attention first."""
        every = ("regressed", "improved", "not comparable", "new", "same")
        return {verdict: sum(sweep.count(verdict) for sweep in self.sweeps) for verdict in every}

    def control(self, model: str, dataset: str) -> SweepView | None:
        """The sweep of a model's random control on a dataset."""
        return next((s for s in self.datasets[dataset] if s.control_of == model), None)


def _stored_selection(sweep: Record, rows: Mapping[Tap, Row]) -> Record | None:
    """The selection that the record has, unless it is of other cases: a merged sweep may have more than one run's."""
    selection: Record | None = sweep.get("selection")
    if selection is None:
        return None
    chosen, best = (rows.get(Tap.parse(selection[key])) for key in ("tap", "best"))
    if chosen is None or best is None:
        return None
    outdone = any(
        selection_score(row.case) > selection_score(chosen.case) or row.case["accuracy"] > best.case["accuracy"]
        for row in rows.values()
    )
    return None if outdone else selection
