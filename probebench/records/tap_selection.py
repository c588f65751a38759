"""Select the tap of a sweep, and test which others the test images cannot distinguish from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from probebench.records.cases import SweepKey, group_by_sweep, key_of, tap_of
from probebench.records.ranking import choose, selection_score
from probebench.records.types import Correct, Record, ScoredCase, SelectionRecord, SweepRecord
from probebench.stats import Scores, discordant, holm, mcnemar_two_sided, paired

LEVEL = 0.05


def select_tap(cases: Sequence[ScoredCase], correct: Correct, level: float = LEVEL) -> SelectionRecord | None:
    """The selection of one sweep, as its record has it.

    Each tap is compared with the chosen one on the same test images, by McNemar's exact two-sided test (over several
    draws of the training set by the sign test over images, see `probebench.stats.discordant`), of scores by the
    sign-flip test, and Holm's procedure
    over all other taps of the sweep bounds the probability of calling any tap different that is not. A tap that is
    not found different is *tied*.

    Args:
        cases: of one model, dataset and protocol
        correct: by id of a case, which test examples were right: bool of shape (n,) or (draws, n). If the chosen tap
            is not in it, ties are unknown; another tap that is not in it is neither tied, worse nor better, but counts
            in Holm's procedure.
        level: family-wise error level of the tests

    Returns:
        the ``selection`` object of the schema; None without cases
    """
    if not cases:
        return None
    choice = choose(cases)
    # If the chosen tap is among the best on test, it is the best.
    best = min(cases, key=lambda case: (-case["accuracy"], case is not choice, tap_of(case)))
    selection: SelectionRecord = {
        "tap": tap_of(choice).id,
        "by": "test" if choice.get("held_out_accuracy") is None else "held_out",
        "score": selection_score(choice),
        "accuracy": choice["accuracy"],
        "best": tap_of(best).id,
        "optimism": best["accuracy"] - choice["accuracy"],
        "tied": None,
        "worse": None,
        "better": None,
        "level": level,
    }
    if choice["id"] in correct:
        _add_ties(selection, choice, sorted(cases, key=tap_of), correct)
    return selection


def _add_ties(selection: SelectionRecord, choice: ScoredCase, cases: Sequence[ScoredCase], correct: Correct) -> None:
    others = [case for case in cases if case is not choice and case["id"] in correct]
    p_values, changes = _compare(correct[choice["id"]], [correct[case["id"]] for case in others])
    differs = holm(p_values, selection["level"], family=len(cases) - 1)
    rows = list(zip(others, changes, differs, strict=True))
    selection["tied"] = [tap_of(case).id for case, _, different in rows if not different]
    selection["worse"] = sum(different and change < 0 for _, change, different in rows)
    selection["better"] = sum(different and change > 0 for _, change, different in rows)


def _compare(chosen: Scores, others: Sequence[Scores]) -> tuple[list[float], list[float]]:
    """Return the two-sided p-values of other taps against the chosen one, and their changes, by their sign."""
    if chosen.dtype == np.bool_:
        changed = [discordant(chosen, other) for other in others]
        lost, gained = [pair[0] for pair in changed], [pair[1] for pair in changed]
        return list(mcnemar_two_sided(lost, gained)), [float(up - down) for down, up in changed]
    moves = [paired(chosen, other) for other in others]
    return [move.p_two_sided for move in moves], [move.now - move.before for move in moves]


def stored_selection(sweep: SweepRecord, cases: Sequence[ScoredCase]) -> SelectionRecord | None:
    """The selection that the record of a sweep has; None without one, or if it was made from other cases.

    A merged sweep may have cases of more than one run.
    """
    selection = sweep.get("selection")
    if selection is None:
        return None
    by_tap = {tap_of(case).id: case for case in cases}
    chosen, best = (by_tap.get(tap) for tap in (selection["tap"], selection["best"]))
    if chosen is None or best is None:
        return None
    outdone = any(
        selection_score(case) > selection_score(chosen) or case["accuracy"] > best["accuracy"] for case in cases
    )
    return None if outdone else selection


def with_selections(record: Record, correct: Correct) -> Record:
    """The record with a selection in each sweep: older records have none. Others are returned as they are."""
    if all("selection" in sweep for sweep in record["sweeps"]):
        return record
    cases = group_by_sweep(record["cases"])
    return record | {
        "sweeps": [
            sweep if "selection" in sweep else sweep | {"selection": select_tap(cases.get(key_of(sweep), []), correct)}
            for sweep in record["sweeps"]
        ]
    }


Selections = Mapping[SweepKey, SelectionRecord]
