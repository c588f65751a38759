"""Measure taps whose tokens are read, with the linear probe on the mean of the same tokens beside each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from probebench._arrays import Array
from probebench.catalog.protocols import Protocol
from probebench.catalog.taps import Tap
from probebench.features.tokens import tokens_of
from probebench.measure.extract import ExtractedFeatures
from probebench.measure.plan import SweepPlan
from probebench.measure.prepare import PreparedSweep
from probebench.probes.evaluate import LinearBeside, TapResult, probe_taps
from probebench.stats import paired

LINEAR = "logistic"
"""The probe that is fitted on the pooled tokens: that of `default@2`."""


def probe_tokens(
    prepared: PreparedSweep, plan: SweepPlan, features: ExtractedFeatures, taps: Sequence[Tap]
) -> Iterator[TapResult]:
    """Yield the results of a probe on tokens, each compared with the linear probe on their mean, in any order."""
    protocol = prepared.protocol
    parts = features.train, features.test
    pooled = [{tap: part[tap] for tap in taps} for part in parts]
    linear = {found.tap: found for found in _probe(prepared, plan, replace(protocol, probe=LINEAR), *pooled)}
    tokens = [{tap: tokens_by_image(part, tap, protocol) for tap in taps} for part in parts]
    for found in _probe(prepared, plan, protocol, *tokens):
        beside = linear[found.tap]
        p_value = paired(beside.correct, found.correct).p_two_sided
        compared = LinearBeside(beside.accuracy, beside.ci95, p_value)
        yield replace(found, linear=compared, seconds=found.seconds + beside.seconds)


def _probe(
    prepared: PreparedSweep,
    plan: SweepPlan,
    protocol: Protocol,
    train: Mapping[Tap, Array],
    test: Mapping[Tap, Array],
) -> Iterator[TapResult]:
    # There is no control of the width: attention does not read the pooled features that it would project.
    labels, device = prepared.data.test.labels, prepared.device
    yield from probe_taps(train, test, prepared.sets, labels, protocol, narrow=None, device=device, jobs=plan.jobs)


def tokens_by_image(features: Mapping[Tap, Array], tap: Tap, protocol: Protocol) -> Array:
    """The tokens of a tap, shape (images, tokens, width), without a copy."""
    rows = features[tokens_of(tap, protocol.pooling)]
    return rows.reshape(len(rows), -1, features[tap].shape[1])
