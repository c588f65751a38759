"""The tap that a protocol chooses, and the taps that the test images cannot tell from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from probebench.records.ranking import chosen, selection_score, tap_of

if TYPE_CHECKING:
    from probebench.records.types import Correct, Record

LEVEL = 0.05


def select_tap(cases: Sequence[Record], correct: Correct, level: float = LEVEL) -> Record | None:
    """The selection of one sweep, as its record has it.

    Each tap is compared with the chosen one on the same test images, by McNemar's exact two-sided test (over several
    draws of the training set by the sign test over images, see `probebench.stats.discordant`), and Holm's procedure
    over all other taps of the sweep holds the probability of calling any tap different that is not. A tap that is not
    found different is *tied*.

    Args:
        cases: case records of one model, dataset and protocol
        correct: by id of a case, which test examples were right: bool of shape (n,) or (draws, n). Without that of the
            chosen tap nothing is known about ties; a tap without it is neither tied, worse nor better, but counts in
            Holm's procedure.
        level: family-wise error level of the tests

    Returns:
        the ``selection`` object of the schema; None without cases
    """
    if not cases:
        return None
    choice = chosen(cases)
    # Where the chosen tap is among the best on test, it is the best.
    best = min(cases, key=lambda case: (-case["accuracy"], case is not choice, tap_of(case)))
    selection: Record = {
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
        selection |= _compared(choice, sorted(cases, key=tap_of), correct, level)
    return selection


def _compared(choice: Record, cases: Sequence[Record], correct: Correct, level: float) -> Record:
    from probebench.stats import discordant, holm, mcnemar_two_sided  # scipy takes its time

    others = [case for case in cases if case is not choice and case["id"] in correct]
    changed = [discordant(correct[choice["id"]], correct[case["id"]]) for case in others]
    lost, gained = [pair[0] for pair in changed], [pair[1] for pair in changed]
    differs = holm(list(mcnemar_two_sided(lost, gained)), level, family=len(cases) - 1)
    rows = list(zip(others, lost, gained, differs, strict=True))
    return {
        "tied": [tap_of(case).id for case, _, _, different in rows if not different],
        "worse": sum(different and lost > gained for _, lost, gained, different in rows),
        "better": sum(different and gained > lost for _, lost, gained, different in rows),
    }


def by_sweep(record: Record) -> dict[tuple[str, str], list[Record]]:
    """The cases of each (model, dataset), in the order of the record."""
    cases: dict[tuple[str, str], list[Record]] = {}
    for case in record["cases"]:
        cases.setdefault((case["model"], case["dataset"]), []).append(case)
    return cases


def selections(record: Record) -> dict[tuple[str, str], Record]:
    """By (model, dataset), the selection that a record has; where it has none, without a word on ties."""
    stored: dict[tuple[str, str], Any] = {(s["model"], s["dataset"]): s.get("selection") for s in record["sweeps"]}
    found = {}
    for key, cases in by_sweep(record).items():
        selection = stored[key] or select_tap(cases, {})
        assert selection is not None
        found[key] = selection
    return found


def with_selections(record: Record, correct: Correct) -> Record:
    """A record from before there were selections, with them; any other as it is."""
    if all("selection" in sweep for sweep in record["sweeps"]):
        return record
    cases = by_sweep(record)

    def whole(sweep: Record) -> Record:
        if "selection" in sweep:
            return sweep
        return sweep | {"selection": select_tap(cases.get((sweep["model"], sweep["dataset"]), []), correct)}

    return record | {"sweeps": [whole(sweep) for sweep in record["sweeps"]]}


Selections = dict[tuple[str, str], dict[str, Any]]
