"""Rank the cases of each dataset, and choose the tap of each sweep."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from probebench.catalog.taps import FINAL, Tap
from probebench.records.cases import SweepKey, group_by_sweep, key_of, sweeps_by_key, tap_of
from probebench.records.types import CaseRecord, Record, Score, TapScore


@dataclass(frozen=True)
class Row:
    """One case in a ranking. Gains are differences of accuracies, as fractions.

    Attributes:
        rank: from 1 within the dataset; cases of equal accuracy share the better rank
        case: the case of the run record
        tap: its tap
        gain_final: accuracy minus that of the same model's ``final``; None if that was not measured
        gain_rc2: the same against the block output of the last layer
        gain_equal_width: as `gain_final`, of probes that read no more features than the residual stream is wide; None
            where the record does not have those
        gain_random: the gain of the same tap of the model's random control over the control's own ``final``, at equal
            width if the record has that, averaged over controls if there are several; None without any
    """

    rank: int
    case: CaseRecord
    tap: Tap
    gain_final: float | None
    gain_rc2: float | None
    gain_equal_width: float | None = None
    gain_random: float | None = None

    @property
    def key(self) -> SweepKey:
        """Model and dataset."""
        return key_of(self.case)

    @property
    def survived(self) -> float | None:
        """The part of the gain over ``final`` that both controls leave; None if one is missing.

        It is the gain at equal width minus the gain of the random control, if that is positive.
        """
        if self.gain_equal_width is None or self.gain_random is None:
            return None
        return self.gain_equal_width - max(0.0, self.gain_random)


_Key = tuple[str, str, int | str, str]  # model, dataset, layer, site


def rank(record: Record) -> dict[str, list[Row]]:
    """All cases of each dataset, from the most accurate to the least; datasets in the order they were measured.

    Ties go to the tap that data meets first, then to the model measured first.
    """
    sweeps = sweeps_by_key(record)
    cases: dict[_Key, CaseRecord] = {(*key_of(c), c["layer"], c["site"]): c for c in record["cases"]}
    controls: dict[tuple[str, str], list[str]] = {}
    for sweep in record["sweeps"]:
        if sweep["control_of"]:
            controls.setdefault((sweep["control_of"], sweep["dataset"]), []).append(sweep["model"])

    def gain(model: str, case: CaseRecord, layer: int | str, site: str) -> float | None:
        """The gain of a model at the tap of `case` over another of its taps."""
        one = cases.get((model, case["dataset"], case["layer"], case["site"]))
        other = cases.get((model, case["dataset"], layer, site))
        return None if one is None or other is None else one["accuracy"] - other["accuracy"]

    def random_gain(case: CaseRecord) -> float | None:
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
                    gain_rc2=gain(model, case, sweeps[key_of(case)]["depth"], "rc2"),
                    gain_equal_width=_gain_equal_width(case, cases.get((model, dataset, FINAL, FINAL))),
                    gain_random=random_gain(case),
                )
            )
        ranking[dataset] = rows
    return ranking


def _gain_equal_width(case: CaseRecord, final: CaseRecord | None) -> float | None:
    if final is None:
        return None

    def accuracy(of: CaseRecord) -> float | None:
        if "width_matched" not in of:
            return None  # a record from before there was such a control
        if (matched := of["width_matched"]) is not None:
            return matched["accuracy"]
        # A wide tap without the control has no accuracy at equal width: its own is not that.
        return of["accuracy"] if of["width"] <= final["width"] else None

    one, other = accuracy(case), accuracy(final)
    return None if one is None or other is None else one - other


def selection_score(case: TapScore) -> float:
    """The score that taps are chosen by: accuracy on held-out training images if there is one, else on test."""
    held_out = case.get("held_out_accuracy")
    return case["accuracy"] if held_out is None else held_out


def choose(cases: Iterable[Score]) -> Score:
    """The case with the best `selection_score` of one model's cases on one dataset, at least one.

    Ties go to the tap that data meets first: nothing about the test images may break them.
    """
    return min(cases, key=lambda case: (-selection_score(case), tap_of(case)))


def best_row(rows: Sequence[Row]) -> Row:
    """The row of the case that `choose` gives for one model's rows on one dataset, at least one."""
    case = choose(row.case for row in rows)
    return next(row for row in rows if row.case is case)


def best_taps(ranking: dict[str, list[Row]]) -> list[Row]:
    """The row of the chosen tap of each model on each dataset."""
    groups: dict[SweepKey, list[Row]] = {}
    for rows in ranking.values():
        for row in rows:
            groups.setdefault(row.key, []).append(row)
    return [best_row(rows) for rows in groups.values()]


def optimism(record: Record, datasets: Collection[str] | None = None) -> float | None:
    """The optimism gap, as a fraction: how much too good results would look if taps were chosen on the test images.

    Args:
        datasets: those that are averaged over, of one task; all by default

    Returns:
        the best test accuracy of a sweep's taps minus that of the tap chosen on held-out images, averaged over
        sweeps; None for a record whose taps are chosen on test
    """
    sweeps = group_by_sweep(
        case
        for case in record["cases"]
        if case.get("held_out_accuracy") is not None and (datasets is None or case["dataset"] in datasets)
    )
    gaps = [max(case["accuracy"] for case in cases) - choose(cases)["accuracy"] for cases in sweeps.values()]
    return sum(gaps) / len(gaps) if gaps else None
