"""Which cases are best: the ranking within a dataset, and the tap that a protocol would choose."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from probebench.catalog.taps import FINAL, Tap


@dataclass(frozen=True)
class Row:
    """One case in a ranking. Gains are differences of accuracies, as fractions.

    Attributes:
        rank: from 1 within the dataset; cases of equal accuracy share the better rank
        case: the case of the run record
        tap: its tap
        gain_final: accuracy minus that of the same model's ``final``; None where that was not measured
        gain_rc2: the same against the block output of the last layer
        gain_equal_width: as `gain_final`, of probes that read no more features than the residual stream is wide; None
            where the record does not have those
        gain_random: what the same tap of the model's random control gains over the control's own ``final``, at equal
            width where the record has that, averaged over controls where there are several; None without any
    """

    rank: int
    case: dict[str, Any]
    tap: Tap
    gain_final: float | None
    gain_rc2: float | None
    gain_equal_width: float | None = None
    gain_random: float | None = None

    @property
    def survived(self) -> float | None:
        """What is left of the gain over ``final`` after both controls; None where one is missing.

        The gain at equal width, less what the random control gains. A control that loses takes nothing off.
        """
        if self.gain_equal_width is None or self.gain_random is None:
            return None
        return self.gain_equal_width - max(0.0, self.gain_random)


_Key = tuple[str, str, int | str, str]  # model, dataset, layer, site


def rank(record: dict[str, Any]) -> dict[str, list[Row]]:
    """Per dataset, in the order they were measured, all cases from the most accurate to the least.

    Ties go to the tap that data meets first, then to the model measured first.
    """
    depth = {(s["model"], s["dataset"]): s["depth"] for s in record["sweeps"]}
    cases: dict[_Key, dict[str, Any]] = {(c["model"], c["dataset"], c["layer"], c["site"]): c for c in record["cases"]}
    controls: dict[tuple[str, str], list[str]] = {}
    for sweep in record["sweeps"]:
        if sweep.get("control_of"):
            controls.setdefault((sweep["control_of"], sweep["dataset"]), []).append(sweep["model"])

    def gain(model: str, case: dict[str, Any], layer: int | str, site: str) -> float | None:
        """What a model gains at the tap of `case` over another of its taps."""
        one = cases.get((model, case["dataset"], case["layer"], case["site"]))
        other = cases.get((model, case["dataset"], layer, site))
        return None if one is None or other is None else one["accuracy"] - other["accuracy"]

    def random(case: dict[str, Any]) -> float | None:
        gains = []
        for name in controls.get((case["model"], case["dataset"]), []):
            same, final = (
                cases.get((name, case["dataset"], *at)) for at in ((case["layer"], case["site"]), (FINAL, FINAL))
            )
            found = None if same is None else _gain_equal_width(same, final)
            found = gain(name, case, FINAL, FINAL) if found is None else found
            gains += [] if found is None else [found]
        return sum(gains) / len(gains) if gains else None

    ranking: dict[str, list[Row]] = {}
    for dataset in dict.fromkeys(case["dataset"] for case in record["cases"]):
        ordered = [(tap_of(c), c) for c in record["cases"] if c["dataset"] == dataset]
        ordered.sort(key=lambda pair: (-pair[1]["accuracy"], pair[0]))
        rows: list[Row] = []
        for position, (tap, case) in enumerate(ordered, start=1):
            tied = rows and rows[-1].case["accuracy"] == case["accuracy"]
            model = case["model"]
            rows.append(
                Row(
                    rank=rows[-1].rank if tied else position,
                    case=case,
                    tap=tap,
                    gain_final=gain(model, case, FINAL, FINAL),
                    gain_rc2=gain(model, case, depth[model, dataset], "rc2"),
                    gain_equal_width=_gain_equal_width(case, cases.get((model, dataset, FINAL, FINAL))),
                    gain_random=random(case),
                )
            )
        ranking[dataset] = rows
    return ranking


def _gain_equal_width(case: dict[str, Any], final: dict[str, Any] | None) -> float | None:
    if final is None:
        return None

    def accuracy(of: dict[str, Any]) -> float | None:
        if "width_matched" not in of:
            return None  # a record from before there was such a control
        if of["width_matched"] is not None:
            return float(of["width_matched"]["accuracy"])
        # A wide tap without the control has no accuracy at equal width: its own is not that.
        return float(of["accuracy"]) if of["width"] <= final["width"] else None

    one, other = accuracy(case), accuracy(final)
    return None if one is None or other is None else one - other


def tap_of(case: dict[str, Any]) -> Tap:
    """The tap of a case of a record."""
    return Tap(case["layer"], case["site"])


def metric(case: dict[str, Any], name: str) -> tuple[float, tuple[float, float] | None] | None:
    """A metric of a case of a record and its 95% interval, as far as the record has them.

    Args:
        name: ``top5``, ``mean_per_class``, ``nll`` or ``ece``
    """
    if found := case.get("metrics", {}).get(name):
        low, high = found["ci95"]
        return found["value"], (low, high)
    older = case.get("mean_per_class") if name == "mean_per_class" else None
    return None if older is None else (older, None)


def selection_score(case: dict[str, Any]) -> float:
    """What the best tap is chosen by: the accuracy on held-out training images where there is one, else on test."""
    held_out = case.get("held_out_accuracy")
    return float(case["accuracy"] if held_out is None else held_out)


def chosen(cases: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Of one model's cases on one dataset, at least one, the best by `selection_score`.

    Ties go to the tap that data meets first: nothing about the test images may break them.
    """
    return min(cases, key=lambda case: (-selection_score(case), tap_of(case)))


def best_row(rows: Sequence[Row]) -> Row:
    """Of one model's rows on one dataset, at least one, that of the `chosen` case."""
    case = chosen(row.case for row in rows)
    return next(row for row in rows if row.case is case)


def best_taps(ranking: dict[str, list[Row]]) -> list[Row]:
    """On each dataset, the `chosen` tap of each model."""
    best = []
    for rows in ranking.values():
        for model in dict.fromkeys(row.case["model"] for row in rows):
            own = [row for row in rows if row.case["model"] == model]
            best.append(best_row(own))
    return best


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
    gaps = [max(case["accuracy"] for case in cases) - chosen(cases)["accuracy"] for cases in sweeps.values()]
    return sum(gaps) / len(gaps) if gaps else None
