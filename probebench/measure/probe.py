"""The third stage of a sweep: fit a probe at every tap and score it on the test images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from probebench._arrays import Array
from probebench._progress import NullProgress, Progress
from probebench.catalog.taps import Tap
from probebench.measure.extract import ExtractedFeatures
from probebench.measure.plan import SweepPlan
from probebench.measure.prepare import PreparedSweep
from probebench.probes.evaluate import TapResult, probe_taps


def probe(
    prepared: PreparedSweep,
    plan: SweepPlan,
    features: ExtractedFeatures,
    taps: Sequence[Tap] | None = None,
    progress: Progress | None = None,
) -> Iterator[TapResult]:
    """Yield the result of each tap as soon as it is measured, so that an interrupted sweep keeps those that finished.

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
    progress.start("fit", len(wanted))
    for group in plan.groups:
        if together := [tap for tap in group if tap in wanted]:
            for result in _probe_together(prepared, plan, features, together):
                yield replace(result, seconds=result.seconds + share)
                progress.advance(1)


def _probe_together(
    prepared: PreparedSweep, plan: SweepPlan, features: ExtractedFeatures, taps: list[Tap]
) -> Iterator[TapResult]:
    """Yield the results of some taps, in any order."""
    train, test = ({tap: part[tap] for tap in taps} for part in (features.train, features.test))
    if prepared.protocol.feature_norm == "l2":
        train, test = (_scale_rows(part) for part in (train, test))
    yield from probe_taps(
        train,
        test,
        prepared.sets,
        prepared.data.test.labels,
        prepared.protocol,
        narrow=prepared.workload.narrow,
        device=prepared.device,
        jobs=plan.jobs,
    )


def _scale_rows(features: dict[Tap, Array]) -> dict[Tap, Array]:
    """Scale every row to unit length, except rows of zeros. It is done in place where possible, to save memory."""
    scaled: dict[Tap, Array] = {}
    for tap, values in features.items():
        if isinstance(values, torch.Tensor):
            with torch.inference_mode():  # as they were made
                length = torch.linalg.vector_norm(values, dim=1, keepdim=True)
                scaled[tap] = values.div_(length.masked_fill_(length == 0, 1))
            continue
        norm = np.linalg.norm(values, axis=1, keepdims=True)
        scaled[tap] = np.divide(values, np.where(norm > 0, norm, 1), out=values if values.flags.writeable else None)
    return scaled
