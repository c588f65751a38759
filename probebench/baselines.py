"""Baselines: what a case is expected to score, and the verdict on what it scored.

One JSON file per protocol, model and dataset, sorted and with one line per case so that a diff can be read, and
beside it a safetensors file with one bit per case and test example: which were right. The JSON names the SHA-256 of
the other file, so that halves of different updates are never taken for a whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from probebench import atomic
from probebench.cases import Sweep
from probebench.errors import ProbebenchError, StoreError
from probebench.sites import Tap, all_taps
from probebench.stats import Move, holm, paired

if TYPE_CHECKING:
    from probebench.sweep import SweepResult, TapResult

SCHEMA = 1

Key = TypeVar("Key")

Verdict = Literal["same", "improved", "regressed", "new", "not comparable"]


@dataclass(frozen=True)
class Baseline:
    """The stored expectation for the cases of one sweep.

    Attributes:
        sweep: model, dataset and protocol names
        fingerprint: of the protocol that they were measured under
        test_set: digest of the test images and labels
        n_test: number of test examples
        weights: digest of the network's parameters, for information
        correct: per tap bool of shape (n_test,), which test examples were right
    """

    sweep: Sweep
    fingerprint: str
    test_set: str
    n_test: int
    weights: str
    correct: Mapping[Tap, npt.NDArray[np.bool_]] = field(repr=False)

    def accuracy(self, tap: Tap) -> float:
        return float(np.count_nonzero(self.correct[tap]) / self.n_test)


@dataclass(frozen=True)
class Judgement:
    """The verdict on one case.

    Attributes:
        verdict: see docs/statistics.md
        baseline_accuracy: None where there is no comparable baseline
        lost, gained: test examples that were right and are wrong now, and the reverse
        p_value: one-sided exact McNemar, of the direction in which the accuracy moved
        reason: for ``not comparable``
    """

    verdict: Verdict
    baseline_accuracy: float | None = None
    lost: int = 0
    gained: int = 0
    p_value: float | None = None
    reason: str = ""


def paths(directory: Path, sweep: Sweep) -> tuple[Path, Path]:
    """The JSON file of a sweep's baseline and the file of its per-example correctness."""
    stem = directory / sweep.protocol / sweep.id
    return stem.with_name(stem.name + ".json"), stem.with_name(stem.name + ".safetensors")


def read(directory: Path, sweep: Sweep) -> Baseline | None:
    """The baseline of a sweep, or None where there is none.

    Raises:
        StoreError: if it is damaged or its two files do not belong together
    """
    path, side_path = paths(directory, sweep)
    if not path.exists() and not side_path.exists():
        return None
    advice = "Restore both files from version control, or measure them anew with --probe-update=all"
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if table["schema"] != SCHEMA:
            raise StoreError(f"baseline {path} has schema {table['schema']}, this probebench reads {SCHEMA}")
        side = side_path.read_bytes()
        if (found := hashlib.sha256(side).hexdigest()) != table["correct_sha256"]:
            raise StoreError(
                f"baseline {side_path} has SHA-256 {found[:16]}, {path.name} expects {table['correct_sha256'][:16]}: "
                f"the two do not belong together. {advice}"
            )
        n_test = int(table["n_test"])
        bits = np.unpackbits(load_tensors(side)["correct"], axis=1, count=n_test).astype(bool)
        cases: dict[str, dict[str, Any]] = table["cases"]
        if len(bits) != len(cases):
            raise StoreError(f"baseline {path} lists {len(cases)} cases, {side_path.name} has {len(bits)}. {advice}")
        correct = {Tap.parse(name): row for name, row in zip(cases, bits, strict=True)}
        for name, row in zip(cases, bits, strict=True):
            if cases[name]["correct"] != int(row.sum()):
                raise StoreError(
                    f"baseline {path}: case {name} says {cases[name]['correct']} right, {side_path.name} says "
                    f"{int(row.sum())}; was it edited by hand? {advice}"
                )
        return Baseline(sweep, table["fingerprint"], table["test_set"], n_test, table["weights"], correct)
    except StoreError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError, ProbebenchError) as error:
        raise StoreError(f"baseline {path} cannot be read ({type(error).__name__}: {error}). {advice}") from error


def write(directory: Path, baseline: Baseline) -> None:
    """Store a baseline, replacing the one of the same sweep.

    Raises:
        StoreError: if it cannot be written
    """
    taps = sorted(baseline.correct)
    packed = np.packbits(np.stack([baseline.correct[tap] for tap in taps]), axis=1)
    side = save_tensors({"correct": packed})
    head = {
        "schema": SCHEMA,
        "model": baseline.sweep.model,
        "dataset": baseline.sweep.dataset,
        "protocol": baseline.sweep.protocol,
        "fingerprint": baseline.fingerprint,
        "test_set": baseline.test_set,
        "n_test": baseline.n_test,
        "weights": baseline.weights,
        "correct_sha256": hashlib.sha256(side).hexdigest(),
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    cases = [
        f"    {json.dumps(tap.id)}: "
        + json.dumps({"accuracy": round(baseline.accuracy(tap), 4), "correct": int(baseline.correct[tap].sum())})
        for tap in taps
    ]
    text = "\n".join(["{", *lines, '  "cases": {', ",\n".join(cases), "  }", "}"]) + "\n"
    path, side_path = paths(directory, baseline.sweep)
    # The side file first: a crash between the two leaves a JSON file that refuses its neighbour, not a wrong one.
    atomic.write(side_path, side)
    atomic.write(path, text)


def merged(old: Baseline | None, sweep: Sweep, result: SweepResult, update: Literal["new", "all"]) -> Baseline | None:
    """The baseline after an update with what a sweep measured, or None if nothing changes.

    Cases that were not measured keep their entry. Under ``new``, so do all that have one.

    Raises:
        StoreError: if the old entries were measured under another fingerprint, on another test set or, under
            ``new``, with other weights, and some would stay beside new ones
    """
    measured = {tap: tap_result.correct for tap, tap_result in result.taps.items()}
    taps = set(all_taps(result.model.depth))  # entries of other taps are stale, and dropped
    kept = {} if old is None else {tap: correct for tap, correct in old.correct.items() if tap in taps}
    if update == "new" and old is not None:
        if measured.keys() <= kept.keys():
            return None
        if old.weights != result.weights_digest:
            raise StoreError(
                f"baseline of {sweep.id} is not extended: its entries were measured with other weights "
                f"({old.weights}, not {result.weights_digest}). Measure all of them with --probe-update=all"
            )
    if old is not None and (reason := _incomparable(old, result)):
        left = [tap for tap in sorted(kept) if tap not in measured]
        if update == "new" or left:
            raise StoreError(
                f"baseline of {sweep.id} is not updated: it was measured with {reason}, and "
                f"{len(left) or len(kept)} of its cases would stay. Measure all of them at once: "
                f"pytest benchmarks/ --probe-model={sweep.model} --probe-dataset={sweep.dataset} --probe-update=all"
            )
        kept = {}
    correct = measured | kept if update == "new" else kept | measured
    if old is not None and correct.keys() == old.correct.keys() and result.weights_digest == old.weights:
        unchanged = not _incomparable(old, result)
        if unchanged and all(np.array_equal(correct[tap], old.correct[tap]) for tap in correct):
            return None
    return Baseline(sweep, result.protocol.fingerprint, result.test_set, result.n_test, result.weights_digest, correct)


def _incomparable(baseline: Baseline, result: SweepResult) -> str:
    """Why the two cannot be compared: empty if they can."""
    if baseline.fingerprint != result.protocol.fingerprint:
        return f"protocol fingerprint {baseline.fingerprint}, not {result.protocol.fingerprint}"
    if baseline.test_set != result.test_set or baseline.n_test != result.n_test:
        return f"test set {baseline.test_set} ({baseline.n_test} images), not {result.test_set} ({result.n_test})"
    return ""


def judge(
    results: Mapping[Tap, TapResult],
    sweep_result: SweepResult,
    baseline: Baseline | None,
    *,
    alpha: float,
    min_drop: float,
    family: int,
) -> dict[Tap, Judgement]:
    """The verdicts on the cases of one sweep.

    A case has regressed if its accuracy fell by at least `min_drop` and the paired test rejects "no worse" under
    Holm's procedure, and improved if the same holds the other way round.

    Args:
        alpha: family-wise error level of each direction over the whole run
        min_drop: smallest accuracy change that counts, as a fraction
        family: number of cases in the run
    """
    if baseline is None:
        return {tap: Judgement("new") for tap in results}
    if reason := _incomparable(baseline, sweep_result):
        return {tap: Judgement("not comparable", reason=f"baseline has {reason}") for tap in results}
    moves = {tap: paired(baseline.correct[tap], now.correct) for tap, now in results.items() if tap in baseline.correct}
    judgements = verdicts(moves, alpha=alpha, min_drop=min_drop, family=family)
    return {tap: judgements.get(tap, Judgement("new")) for tap in results}


def verdicts(moves: Mapping[Key, Move], *, alpha: float, min_drop: float, family: int) -> dict[Key, Judgement]:
    """The verdicts on cases that can be compared, whatever they are compared with.

    Args:
        alpha, min_drop, family: as of `judge`
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
