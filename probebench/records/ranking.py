"""Rank the cases of each dataset, and choose the tap of each sweep."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from probebench.catalog.taps import EMBED, FINAL, OUTPUT, Tap
from probebench.records.cases import SweepKey, group_by_sweep, key_of, sweeps_by_key, tap_of
from probebench.records.types import CaseRecord, Record, Score, TapScore


@dataclass(frozen=True)
class Row:
    """One case in a ranking. Gains are differences of accuracies, as fractions.

    Attributes:
        rank: from 1 within the dataset; cases of equal accuracy share the better rank
        case: the case of the run record
        tap: its tap
        gain_output: accuracy minus that of the same model's ``output``, which is what the network returns and one would
            use without probebench; None if that was not measured
        gain_rc2: the same against the block output of the last layer
        gain_equal_width: as `gain_output`, both of probes that read no more features than the residual stream is wide.
            A tap that is wider has a second probe for it, see `probebench.probes.width_control`; one that is not,
            also an ``output`` that is narrower because the network projects it, counts with its own accuracy. None
            where the record does not have what it takes
        gain_random: the gain of the same tap of the model's random control over the control's own ``output``, at equal
            width if the record has that, averaged over controls if there are several; None without any
    """

    rank: int
    case: CaseRecord
    tap: Tap
    gain_output: float | None
    gain_rc2: float | None
    gain_equal_width: float | None = None
    gain_random: float | None = None

    @property
    def key(self) -> SweepKey:
        """Model and dataset."""
        return key_of(self.case)

    @property
    def survived(self) -> float | None:
        """The part of the gain over ``output`` that both controls leave; None if one is missing.

        It is the gain at equal width minus the gain of the random control, if that is positive.
        """
        if self.gain_equal_width is None or self.gain_random is None:
            return None
        return self.gain_equal_width - max(0.0, self.gain_random)


_Key = tuple[str, str, Tap]  # model, dataset, tap


def rank(record: Record) -> dict[str, list[Row]]:
    """All cases of each dataset, from the most accurate to the least; datasets in the order they were measured.

    Ties go to the tap that data meets first, then to the model measured first.
    """
    sweeps = sweeps_by_key(record)
    taps = [(tap_of(case), case) for case in record["cases"]]
    cases: dict[_Key, CaseRecord] = {(*key_of(case), tap): case for tap, case in taps}
    streams = {key: stream_width(own) for key, own in group_by_sweep(record["cases"]).items()}
    controls: dict[SweepKey, list[str]] = {}
    for sweep in record["sweeps"]:
        if sweep["control_of"]:
            controls.setdefault((sweep["control_of"], sweep["dataset"]), []).append(sweep["model"])

    def gain(model: str, dataset: str, tap: Tap, over: Tap) -> float | None:
        one, other = cases.get((model, dataset, tap)), cases.get((model, dataset, over))
        return None if one is None or other is None else one["accuracy"] - other["accuracy"]

    def gain_equal_width(model: str, dataset: str, tap: Tap) -> float | None:
        width = streams.get((model, dataset))
        one, other = (accuracy_equal_width(cases.get((model, dataset, each)), width) for each in (tap, _OUTPUT))
        return None if one is None or other is None else one - other

    def gain_random(model: str, dataset: str, tap: Tap) -> float | None:
        gains = []
        for name in controls.get((model, dataset), []):
            found = gain_equal_width(name, dataset, tap)
            found = gain(name, dataset, tap, _OUTPUT) if found is None else found
            gains += [] if found is None else [found]
        return sum(gains) / len(gains) if gains else None

    ranking: dict[str, list[Row]] = {}
    for dataset in dict.fromkeys(case["dataset"] for case in record["cases"]):
        ordered = [(tap, case) for tap, case in taps if case["dataset"] == dataset]
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
                    gain_output=gain(model, dataset, tap, _OUTPUT),
                    gain_rc2=gain(model, dataset, tap, Tap(sweeps[key_of(case)]["depth"], "rc2")),
                    gain_equal_width=gain_equal_width(model, dataset, tap),
                    gain_random=gain_random(model, dataset, tap),
                )
            )
        ranking[dataset] = rows
    return ranking


_OUTPUT = Tap(OUTPUT, OUTPUT)
_STREAM = (EMBED, FINAL, "rc1", "rc2")
"""Sites that are as wide as the residual stream; twice as wide if two poolings are concatenated."""


def stream_width(cases: Iterable[CaseRecord]) -> int | None:
    """The width of the residual stream of a sweep's model; None for a record from before there was such a control.

    The probes at equal width have it. If there are none, no tap may be wider, or the control was not made: then it is
    the least width of the taps that are known to be as wide, or of all if those were not measured.
    """
    known = [case for case in cases if "width_matched" in case]
    for case in known:
        if (matched := case["width_matched"]) is not None:
            return matched["width"]
    return min((case["width"] for case in [c for c in known if c["site"] in _STREAM] or known), default=None)


def accuracy_equal_width(case: CaseRecord | None, stream: int | None) -> float | None:
    """The accuracy of a case of a probe that reads no more features than the residual stream is wide; None if unknown.

    Args:
        stream: the width of the residual stream, see `stream_width`
    """
    if case is None or stream is None or "width_matched" not in case:
        return None
    if (matched := case["width_matched"]) is not None:
        return matched["accuracy"]
    # A wide tap without the control has no accuracy at equal width: its own is not that.
    return case["accuracy"] if case["width"] <= stream else None


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
