"""Merge run records: of several machines, or of one machine at several times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from probebench.errors import ProbebenchError, unknown
from probebench.records.cases import SweepKey, group_by_sweep, key_of, tap_of
from probebench.records.contrasts import compare_places
from probebench.records.poolings import compare_poolings, pooling_of
from probebench.records.run_record import throughput
from probebench.records.tap_selection import select_tap
from probebench.records.types import (
    CaseRecord,
    Correct,
    FailureRecord,
    HardwareRecord,
    Record,
    SourceRecord,
    SweepRecord,
    WithheldRecord,
)
from probebench.stats import Scores


@dataclass(frozen=True)
class Stored:
    """A run record that was read from a file.

    Attributes:
        name: its name in messages
        record: the record
        correct: which test examples were right, by id of a case, as far as that is known
    """

    name: str
    record: Record
    correct: Correct = field(default_factory=dict, repr=False)

    @property
    def started(self) -> datetime:
        return datetime.fromisoformat(self.record["started"])


def merge(runs: Sequence[Stored], protocol: str | None = None) -> tuple[Record, Correct]:
    """Join the cases of several runs; if several runs have a case, the newest counts.

    If the cases of a sweep come from several runs, its tap is selected again, and compared with the others as far as
    it is known which test examples were right.

    Args:
        runs: at least one; of two that started in the same second, the later one in the sequence is the newer
        protocol: the name of the protocol to keep; by default that of all cases

    Returns:
        the record, of the same schema, and which test examples were right in its cases

    Raises:
        UnknownName: for a protocol that no run has
        ProbebenchError: if the runs cannot share a leaderboard: several protocols, another fingerprint of one, another
            test set of a dataset, or other weights of a model; with the names of both runs
    """
    runs = sorted(runs, key=lambda run: run.started)
    protocol = _only_protocol(runs, protocol)
    kept = [Stored(run.name, _of_protocol(run.record, protocol), run.correct) for run in runs]
    kept = [run for run in kept if run.record["sweeps"]] or kept
    _refuse_mixtures(kept)
    sweeps: dict[SweepKey, SweepRecord] = {}
    cases: dict[str, CaseRecord] = {}
    came_from: dict[str, int] = {}
    correct: dict[str, Scores] = {}
    for number, run in enumerate(kept):
        for sweep in run.record["sweeps"]:
            sweeps[key_of(sweep)] = sweep
        for case in run.record["cases"]:
            cases[case["id"]] = case
            came_from[case["id"]] = number
            correct.pop(case["id"], None)
            if case["id"] in run.correct:
                correct[case["id"]] = run.correct[case["id"]]
    for key, own in group_by_sweep(cases.values()).items():
        # A selection that one run made from all of these cases holds even if their bits are not at hand.
        if "selection" not in sweeps[key] or len({came_from[case["id"]] for case in own}) > 1:
            earlier = [sweep for run in kept for sweep in run.record["sweeps"] if key_of(sweep) == key]
            sweeps[key] = _of_several(sweeps[key], earlier, own, correct)
    newest = kept[-1].record
    hardware: HardwareRecord = newest["hardware"] | {
        "devices": sorted({name for run in kept for name in run.record["hardware"]["devices"]}),
        "gpus": sorted({name for run in kept for name in run.record["hardware"]["gpus"]}),
    }
    images, rate = throughput(list(sweeps.values()))
    merged: Record = newest | {
        "started": kept[0].record["started"],
        "duration_seconds": sum(run.record["duration_seconds"] for run in kept),
        "interrupted": any(run.record["interrupted"] for run in kept),
        "hardware": hardware,
        "precision": sorted({sweep["precision"] for sweep in sweeps.values()}),
        "seeds": sorted({sweep["seed"] for sweep in sweeps.values()}),
        "images": images,
        "images_per_second": rate,
        "sweeps": list(sweeps.values()),
        "cases": list(cases.values()),
        "failures": _failures(kept),
        "withheld": _withheld(kept),
        "stale": list(dict.fromkeys(name for run in kept for name in run.record["stale"])),
        "extra": {key: value for run in kept for key, value in run.record["extra"].items()},
        "merged": [source for run in kept for source in _sources(run)],
    }
    merged.pop("correct", None)
    merged.pop("shard", None)
    return merged, correct


def _of_several(
    newest: SweepRecord, sweeps: Sequence[SweepRecord], cases: Sequence[CaseRecord], correct: Correct
) -> SweepRecord:
    """The record of a sweep with what is derived from its cases, which several runs measured.

    Args:
        sweeps: its records by all runs, from the oldest
    """
    contrasts = compare_places(cases, correct, newest["depth"])
    merged = newest | {"selection": select_tap(cases, correct), "contrasts": contrasts}
    merged.pop("poolings", None)
    pooling = pooling_of(newest["protocol"], sweeps)
    if pooling and (poolings := compare_poolings(cases, correct, newest["depth"], pooling)):
        merged["poolings"] = poolings
    same_as: dict[str, str] = {}
    for sweep in sweeps:
        same_as |= sweep.get("same_as", {})
    there = {tap_of(case).id for case in cases}
    if same_as := {tap: other for tap, other in same_as.items() if {tap, other} <= there}:
        merged["same_as"] = same_as
    return merged


def missing_shards(records: Iterable[Record]) -> list[str]:
    """The parts of runs with ``--probe-shard`` that are missing among some records, such as ``2/3``."""
    found: dict[int, set[int]] = {}
    for record in records:
        if "shard" in record:
            part, count = record["shard"]
            found.setdefault(count, set()).add(part)
    return [f"{part}/{count}" for count, parts in found.items() for part in range(1, count + 1) if part not in parts]


def _only_protocol(runs: Sequence[Stored], wanted: str | None) -> str | None:
    found: dict[str, str] = {}  # the first run of each
    for run in runs:
        for sweep in run.record["sweeps"]:
            found.setdefault(sweep["protocol"], run.name)
    if wanted is not None:
        if wanted not in found:
            raise unknown("protocol", wanted, found)
        return wanted
    if len(found) > 1:
        which = ", ".join(f"{name} ({run})" for name, run in found.items())
        raise ProbebenchError(
            f"results of different protocols cannot share a leaderboard: {which}. Pick one with --protocol"
        )
    return next(iter(found), None)


def _of_protocol(record: Record, protocol: str | None) -> Record:
    return record | {
        "sweeps": [sweep for sweep in record["sweeps"] if protocol in (None, sweep["protocol"])],
        "cases": [case for case in record["cases"] if protocol in (None, case["protocol"])],
    }


def _refuse_mixtures(runs: Sequence[Stored]) -> None:
    values: dict[str, tuple[str, str]] = {}  # what must agree: its value, and the first run that has it

    def agree(run: Stored, what: str, value: object, remedy: str = "Leave one of the two out") -> None:
        before, first = values.setdefault(what, (str(value), run.name))
        if before != str(value):
            raise ProbebenchError(f"{what} differs: {before} in {first}, {value} in {run.name}. {remedy}")

    for run in runs:
        for case in run.record["cases"]:
            agree(run, f"the fingerprint of protocol {case['protocol']}", case["fingerprint"])
            agree(run, f"the number of training images of {case['dataset']}", case["n_train"])
        for sweep in run.record["sweeps"]:
            agree(run, f"the test set of {sweep['dataset']}", sweep["test_set"])
            remedy = "In a leaderboard one name stands for one set of weights; `probebench compare` compares two"
            agree(run, f"the weights digest of {sweep['model']}", sweep["weights"], remedy)


def _failures(runs: Sequence[Stored]) -> list[FailureRecord]:
    """The sweeps that failed and that no newer run has measured."""
    failures: dict[str, FailureRecord] = {}
    for run in runs:
        for sweep in run.record["sweeps"]:
            failures.pop(f"{sweep['model']}-{sweep['dataset']}", None)
        failures |= {failure["sweep"]: failure for failure in run.record["failures"]}
    return list(failures.values())


def _withheld(runs: Sequence[Stored]) -> list[WithheldRecord]:
    """The models that no run has measured, each as in the newest run."""
    measured = {sweep["model"] for run in runs for sweep in run.record["sweeps"]}
    found = {each["model"]: each for run in runs for each in run.record.get("withheld", ())}
    return [each for model, each in found.items() if model not in measured]


def _sources(run: Stored) -> list[SourceRecord]:
    record = run.record
    return record.get("merged") or [
        {
            "name": run.name,
            "started": record["started"],
            "command": record["command"],
            "versions": record["versions"],
            "hardware": record["hardware"],
        }
    ]
