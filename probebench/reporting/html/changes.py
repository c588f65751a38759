"""Changes against the baselines: the cases with a verdict, and a summary of each sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from probebench._format import counted
from probebench.records.cases import change_of
from probebench.records.ranking import Row
from probebench.records.types import Verdict
from probebench.records.view import MOVED, RecordView, SweepView
from probebench.reporting.html.numbers import significant

SHOWN = 50  # cases of a verdict; the leaderboard has the others


@dataclass(frozen=True)
class Moved:
    """One case that has a baseline, as text."""

    sweep: SweepView
    tap: str
    baseline: str
    accuracy: str
    change: str
    lost: int
    gained: int
    p: str
    verdict: str


@dataclass(frozen=True)
class Group:
    """The cases of one verdict, the largest change first, and the number of those left out."""

    verdict: Verdict
    moved: list[Moved]
    left: int


@dataclass(frozen=True)
class Summary:
    """The changes of one sweep: cases by verdict, the mean change, and the largest either way with their taps."""

    sweep: SweepView
    counts: dict[Verdict, int]
    mean: str
    drop: str
    rise: str


def groups(contents: RecordView) -> list[Group]:
    """The cases that regressed and those that improved, as far as there are any."""
    found = []
    for verdict in MOVED:
        pairs = [(s, row) for s in contents.sweeps for row in s.rows.values() if row.case["verdict"] == verdict]
        pairs.sort(key=lambda pair: -abs(change_of(pair[1].case) or 0.0))
        if pairs:
            found.append(Group(verdict, [_moved(*pair) for pair in pairs[:SHOWN]], max(0, len(pairs) - SHOWN)))
    return found


def largest(contents: RecordView) -> list[Moved]:
    """The largest changes that are no verdict, to be looked at before concluding that nothing moved."""
    pairs = [
        (sweep, row)
        for sweep in contents.sweeps
        for row in sweep.rows.values()
        if row.case["verdict"] == "same" and change_of(row.case)
    ]
    pairs.sort(key=lambda pair: -abs(change_of(pair[1].case) or 0.0))
    return [_moved(*pair) for pair in pairs[:10]]


def summaries(contents: RecordView) -> list[Summary]:
    """One for each sweep, those with regressions first, then by their largest drop."""
    found = []
    for sweep in contents.sweeps:
        moves = [(value, row) for row in sweep.rows.values() if (value := change_of(row.case)) is not None]
        down = min(moves, key=lambda move: move[0], default=(0.0, None))
        up = max(moves, key=lambda move: move[0], default=(0.0, None))
        summary = Summary(
            sweep=sweep,
            counts={verdict: sweep.count(verdict) for verdict in contents.counts},
            mean=sweep.task.change(sum(value for value, _ in moves) / len(moves)) if moves else "",
            drop=_at(down[0], down[1], sweep) if down[0] < 0 else "",
            rise=_at(up[0], up[1], sweep) if up[0] > 0 else "",
        )
        found.append((-summary.counts["regressed"], down[0], sweep.number, summary))
    return [summary for *_, summary in sorted(found, key=lambda entry: entry[:3])]


def _at(value: float, row: Row | None, sweep: SweepView) -> str:
    return f"{sweep.task.change(value)} at {row.tap.id}" if row else ""


def _moved(sweep: SweepView, row: Row) -> Moved:
    case = row.case
    return Moved(
        sweep=sweep,
        tap=row.tap.id,
        baseline=sweep.task.number(case["baseline_accuracy"]),
        accuracy=sweep.task.number(case["accuracy"]),
        change=sweep.task.change(change_of(case)),
        lost=case["lost"],
        gained=case["gained"],
        p=significant(case["p_value"]),
        verdict=case["verdict"],
    )


def headline(contents: RecordView) -> Sequence[str]:
    """The phrases of the page's headline: ``3 regressed``, ``1 sweep failed``, ``interrupted``."""
    record, counts = contents.record, contents.counts
    failed = len(record["failures"])
    phrases = [f"{counts[verdict]:,} {verdict}" for verdict in MOVED if counts[verdict]]
    if failed:
        phrases.append(f"{counted(failed, 'sweep')} failed")
    if record["interrupted"]:
        phrases.append("interrupted")
    if not phrases:
        phrases = ["nothing moved" if counts["same"] else "nothing measured" if not contents.sweeps else "no baselines"]
    return phrases
