"""Search for the taps that are best together: concatenations of two or three, found greedily on held-out images.

A pair starts from the best tap of the sweep, and a triple from the best pair. Each is joined in turn with the best
layer of every site, and the concatenation that is best on held-out training images is kept. Nothing about the test
images decides. Whether it is better than its best member is then tested on the test images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from probebench._arrays import Array, join, normalise_rows
from probebench._progress import NullProgress, Progress
from probebench.catalog.protocols import Protocol
from probebench.catalog.taps import SEARCHED, Tap
from probebench.errors import ProbebenchError
from probebench.features.cache import FeatureCache
from probebench.features.settings import ExtractionSettings
from probebench.measure.extract import ExtractedFeatures, extract
from probebench.measure.plan import SweepPlan
from probebench.measure.prepare import PreparedSweep
from probebench.measure.probe import probe_features
from probebench.probes.evaluate import Combination, TapResult
from probebench.stats import paired

CANDIDATES = 8
"""Taps that each search tries to add."""


def combine(
    prepared: PreparedSweep,
    plan: SweepPlan,
    features: ExtractedFeatures,
    settings: ExtractionSettings,
    cache: FeatureCache | None,
    results: Mapping[Tap, TapResult],
    progress: Progress | None = None,
) -> Iterator[TapResult]:
    """Yield the combinations of a sweep after its taps: those that are searched for, and ``last4``, compared.

    Args:
        features: of the last pass over the images
        settings, cache: as for `probebench.measure.extract.extract`
        results: of all taps that were read
    """
    for tap in [tap for tap in results if tap.layer == "last4"]:
        yield replace(results[tap], combination=describe_last4(results[tap], results, prepared.model.spec.depth))
    if prepared.searched:
        if len(prepared.passes(plan)) > 1:
            features = _read_again(prepared, plan, settings, cache, results)
        yield from search(prepared, plan, features, results, prepared.searched, progress)


def search(
    prepared: PreparedSweep,
    plan: SweepPlan,
    features: ExtractedFeatures,
    results: Mapping[Tap, TapResult],
    wanted: Iterable[Tap],
    progress: Progress | None = None,
) -> Iterator[TapResult]:
    """Yield the best pair, then the best triple, as far as they are wanted, with the seconds of the search for each.

    Args:
        features: of the taps that may be combined, at least those in `results`
        results: of these taps
        wanted: some of ``pair`` and ``triple``

    Raises:
        ProbebenchError: if there are too few taps to combine
    """
    progress = progress or NullProgress()
    sizes = {SEARCHED[str(tap.layer)]: tap for tap in wanted}
    if not sizes:
        return
    best, *candidates = _candidates([results[tap] for tap in features.taps if tap in results])
    members, tried, seconds = [best.tap], 0, 0.0
    for size in range(2, max(sizes) + 1):
        partners = [each.tap for each in candidates if each.tap not in members]
        if not partners:
            raise ProbebenchError(f"{sizes[max(sizes)].id}: only {len(candidates) + 1} different taps are there")
        progress.start(f"search for the best {'pair' if size == 2 else 'triple'}", len(partners))
        found = _try(prepared, plan, features, members, partners, progress)
        tried += len(found)
        seconds += sum(each.seconds for each in found)
        members.append(max(found, key=lambda each: (each.held_out_accuracy or 0.0, -partners.index(each.tap))).tap)
        if size in sizes:
            result = _fit(prepared, plan, features, sizes[size], members, best, tried)
            yield replace(result, seconds=result.seconds + seconds)


def _read_again(
    prepared: PreparedSweep,
    plan: SweepPlan,
    settings: ExtractionSettings,
    cache: FeatureCache | None,
    results: Mapping[Tap, TapResult],
) -> ExtractedFeatures:
    """Extract the features that a search needs, after a sweep in several passes, which holds a part of them at a time.

    Only as many taps are tried as fit into the memory of the plan.
    """
    room = max(prepared.workload.combined, *(len(group) for group in plan.groups))
    best = [each.tap for each in _candidates(list(results.values()))[:room]]
    return extract(prepared, sorted(best), settings, cache)


def _candidates(results: Sequence[TapResult]) -> list[TapResult]:
    """The best layer of every site and pooling, from the best on held-out images on; equal taps count once."""
    ordered = sorted(
        (each for each in results if each.same_as is None and not each.tap.is_combination),
        key=lambda each: (-(each.held_out_accuracy or 0.0), each.tap),
    )
    first: dict[tuple[str, str], TapResult] = {}
    for each in ordered:
        first.setdefault((each.tap.site, each.tap.pooling), each)
    found = list(first.values())
    # With few sites other layers of theirs fill the places.
    found += [each for each in ordered if each not in found]
    return found[: CANDIDATES + 1]


def _try(
    prepared: PreparedSweep,
    plan: SweepPlan,
    features: ExtractedFeatures,
    members: Sequence[Tap],
    partners: Sequence[Tap],
    progress: Progress,
) -> list[TapResult]:
    """Fit the members with each partner; as many at a time as there are cores. Results are called by the partner."""
    found = []
    for start in range(0, len(partners), plan.jobs):
        some = partners[start : start + plan.jobs]
        for result in _probe(prepared, plan, features, {tap: [*members, tap] for tap in some}, narrow=None):
            found.append(result)
            progress.advance(1)
    return found


def _fit(
    prepared: PreparedSweep,
    plan: SweepPlan,
    features: ExtractedFeatures,
    tap: Tap,
    members: Sequence[Tap],
    best: TapResult,
    tried: int,
) -> TapResult:
    """Fit a combination with its width control, and compare it with its best member."""
    (result,) = _probe(prepared, plan, features, {tap: members}, narrow=prepared.workload.narrow)
    return replace(result, combination=compare(result, tuple(members), best, tried))


def compare(result: TapResult, members: tuple[Tap, ...], best: TapResult | None, tried: int) -> Combination:
    """Compare a combination with its best member on the test images, by the paired test of verdicts, two-sided.

    Args:
        best: the member that is best on held-out images; None if it was not measured
        tried: the number of concatenations that were fitted to find it
    """
    if best is None:
        return Combination(members, None, None, None, tried)
    p = paired(best.correct, result.correct).p_two_sided
    return Combination(members, best.tap, result.accuracy - best.accuracy, p, tried)


def _probe(
    prepared: PreparedSweep,
    plan: SweepPlan,
    features: ExtractedFeatures,
    joined: Mapping[Tap, Sequence[Tap]],
    narrow: int | None,
) -> Iterator[TapResult]:
    train, test = (
        {tap: concatenate(part, members, prepared.protocol) for tap, members in joined.items()}
        for part in (features.train, features.test)
    )
    yield from probe_features(prepared, plan, train, test, narrow=narrow)


def concatenate(features: Mapping[Tap, Array], members: Sequence[Tap], protocol: Protocol) -> Array:
    """Concatenate the features of some taps, each with rows of unit length under a protocol that scales them."""
    parts = [features[tap] for tap in members]
    return join([normalise_rows(part) for part in parts] if protocol.feature_norm == "l2" else parts)


def describe_last4(result: TapResult, results: Mapping[Tap, TapResult], depth: int) -> Combination:
    """Compare the last four layers with the best of them, as far as these were measured one by one.

    Alone they are measured in front of the final norm; behind it, the last one is ``final``.
    """
    members = tuple(Tap(layer, "rc2", result.tap.pooling) for layer in range(depth - 3, depth + 1))
    there = [results[tap] for tap in members if tap in results]
    best = max(there, key=_selection_score, default=None)
    return compare(result, members, best, 1)


def _selection_score(result: TapResult) -> float:
    return result.accuracy if result.held_out_accuracy is None else result.held_out_accuracy
