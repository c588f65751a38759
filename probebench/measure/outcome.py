"""The outcome of a finished sweep, as plain data that can be saved and read by another process."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from probebench.catalog.cases import Case, Sweep
from probebench.errors import Note, StoreError
from probebench.records import run_record
from probebench.records.baselines import Baseline
from probebench.records.cases import tap_of
from probebench.records.types import CaseRecord, SweepRecord
from probebench.stats import Scores


@dataclass
class SweepOutcome:
    """The outcome of one sweep.

    Attributes:
        record: its entry in the run record; None if it failed before its first tap
        cases: the entries of the taps that were measured
        correct: by id of a case, bool of shape (n_test,), or (draws, n_test) for several draws; or scores, see
            `probebench.records.types.Correct`
        complaints: by id of a case, why it fails
        notes: lines for the end of the run's report
        stale: ids of baseline entries whose tap the model does not have
        complete: whether every selected tap was measured
        recalled: whether it is the result of an earlier run, taken over by --probe-resume
        unreachable: the explanation if something had to be downloaded and there is no network
        error: the explanation if it failed, one line
        traceback: of a failure that is not one of probebench's own errors
        stopped: whether something outside has stopped it, such as a time limit, so that it may succeed another time
        explained_by: id of the test that explained a failure
    """

    sweep: Sweep
    record: SweepRecord | None = None
    cases: list[CaseRecord] = field(default_factory=list)
    correct: dict[str, Scores] = field(default_factory=dict, repr=False)
    complaints: dict[str, str] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    complete: bool = False
    recalled: bool = False
    unreachable: str = ""
    error: str | None = None
    traceback: str = ""
    stopped: bool = False
    explained_by: str | None = None

    def case(self, case: Case) -> CaseRecord | None:
        """The entry of a case, or None if it was not measured."""
        return next((entry for entry in self.cases if entry["id"] == case.id), None)

    def baseline(self) -> Baseline:
        """Make a baseline of the measured cases, of which there must be one."""
        assert self.record is not None
        correct = {tap_of(case): self.correct[case["id"]] for case in self.cases}
        first = self.cases[0]
        return Baseline(
            self.sweep, first["fingerprint"], self.record["test_set"], first["n_test"], self.record["weights"], correct
        )


def save(outcome: SweepOutcome, path: Path) -> None:
    """Write an outcome to a JSON file, and its bits beside it as `probebench.records.run_record.save` does.

    Raises:
        StoreError: if it cannot be written
    """
    table = {key: value for key, value in vars(outcome).items() if key != "correct"}
    table |= {"sweep": asdict(outcome.sweep), "notes": [asdict(note) for note in outcome.notes]}
    run_record.save(table, path, outcome.correct)


def load(path: Path) -> SweepOutcome:
    """Read what `save` wrote.

    Raises:
        StoreError: if it cannot be read, or its bits are missing or damaged
    """
    try:
        table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({type(error).__name__}: {error})") from error
    correct = dict(run_record.load_correct(table, path))
    table.pop("correct", None)
    notes = [Note(**note) for note in table["notes"]]
    return SweepOutcome(**table | {"sweep": Sweep(**table["sweep"]), "correct": correct, "notes": notes})
