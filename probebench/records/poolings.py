"""Compare the poolings of tokens: which one is best at which depth, and over datasets under which shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from probebench.catalog.protocols import get_protocol
from probebench.catalog.taps import FINAL, POOLINGS, Tap
from probebench.catalog.tasks import Task
from probebench.errors import UnknownName
from probebench.records.cases import SweepKey, group_by_sweep, key_of, tap_of
from probebench.records.gains import Gain, group_by_shift, mean_gain
from probebench.records.ranking import choose
from probebench.records.tap_selection import LEVEL
from probebench.records.types import Correct, Part, PoolingRecord, Record, ScoredCase, SweepRecord
from probebench.stats import holm, paired, paired_change

PARTS: tuple[Part, ...] = get_args(Part)
"""The thirds of the layers, and the tap ``final``."""


def part_of(tap: Tap, depth: int) -> Part | None:
    """The third of a network of `depth` layers that a tap is in; None for one outside of the layers but ``final``."""
    if isinstance(tap.layer, int):
        return "early" if 3 * tap.layer <= depth else "middle" if 3 * tap.layer <= 2 * depth else "late"
    return "final" if tap.layer == FINAL else None


def compare_poolings(
    cases: Sequence[ScoredCase], correct: Correct, depth: int, pooling: str, level: float = LEVEL
) -> list[PoolingRecord]:
    """The accuracy of a sweep by pooling and depth, as its record has it.

    In each part of the network and for each pooling a tap is chosen on held-out images, as that of the sweep is. It is
    compared with the one that is chosen there with the pooling of the protocol, on the same test images: with a paired
    interval (`probebench.stats.paired_change`) and the exact two-sided test of verdicts. Holm's procedure over all
    these gains of the sweep bounds the probability of calling any of them different that is not. Taps outside of the
    layers, but ``final``, and combinations are left out.

    Args:
        cases: of one model, dataset and protocol
        correct: as of `probebench.records.tap_selection.select_tap`; without that of a tap, its gain has no interval,
            but counts in Holm's procedure
        depth: of the network
        pooling: that of the protocol, which taps without one of their own have
        level: family-wise error level of the tests

    Returns:
        the ``poolings`` of the schema, part by part and the protocol's pooling first; empty if no tap has another one
    """
    groups: dict[tuple[Part, str], list[ScoredCase]] = {}
    for case in cases:
        tap = tap_of(case)
        if (part := part_of(tap, depth)) is not None:
            groups.setdefault((part, tap.pooling), []).append(case)
    if not any(own for _, own in groups):
        return []
    found = []
    for part in PARTS:
        plain = choose(groups[part, ""]) if (part, "") in groups else None
        for own in ("", *POOLINGS):
            if (part, own) in groups:
                chosen = choose(groups[part, own])
                found.append(_entry(part, own or pooling, chosen, plain if own else None, correct))
    gains = [each for each in found if each["gain"] is not None]
    known = [each for each in gains if each["p_value"] is not None]
    differs = holm([each["p_value"] or 0.0 for each in known], level, family=len(gains))
    for each, different in zip(known, differs, strict=True):
        each["differs"] = different
    return found


def _entry(part: Part, pooling: str, chosen: ScoredCase, plain: ScoredCase | None, correct: Correct) -> PoolingRecord:
    entry: PoolingRecord = {
        "part": part,
        "pooling": pooling,
        "tap": tap_of(chosen).id,
        "accuracy": chosen["accuracy"],
        "gain": None if plain is None else chosen["accuracy"] - plain["accuracy"],
        "ci95": None,
        "p_value": None,
        "differs": None,
    }
    if plain is not None and plain["id"] in correct and chosen["id"] in correct:
        before, now = correct[plain["id"]], correct[chosen["id"]]
        entry["ci95"] = list(paired_change(before, now))
        entry["p_value"] = paired(before, now).p_two_sided
    return entry


def pooling_of(protocol: str, sweeps: Sequence[SweepRecord] = ()) -> str:
    """The pooling of a protocol; empty if nothing tells it.

    Args:
        sweeps: by that protocol, which may tell it if the catalog does not know the protocol
    """
    for each in (each for sweep in sweeps for each in sweep.get("poolings", ())):
        if not Tap.parse(each["tap"]).pooling:
            return each["pooling"]
    try:
        return get_protocol(protocol).pooling
    except UnknownName:
        return ""


@dataclass(frozen=True)
class PoolingGain:
    """The gain of a pooling over that of the protocol in one part of a network, averaged over datasets.

    Attributes:
        part: of the network
        pooling: its name
        gain: as a fraction
        ci95: its 95% interval
        p_value: two-sided, of no gain
        differs: whether it is significant, by Holm's procedure over all gains of the model
    """

    part: Part
    pooling: str
    gain: float
    ci95: tuple[float, float]
    p_value: float
    differs: bool = False


@dataclass(frozen=True)
class PoolingAnswer:
    """The answer which pooling is best at which depth, of one model on its datasets of one shift.

    Attributes:
        model: its name
        task: of the datasets
        shift: as the catalog has it; empty if it is not known
        datasets: their number
        plain: the pooling of the protocol, which gains are over
        gains: part by part
        family: the number of gains that Holm's procedure went over
    """

    model: str
    task: Task
    shift: str
    datasets: int
    plain: str
    gains: list[PoolingGain]
    family: int


def pooling_answers(record: Record) -> list[PoolingAnswer]:
    """The answers of a record, controls left out: model by model, and by growing shift.

    Gains are averaged over datasets as `probebench.records.gains.mean_gain` says.
    """
    tests = {key: cases[0]["n_test"] for key, cases in group_by_sweep(record["cases"]).items()}
    answers = []
    for (model, task), by_shift in group_by_shift(record, "poolings").items():
        gains = {shift: _average(sweeps, tests) for shift, sweeps in by_shift.items()}
        flat = [gain for own in gains.values() for gain in own]
        differs = iter(holm([gain.p_value for gain in flat], LEVEL))
        for shift, own in gains.items():
            judged = [replace(gain, differs=next(differs)) for gain in own]
            sweeps = by_shift[shift]
            plain = pooling_of(sweeps[0]["protocol"], sweeps)
            if judged:
                answers.append(PoolingAnswer(model, task, shift, len(sweeps), plain, judged, len(flat)))
    return answers


def _average(sweeps: Sequence[SweepRecord], tests: Mapping[SweepKey, int]) -> list[PoolingGain]:
    """The gains that have an interval, averaged over the sweeps that have them."""
    found: dict[tuple[Part, str], list[Gain]] = {}
    for sweep in sweeps:
        for each in sweep["poolings"]:
            gain, ci95, p_value = each["gain"], each["ci95"], each["p_value"]
            if gain is not None and ci95 is not None and p_value is not None:
                one = Gain(gain, (ci95[0], ci95[1]), p_value, tests[key_of(sweep)])
                found.setdefault((each["part"], each["pooling"]), []).append(one)
    ordered = sorted(found, key=lambda key: (PARTS.index(key[0]), POOLINGS.index(key[1])))
    means = [(key, mean_gain(found[key])) for key in ordered]
    return [PoolingGain(*key, mean.value, mean.ci95, mean.p_value) for key, mean in means]
