"""The third stage of a sweep: fit a probe at every tap and score it on the test images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from probebench._arrays import normalise_rows
from probebench._progress import NullProgress, Progress
from probebench.catalog.taps import Tap
from probebench.measure.equal_taps import find_equal
from probebench.measure.extract import ExtractedFeatures
from probebench.measure.plan import SweepPlan
from probebench.measure.prepare import PreparedSweep
from probebench.measure.tokens import probe_tokens
from probebench.probes.evaluate import Features, TapResult, probe_taps


def probe(
    prepared: PreparedSweep,
    plan: SweepPlan,
    features: ExtractedFeatures,
    taps: Sequence[Tap] | None = None,
    progress: Progress | None = None,
) -> Iterator[TapResult]:
    """Yield the result of each tap as soon as it is measured, so that an interrupted sweep keeps those that finished.

    A tap whose features are those of another up to rounding is not fitted again: its result is a copy.

    Rows of `features` are scaled in place under a protocol that scales them, if their memory can be written to.

    Args:
        plan: which taps are fitted together, and on how many cores
        taps: those to probe; by default all of `features`

    Returns:
        results whose `seconds` include an equal share of the extraction
    """
    progress = progress or NullProgress()
    wanted = features.taps if taps is None else tuple(taps)
    share = features.seconds / len(wanted)
    reads_tokens = prepared.protocol.reads_tokens  # of equal means, which are no reason to leave a tap out
    equal = {} if reads_tokens else find_equal(features, wanted)
    copies: dict[Tap, list[Tap]] = {}
    for tap, source in equal.items():
        copies.setdefault(source, []).append(tap)
    progress.start("fit", len(wanted))
    for group in plan.groups:
        if together := [tap for tap in group if tap in wanted and tap not in equal]:
            measure = probe_tokens if reads_tokens else _probe_together
            for result in measure(prepared, plan, features, together):
                yield replace(result, seconds=result.seconds + share)
                for tap in copies.get(result.tap, ()):
                    yield replace(result, tap=tap, seconds=share, iterations=0, same_as=result.tap)
                progress.advance(1 + len(copies.get(result.tap, ())))


def _probe_together(
    prepared: PreparedSweep, plan: SweepPlan, features: ExtractedFeatures, taps: list[Tap]
) -> Iterator[TapResult]:
    """Yield the results of some taps, in any order."""
    train, test = ({tap: part[tap] for tap in taps} for part in (features.train, features.test))
    if prepared.protocol.feature_norm == "l2":
        # In place where possible, to save memory.
        train, test = (
            {tap: normalise_rows(values, in_place=True) for tap, values in part.items()} for part in (train, test)
        )
    yield from probe_features(prepared, plan, train, test, narrow=prepared.workload.narrow)


def probe_features(
    prepared: PreparedSweep, plan: SweepPlan, train: Features, test: Features, *, narrow: int | None
) -> Iterator[TapResult]:
    """Yield the results of probes on features that are scaled already; arguments as for `probe_taps`."""
    yield from probe_taps(
        train,
        test,
        prepared.sets,
        prepared.data.test.labels,
        prepared.protocol,
        narrow=narrow,
        device=prepared.device,
        jobs=plan.jobs,
    )
