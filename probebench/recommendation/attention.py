"""Train the attentive probe at the tap that was chosen, on its tokens, and compare it with the linear probe there."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from probebench._arrays import take
from probebench._format import human
from probebench._hardware import usable_memory
from probebench._progress import Progress
from probebench.catalog import DatasetSpec
from probebench.catalog.protocols import ATTENTIVE, DEFAULT, Protocol, get_protocol
from probebench.catalog.taps import TOKENS, Tap
from probebench.catalog.tasks import CLASSIFICATION
from probebench.errors import FeatureError, ProbebenchError
from probebench.features.cache import FeatureCache
from probebench.features.hooks import widths_of
from probebench.features.tokens import count_tokens, tokens_of
from probebench.measure.extract import extract
from probebench.measure.plan import SweepPlan
from probebench.measure.prepare import PreparedSweep
from probebench.measure.tokens import tokens_by_image
from probebench.metrics import measure
from probebench.probes.attentive import Attentive, choose_and_train
from probebench.probes.evaluate import LinearBeside, TapResult
from probebench.probes.parallel import Features, run_on_cores
from probebench.recommendation.findings import AttentiveComparison
from probebench.stats import paired


@dataclass(frozen=True)
class Attended:
    """An attentive probe.

    Attributes:
        result: of the tap that keeps its tokens, such as ``L07-act.tokens``
        comparison: with the linear probe
        probe: trained on all of train
        protocol: ``attentive@1``, with the pooling whose tokens are read
    """

    result: TapResult
    comparison: AttentiveComparison
    probe: Attentive
    protocol: Protocol


def check_labels(dataset: DatasetSpec) -> None:
    """Check that an attentive probe can be trained for the labels of a dataset.

    Raises:
        ProbebenchError: if they are no classes
    """
    if dataset.task != CLASSIFICATION.name:
        raise ProbebenchError(
            f"the attentive probe fits classes only, and the task of the images is {dataset.task}: leave out "
            "--attentive"
        )


def check_tokens(
    prepared: PreparedSweep, plan: SweepPlan, poolings: Sequence[str], cache: FeatureCache, jobs: int
) -> None:
    """Check before the work that an attentive probe can be trained at any tap that may be chosen.

    Args:
        plan: of the sweep before it, whose features stay where they are
        poolings: that are tried

    Raises:
        ProbebenchError: for images of a single token
        FeatureError: if the tokens of one tap fit neither into the memory nor into the feature cache
    """
    free = usable_memory("cpu") - (prepared.workload.feature_bytes if plan.mode == "memory" else 0)
    widest = max((tap for tap in prepared.taps if tap.pools), key=prepared.workload.widths.__getitem__)
    for pooling in {_protocol(pooling).pooling for pooling in poolings}:
        of_tokens = _prepare(prepared, widest.plain, _protocol(pooling))
        if of_tokens.workload.tokens < 2:
            what = "patch" if pooling == "patch_mean" else "token"
            raise ProbebenchError(
                f"{prepared.model.spec.name} has only one {what} an image, so there is nothing to attend to: leave out "
                "--attentive"
            )
        _plan(of_tokens, cache, jobs, memory=max(0, free))


def attend(
    prepared: PreparedSweep,
    chosen: Tap,
    results: Mapping[Tap, TapResult],
    cache: FeatureCache,
    *,
    jobs: int,
    batch_size: int | None,
    progress: Progress,
) -> Attended:
    """Train the probe of ``attentive@1`` at the chosen tap; or if that has no tokens, at the best tap that has some.

    The probe attends to all tokens of the place, or to those of the patches where the tap is the mean of these.

    Args:
        chosen: the best on held-out images
        results: of all taps
        jobs, batch_size, progress: as for `probebench.recommend`
    """
    start = time.perf_counter()
    linear = chosen if chosen.pools else best_with_tokens(results)
    protocol = _protocol(linear.pooling or prepared.protocol.pooling)
    sweep = _prepare(prepared, linear.plain, protocol)
    plan = _plan(sweep, cache, jobs)
    features = extract(sweep, sweep.taps, sweep.settings(plan, batch_size, progress), cache)
    progress.start("fit", 1)
    train, test = (tokens_by_image(part, linear.plain, protocol) for part in (features.train, features.test))
    training, device = sweep.sets[0], sweep.device
    if training.rows is not None:
        train = take(train, training.rows)

    def work(there: Features, _: Features) -> Attentive:
        return choose_and_train(there[linear.plain], training.labels, training.held_out, protocol, device)

    # On one core, as under the protocol, so that a sweep gives the same bits.
    (probe,) = run_on_cores(work, [({linear.plain: train}, {})], 1, "cpu")
    progress.advance(1)
    scores, labels = probe.scores(test), sweep.data.test.labels
    predictions = probe.classes[scores.argmax(axis=1)]
    metrics = measure(scores, probe.classes, predictions, labels, probabilities=True)
    beside, correct = results[linear], predictions == labels
    p_value = paired(beside.correct, correct).p_two_sided
    seconds, width = time.perf_counter() - start, int(train.shape[2])
    result = TapResult(
        tap=tokens_of(linear, protocol.pooling),
        width=width,
        metrics=metrics,
        correct=correct,
        seconds=seconds,
        iterations=probe.steps,
        C=None,
        gap=None,
        held_out_accuracy=probe.held_out_accuracy,
        linear=LinearBeside(beside.accuracy, beside.ci95, p_value),
    )
    comparison = AttentiveComparison(
        tap=result.tap,
        linear=linear,
        instead_of=None if linear == chosen else chosen,
        gain=result.accuracy - beside.accuracy,
        p_value=p_value,
        weights=sum(values.numel() for values in probe.net.parameters()),
        linear_weights=len(probe.classes) * (beside.width + 1),
        seconds=seconds,
    )
    return Attended(result, comparison, probe, protocol)


def best_with_tokens(results: Mapping[Tap, TapResult]) -> Tap:
    """The tap that is best on held-out images of those that are read alone and have tokens; of equal ones the first."""
    there = [tap for tap in results if tap.pools and not tap.is_combination]
    return min(there, key=lambda tap: (-(results[tap].held_out_accuracy or 0.0), tap))


def _protocol(pooling: str) -> Protocol:
    """The protocol whose probe attends to what a pooling is the mean of; to all tokens if it is no mean."""
    if pooling not in TOKENS or pooling == DEFAULT.pooling:
        return ATTENTIVE
    return get_protocol(f"{ATTENTIVE.name}+{pooling}")


def _prepare(prepared: PreparedSweep, tap: Tap, protocol: Protocol) -> PreparedSweep:
    """The same sweep of one tap, whose tokens are read. Its images and their split are those of ``default@2``."""
    tokens = count_tokens(prepared.model, [tap], pooling=protocol.pooling, device=prepared.device)
    widths = widths_of(prepared.model, [tap], pooling=protocol.pooling, device=prepared.device)
    workload = replace(prepared.workload, protocol=protocol, widths=widths, combined=1, tokens=tokens)
    return replace(prepared, protocol=protocol, taps=[tap], searched=[], workload=workload)


def _plan(sweep: PreparedSweep, cache: FeatureCache, jobs: int, memory: int | None = None) -> SweepPlan:
    try:
        return sweep.plan(memory=memory, cache=cache, jobs=jobs)
    except FeatureError as error:
        raise FeatureError(
            f"the attentive probe keeps every token of a tap ({human(sweep.workload.feature_bytes)}), which fit "
            "neither into memory nor into the feature cache: make room on the disk, use fewer training images, or "
            "leave out --attentive"
        ) from error
