"""Compare two runs, or two models, by the test that cases are compared with their baseline by."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from probebench.catalog.taps import Tap
from probebench.catalog.tasks import CLASSIFICATION, Task
from probebench.errors import ProbebenchError, unknown
from probebench.records.cases import key_of, tap_of, task_of
from probebench.records.merge import Stored
from probebench.records.ranking import choose
from probebench.records.types import CaseRecord
from probebench.records.verdicts import Judgement, judge_moves
from probebench.stats import Move, paired, unpaired

_OPEN = Judgement("new")


@dataclass(frozen=True)
class Pair:
    """One case of each side.

    Attributes:
        dataset: its name
        models: of A and of B; equal where two runs of one model are compared
        taps: of A and of B; they differ if these are the taps that two models chose
        chosen: whether each tap is the one that its model chose on held-out training images
        accuracies: of A and of B
        move: from A to B; None if they cannot be compared
        judgement: B against A as its baseline
        task: of the dataset, by which accuracies are written
    """

    dataset: str
    models: tuple[str, str]
    taps: tuple[Tap, Tap]
    chosen: bool
    accuracies: tuple[float, float]
    move: Move | None
    judgement: Judgement = _OPEN
    task: Task = CLASSIFICATION

    @property
    def change(self) -> float:
        return self.accuracies[1] - self.accuracies[0]


@dataclass(frozen=True)
class Comparison:
    """All compared cases.

    Attributes:
        pairs: the largest drop first; those that cannot be compared last
        only_a, only_b: the number of cases of the compared models that have no counterpart
    """

    pairs: list[Pair]
    only_a: int
    only_b: int

    @property
    def regressed(self) -> bool:
        return any(pair.judgement.verdict == "regressed" for pair in self.pairs)


def compare(
    a: Stored, b: Stored, *, models: tuple[str, str] | None = None, alpha: float = 0.01, min_drop: float = 0.005
) -> Comparison:
    """Judge the cases of run B with those of run A as their baseline.

    Every model that both runs have is compared with itself, tap by tap. With `models`, or if the runs have one model
    each, of different names, these two are compared: at every tap that both have, and at the tap that each chose on
    held-out training images. All compared cases are one family of Holm's procedure, in each direction.

    Args:
        models: one of A and one of B
        alpha: family-wise error level of each direction
        min_drop: smallest accuracy change that counts, as a fraction

    Raises:
        UnknownName: for a model that its run does not have
        ProbebenchError: if the models to compare are ambiguous, or no case has a counterpart to be compared with
    """
    of_a, of_b = _cases(a), _cases(b)
    pairs: list[Pair] = []
    only_a = only_b = 0
    for model_a, model_b in _model_pairs(a, b, of_a, of_b, models):
        mine, other = of_a[model_a], of_b[model_b]
        shared = [key for key in mine if key in other]
        pairs += [_pair(a, b, mine[key], other[key]) for key in shared]
        only_a += len(mine) - len(shared)
        only_b += len(other) - len(shared)
        if model_a != model_b:
            best_a, best_b = _chosen(mine.values()), _chosen(other.values())
            pairs += [
                replace(_pair(a, b, best_a[dataset], best_b[dataset]), chosen=True)
                for dataset in best_a
                if dataset in best_b
            ]
    moves = {index: pair.move for index, pair in enumerate(pairs) if pair.move is not None}
    if not moves:
        reasons = sorted({pair.judgement.reason for pair in pairs})
        why = f": {'; '.join(reasons)}" if reasons else ": they have no protocol, dataset and tap in common"
        raise ProbebenchError(f"no case of {a.name} can be compared with one of {b.name}{why}")
    for index, judgement in judge_moves(moves, alpha=alpha, min_drop=min_drop, family=len(moves)).items():
        pairs[index] = replace(pairs[index], judgement=judgement)
    pairs.sort(key=lambda pair: (pair.move is None, pair.change))
    return Comparison(pairs, only_a, only_b)


_Key = tuple[str, str, Tap]  # protocol, dataset, tap


class _Case(CaseRecord):
    """A case with the digest and the task of its test set."""

    test_set: str
    task: Task


def _cases(run: Stored) -> dict[str, dict[_Key, _Case]]:
    """Cases by model."""
    sweeps = {(*key_of(sweep), sweep["protocol"]): sweep for sweep in run.record["sweeps"]}
    found: dict[str, dict[_Key, _Case]] = {}
    for case in run.record["cases"]:
        sweep = sweeps[*key_of(case), case["protocol"]]
        key = case["protocol"], case["dataset"], tap_of(case)
        found.setdefault(case["model"], {})[key] = {**case, "test_set": sweep["test_set"], "task": task_of(sweep)}
    return found


def _model_pairs(
    a: Stored, b: Stored, of_a: Collection[str], of_b: Collection[str], models: tuple[str, str] | None
) -> list[tuple[str, str]]:
    if models is not None:
        for name, run, known in zip(models, (a, b), (of_a, of_b), strict=True):
            if name not in known:
                raise unknown(f"model of {run.name}", name, known)
        return [models]
    if common := [(model, model) for model in of_a if model in of_b]:
        return common
    if len(of_a) == len(of_b) == 1:
        return [(next(iter(of_a)), next(iter(of_b)))]
    raise ProbebenchError(
        f"the two runs have no model in common: {', '.join(of_a) or 'none'} in {a.name}, {', '.join(of_b) or 'none'} "
        f"in {b.name}. Name one of each with --models A B"
    )


def _chosen(cases: Iterable[_Case]) -> dict[str, _Case]:
    """The case with the best held-out accuracy, by dataset; datasets without held-out accuracies are left out."""
    with_score: dict[str, list[_Case]] = {}
    for case in cases:
        if case["held_out_accuracy"] is not None:
            with_score.setdefault(case["dataset"], []).append(case)
    return {dataset: choose(own) for dataset, own in with_score.items()}


def _pair(a: Stored, b: Stored, before: _Case, now: _Case) -> Pair:
    pair = Pair(
        dataset=before["dataset"],
        models=(before["model"], now["model"]),
        taps=(tap_of(before), tap_of(now)),
        chosen=False,
        accuracies=(before["accuracy"], now["accuracy"]),
        move=None,
        task=now["task"],
    )
    for what, of_a, of_b in (
        ("protocol fingerprint", before["fingerprint"], now["fingerprint"]),
        ("test set", before["test_set"], now["test_set"]),
        ("test set of", before["n_test"], now["n_test"]),
    ):
        if of_a != of_b:
            reason = f"{what} {of_a} in {a.name}, {of_b} in {b.name}"
            return replace(pair, judgement=Judgement("not comparable", reason=reason))
    right = (a.correct.get(before["id"]), b.correct.get(now["id"]))
    if right[0] is not None and right[1] is not None:
        return replace(pair, move=paired(right[0], right[1]))
    if before["task"] is not CLASSIFICATION:
        run = a.name if right[0] is None else b.name
        reason = f"the scores of the test images are not known of {run}; its safetensors file has them"
        return replace(pair, judgement=Judgement("not comparable", reason=reason))
    n_test = now["n_test"]
    return replace(pair, move=unpaired(round(before["accuracy"] * n_test), round(now["accuracy"] * n_test), n_test))
