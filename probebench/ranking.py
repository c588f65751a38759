"""Which cases are best: the ranking within a dataset, and the tap that a protocol would choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from probebench.sites import FINAL, Tap


@dataclass(frozen=True)
class Row:
    """One case in a ranking.

    Attributes:
        rank: from 1 within the dataset; cases of equal accuracy share the better rank
        case: the case of the run record
        tap: its tap
        gain_final: accuracy minus that of the same model's ``final``; None where that was not measured
        gain_rc2: the same against the block output of the last layer
    """

    rank: int
    case: dict[str, Any]
    tap: Tap
    gain_final: float | None
    gain_rc2: float | None


def rank(record: dict[str, Any]) -> dict[str, list[Row]]:
    """Per dataset, in the order they were measured, all cases from the most accurate to the least.

    Ties go to the tap that data meets first, then to the model measured first.
    """
    depth = {(s["model"], s["dataset"]): s["depth"] for s in record["sweeps"]}
    accuracy = {(c["model"], c["dataset"], c["layer"], c["site"]): c["accuracy"] for c in record["cases"]}

    def gain(case: dict[str, Any], layer: int | str, site: str) -> float | None:
        reference = accuracy.get((case["model"], case["dataset"], layer, site))
        return None if reference is None else case["accuracy"] - reference

    ranking: dict[str, list[Row]] = {}
    for dataset in dict.fromkeys(case["dataset"] for case in record["cases"]):
        cases = [(Tap(c["layer"], c["site"]), c) for c in record["cases"] if c["dataset"] == dataset]
        cases.sort(key=lambda pair: (-pair[1]["accuracy"], pair[0]))
        rows: list[Row] = []
        for position, (tap, case) in enumerate(cases, start=1):
            tied = rows and rows[-1].case["accuracy"] == case["accuracy"]
            rows.append(
                Row(
                    rank=rows[-1].rank if tied else position,
                    case=case,
                    tap=tap,
                    gain_final=gain(case, FINAL, FINAL),
                    gain_rc2=gain(case, depth[case["model"], dataset], "rc2"),
                )
            )
        ranking[dataset] = rows
    return ranking


def selection_score(case: dict[str, Any]) -> float:
    """What the best tap is chosen by: the accuracy on held-out training images where there is one, else on test."""
    held_out = case.get("held_out_accuracy")
    return float(case["accuracy"] if held_out is None else held_out)


def best_taps(ranking: dict[str, list[Row]]) -> list[Row]:
    """On each dataset, the best tap of each model by `selection_score`."""
    return [
        max((row for row in rows if row.case["model"] == model), key=lambda row: selection_score(row.case))
        for rows in ranking.values()
        for model in dict.fromkeys(row.case["model"] for row in rows)
    ]


def optimism(record: dict[str, Any]) -> float | None:
    """How much choosing the tap on the test images would promise too much, as a fraction, averaged over sweeps.

    Returns:
        the best test accuracy of a sweep's taps minus that of the tap chosen on held-out images; None for a record
        whose taps are chosen on test
    """
    sweeps: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for case in record["cases"]:
        if case.get("held_out_accuracy") is not None:
            sweeps.setdefault((case["model"], case["dataset"]), []).append(case)
    gaps = [
        max(case["accuracy"] for case in cases) - max(cases, key=selection_score)["accuracy"]
        for cases in sweeps.values()
    ]
    return sum(gaps) / len(gaps) if gaps else None
