"""Verdicts: the score of a case compared with its baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from probebench.catalog.taps import Tap
from probebench.records.baselines import Baseline, incomparable
from probebench.records.types import Verdict
from probebench.stats import Move, holm, paired

Key = TypeVar("Key")


@dataclass(frozen=True)
class Judgement:
    """The verdict on one case.

    Attributes:
        verdict: see docs/statistics.md
        baseline_accuracy: None if there is no comparable baseline
        lost, gained: test examples that were right and are wrong now, and the reverse; of scores, those that are lower
            and higher now
        p_value: one-sided exact McNemar, of scores the sign-flip test, of the direction in which the accuracy moved
        reason: why the case is ``not comparable``; else empty
    """

    verdict: Verdict
    baseline_accuracy: float | None = None
    lost: int = 0
    gained: int = 0
    p_value: float | None = None
    reason: str = ""


def judge(
    now: Baseline, stored: Baseline | None, *, alpha: float, min_drop: float, family: int
) -> dict[Tap, Judgement]:
    """The verdicts on the cases of one sweep.

    A case has regressed if its accuracy fell by at least `min_drop` and the paired test rejects "no worse" under
    Holm's procedure, and improved if the same holds the other way round.

    Args:
        now: what the sweep measured
        stored: the baseline; None if there is none
        alpha: family-wise error level of each direction over the whole run
        min_drop: smallest accuracy change that counts, as a fraction
        family: number of cases in the run
    """
    if stored is None:
        return {tap: Judgement("new") for tap in now.correct}
    if reason := incomparable(stored, now):
        return {tap: Judgement("not comparable", reason=f"baseline has {reason}") for tap in now.correct}
    moves = {tap: paired(stored.correct[tap], correct) for tap, correct in now.correct.items() if tap in stored.correct}
    judgements = judge_moves(moves, alpha=alpha, min_drop=min_drop, family=family)
    return {tap: judgements.get(tap, Judgement("new")) for tap in now.correct}


def judge_moves(moves: Mapping[Key, Move], *, alpha: float, min_drop: float, family: int) -> dict[Key, Judgement]:
    """The verdicts on cases that can be compared, by the key of each.

    Args:
        alpha, min_drop, family: see `judge`
    """
    worse = dict(zip(moves, holm([move.p_down for move in moves.values()], alpha, family), strict=True))
    better = dict(zip(moves, holm([move.p_up for move in moves.values()], alpha, family), strict=True))
    judgements = {}
    for key, move in moves.items():
        material = abs(move.before - move.now) >= min_drop * move.n_test
        verdict: Verdict = "same"
        if material and move.now < move.before and worse[key]:
            verdict = "regressed"
        elif material and move.now > move.before and better[key]:
            verdict = "improved"
        p_value = move.p_down if move.now <= move.before else move.p_up
        judgements[key] = Judgement(verdict, move.before / move.n_test, move.lost or 0, move.gained or 0, p_value)
    return judgements
