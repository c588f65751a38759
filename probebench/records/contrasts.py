"""Compare places in a network in pairs: does depth hurt, which site is best, what does the chosen tap gain?

These are the questions of arXiv 2603.05280. Each is one difference of two scores on the same test images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from probebench.catalog.taps import OUTPUT
from probebench.catalog.tasks import Task
from probebench.records.cases import SweepKey, group_by_sweep, key_of, tap_of
from probebench.records.gains import Gain, group_by_shift, mean_gain, pack_changes, unpack_changes
from probebench.records.ranking import accuracy_equal_width, choose, stream_width
from probebench.records.tap_selection import LEVEL
from probebench.records.types import CaseRecord, ContrastName, ContrastRecord, Correct, Record, SweepRecord
from probebench.stats import holm, paired, paired_change

CONTRASTS: tuple[ContrastName, ...] = get_args(ContrastName)
"""The pairs that are compared: the first place is better if the gain is positive."""

_Choice = Callable[[Sequence[CaseRecord], int], CaseRecord | None]


def compare_places(
    cases: Sequence[CaseRecord], correct: Correct, depth: int, level: float = LEVEL
) -> list[ContrastRecord]:
    """The contrasts of a sweep, as its record has them.

    A site stands for its best layer, chosen on held-out images as the tap of the sweep is, among taps with the pooling
    of the protocol. Each pair is compared on the same test images: with a paired interval
    (`probebench.stats.paired_change`) and the exact two-sided test of verdicts. Holm's procedure over the contrasts of
    the sweep bounds the probability of calling any pair different that is not.

    Args:
        cases: of one model, dataset and protocol
        correct: as of `probebench.records.tap_selection.select_tap`
        depth: of the network
        level: family-wise error level of the tests

    Returns:
        the ``contrasts`` of the schema, in the order of `CONTRASTS`; those whose places were not both measured, or of
        which it is not known which test images were right, are left out
    """
    found: list[ContrastRecord] = []
    stream = stream_width(cases)
    for name in CONTRASTS:
        first, second = (_PLACES[place](cases, depth) for place in name.split(" over "))
        if first is None or second is None or not {first["id"], second["id"]} <= correct.keys():
            continue
        if name == "rc2 over last rc2" and len(_of_site(cases, "rc2")) < 2:
            continue
        before, now = correct[second["id"]], correct[first["id"]]
        one, other = (accuracy_equal_width(case, stream) for case in (first, second))
        contrast: ContrastRecord = {
            "contrast": name,
            "tap": tap_of(first).id,
            "over": tap_of(second).id,
            "gain": first["accuracy"] - second["accuracy"],
            "ci95": list(paired_change(before, now)),
            "p_value": paired(before, now).p_two_sided,
            "differs": False,
            "gain_equal_width": None if one is None or other is None else one - other,
        }
        if (changes := pack_changes(before, now)) is not None:
            contrast["changes"] = changes
        found.append(contrast)
    for each, different in zip(found, holm([each["p_value"] for each in found], level), strict=True):
        each["differs"] = different
    return found


def _of_site(cases: Sequence[CaseRecord], site: str) -> list[CaseRecord]:
    return [case for case in cases if case["site"] == site and not tap_of(case).pooling]


def _best_of(site: str) -> _Choice:
    def find(cases: Sequence[CaseRecord], depth: int) -> CaseRecord | None:
        own = _of_site(cases, site)
        return choose(own) if own else None

    return find


def _last_block(cases: Sequence[CaseRecord], depth: int) -> CaseRecord | None:
    return next((case for case in _of_site(cases, "rc2") if case["layer"] == depth), None)


_PLACES: Mapping[str, _Choice] = {
    "chosen": lambda cases, depth: choose(cases) if cases else None,
    "last rc2": _last_block,
    **{site: _best_of(site) for site in ("act", "ln2", "rc2", OUTPUT)},
}


@dataclass(frozen=True)
class MeanContrast:
    """A contrast, averaged over datasets.

    Attributes:
        name: of `CONTRASTS`
        gain: its mean
        datasets: the number averaged over
        better, worse: the number of datasets on which it is significant by itself
        equal_width: the mean gain of probes that read no more features than the residual stream is wide; None if that
            is not known on every dataset
        differs: whether the mean is significant, by Holm's procedure over all means of the model
    """

    name: ContrastName
    gain: Gain
    datasets: int
    better: int
    worse: int
    equal_width: float | None
    differs: bool = False


@dataclass(frozen=True)
class ContrastAnswer:
    """The contrasts of one model on its datasets of one shift.

    Attributes:
        model: its name
        task: of the datasets
        shift: as the catalog has it; empty if it is not known
        contrasts: in the order of `CONTRASTS`
        family: the number of means that Holm's procedure went over
        on_test: whether taps and layers were chosen on test images, so that gains look larger than they are
    """

    model: str
    task: Task
    shift: str
    contrasts: list[MeanContrast]
    family: int
    on_test: bool


def contrast_answers(record: Record) -> list[ContrastAnswer]:
    """The answers of a record, controls left out: model by model, and by growing shift.

    Gains are averaged over datasets as `probebench.records.gains.mean_gain` says.
    """
    tests = {key: cases[0]["n_test"] for key, cases in group_by_sweep(record["cases"]).items()}
    answers = []
    for (model, task), by_shift in group_by_shift(record, "contrasts").items():
        means = {shift: _average(sweeps, tests) for shift, sweeps in by_shift.items()}
        flat = [(shift, mean) for shift, own in means.items() for mean in own]
        judged: dict[str, list[MeanContrast]] = {}
        for (shift, mean), differs in zip(flat, holm([mean.gain.p_value for _, mean in flat], LEVEL), strict=True):
            judged.setdefault(shift, []).append(replace(mean, differs=differs))
        on_test = any(_chosen_on_test(sweep) for sweeps in by_shift.values() for sweep in sweeps)
        answers += [ContrastAnswer(model, task, shift, own, len(flat), on_test) for shift, own in judged.items()]
    return answers


def _chosen_on_test(sweep: SweepRecord) -> bool:
    selection = sweep.get("selection")
    return selection is not None and selection["by"] == "test"


def _average(sweeps: Sequence[SweepRecord], tests: Mapping[SweepKey, int]) -> list[MeanContrast]:
    found: dict[ContrastName, list[tuple[ContrastRecord, int]]] = {}
    for sweep in sweeps:
        for each in sweep["contrasts"]:
            found.setdefault(each["contrast"], []).append((each, tests[key_of(sweep)]))
    return [_mean(name, found[name]) for name in CONTRASTS if name in found]


def _mean(name: ContrastName, own: Sequence[tuple[ContrastRecord, int]]) -> MeanContrast:
    """The mean of one contrast, each with the number of its test images."""
    records = [each for each, _ in own]
    gains = [
        Gain(
            each["gain"],
            (each["ci95"][0], each["ci95"][1]),
            each["p_value"],
            n_test,
            unpack_changes(each.get("changes"), n_test),
        )
        for each, n_test in own
    ]
    equal = [gain for each in records if (gain := each["gain_equal_width"]) is not None]
    return MeanContrast(
        name,
        mean_gain(gains),
        len(own),
        better=sum(each["differs"] and each["gain"] > 0 for each in records),
        worse=sum(each["differs"] and each["gain"] < 0 for each in records),
        equal_width=sum(equal) / len(own) if len(equal) == len(own) else None,
    )


def with_contrasts(record: Record, correct: Correct) -> Record:
    """The record with contrasts in each sweep whose bits are known: older records have none."""
    cases = group_by_sweep(record["cases"])
    sweeps = []
    for sweep in record["sweeps"]:
        if "contrasts" not in sweep:
            found = compare_places(cases.get(key_of(sweep), []), correct, sweep["depth"])
            sweep = sweep | {"contrasts": found} if found else sweep
        sweeps.append(sweep)
    return record | {"sweeps": sweeps}
