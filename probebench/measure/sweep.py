"""The whole measurement of one (model, dataset, protocol) as one function that knows nothing of pytest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from probebench._arrays import Array, HostArray, on_host
from probebench._format import human
from probebench._hardware import available_cores, choose_device
from probebench._progress import NullProgress, Progress
from probebench.catalog import DatasetSpec, ModelSpec
from probebench.catalog.protocols import Protocol
from probebench.catalog.taps import Tap
from probebench.datasets import Dataset
from probebench.errors import FeatureError, ProbebenchError
from probebench.features.batching import BatchSize
from probebench.features.cache import FeatureCache
from probebench.features.extraction import Features, read_features
from probebench.features.settings import ExtractionSettings
from probebench.measure import shift
from probebench.measure.plan import Mode, SweepPlan
from probebench.measure.prepare import PreparedSweep, prepare
from probebench.measure.result import SweepResult
from probebench.measure.shift import References
from probebench.models import default_catalog
from probebench.models.build import Model
from probebench.probes.evaluate import TapResult, TrainingSet, probe_taps


@dataclass(frozen=True)
class ExtractedFeatures:
    """What a sweep has read before its first probe is fitted. Test features are not part of it.

    Attributes:
        model: the network
        data: the dataset, with the train split that is used
        train: per tap float32 features of shape (n, width), as the network gave them
        sets: the training sets, one a draw
    """

    model: Model
    data: Dataset
    train: Mapping[Tap, HostArray]
    sets: Sequence[TrainingSet]


def run_sweep(
    model: str | ModelSpec,
    dataset: str | DatasetSpec,
    *,
    protocol: str | Protocol = "default@1",
    taps: Sequence[Tap | str] | None = None,
    clean: DatasetSpec | None = None,
    reference: DatasetSpec | None = None,
    references: References | None = None,
    weights: str | Path | None = None,
    download: bool = True,
    cache: FeatureCache | None = None,
    memory: int | None = None,
    device_memory: int | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
    on_plan: Callable[[SweepPlan], None] | None = None,
    on_start: Callable[[SweepResult], None] | None = None,
    screen: Callable[[ExtractedFeatures], Sequence[Tap]] | None = None,
) -> SweepResult:
    """Extract features once, fit a probe at every tap, score it on the test split.

    Args:
        model, dataset, protocol: names from the built-in catalog, or specs; a model may be ``timm:`` and timm's name
        taps: which taps to probe, `Tap` or ids as in ``L06-act``; all of the model's by default
        clean: the dataset to take training images from under a protocol that trains on clean ones; by default the one
            that the built-in catalog has for the dataset
        reference: the dataset that stands for what the model was pretrained on; by default the one that the built-in
            catalog has for `ModelSpec.reference`
        references: keeps what was read of it for the next sweep of the same model
        weights: a file to load instead of the model's own, of the formats of `ModelSpec.checkpoint`
        download: get weights and archives that are not on this machine; without, they are an error
        cache: where features are kept and looked for; nowhere by default
        memory: bytes that features and probes may take; by default most of what is free. What does not fit is read
            from the cache, or in several passes, see `probebench.measure.plan`
        device_memory: bytes that features and probes may take on a GPU, where features stay if they fit; by default
            most of what is free there, 0 to keep features on the host
        device: a torch device or ``auto``
        batch_size: images per forward pass; by default what suits the network and the device. Fewer once memory has
            run out
        jobs: processor cores for the probes; all that there are by default
        progress: told about stages as they run
        on_plan: called with the plan before anything is read
        on_start: called with the result object before its first tap is added, so that a caller has what is
            finished when the sweep is interrupted
        screen: given what was extracted, says which of the taps are worth a probe

    Returns:
        a `SweepResult` with one entry per tap, in the order data meets them

    Raises:
        UnknownName: for a name that the catalog does not have
        ProbebenchError: for a model or dataset that is neither a name nor a spec, and for no taps
        WeightsError, LayoutError, DataError, FeatureError, FetchError: see `probebench.errors`
    """
    if batch_size is not None and batch_size < 1:
        raise ProbebenchError(f"a batch must be at least 1 image, got {batch_size}")
    progress = progress or NullProgress()
    device = choose_device(device)
    ready = prepare(
        model,
        dataset,
        protocol=protocol,
        taps=taps,
        clean=clean,
        weights=weights,
        download=download,
        device=device,
        progress=progress,
    )
    if screen is not None:  # it is given arrays
        device_memory = 0
    plan = ready.plan(memory=memory, device_memory=device_memory, cache=cache, jobs=jobs or available_cores())
    batch = BatchSize.for_network(ready.model.net, device, batch_size)
    if screen is not None and plan.mode == "passes":
        raise FeatureError(
            f"features of all taps ({human(ready.demand.feature_bytes)}) must be there at once for this, and fit "
            "neither into memory nor into the feature cache: make room on the disk, or use fewer training images"
        )
    if on_plan is not None:
        on_plan(plan)
    references = references or References(cache)
    reference = reference or default_catalog().reference(ready.model.spec)
    result = SweepResult(
        model=ready.model.spec,
        dataset=ready.dataset,
        protocol=ready.protocol,
        trained_on=ready.clean.name,
        weights_digest=ready.model.weights_digest,
        test_set=ready.data.test.digest,
        n_train=ready.demand.n_train,
        n_test=ready.demand.n_test,
        images=0,
        extract_seconds=0.0,
        device=device,
        weights_entry=ready.model.entry,
        weights_prefix=ready.model.prefix,
        weights_made_for=ready.model.made_for,
        plan=plan,
    )
    passes = plan.groups if plan.mode == "passes" else (tuple(ready.taps),)
    for wanted in passes:
        start = time.perf_counter()
        progress.start("extract", ready.images)
        train, test = _extracted(ready, wanted, cache, batch, device, progress, plan.mode)
        seconds = time.perf_counter() - start
        result.images += train.images + test.images
        result.batch_size = batch.now
        result.extract_seconds += seconds
        if not result.taps:
            result.shift_distance = shift.shift_distance(
                on_host(test[shift.WHERE]),
                ready.dataset,
                ready.model,
                reference,
                ready.protocol,
                references,
                ExtractionSettings.for_model(ready.protocol, ready.model.spec, batch, device),
            )
            if on_start is not None:
                on_start(result)
        if screen is not None:
            arrays = {tap: on_host(values) for tap, values in train.items()}  # where they are already
            wanted = tuple(sorted(set(screen(ExtractedFeatures(ready.model, ready.data, arrays, ready.sets)))))
            del arrays
        progress.start("fit", len(wanted))
        for group in (wanted,) if plan.mode == "passes" else plan.groups:
            worthy = [tap for tap in group if tap in wanted]
            for tap_result in _probed(ready, worthy, train, test, device, plan.jobs) if worthy else ():
                result.taps[tap_result.tap] = replace(tap_result, seconds=tap_result.seconds + seconds / len(wanted))
                progress.advance(1)
        del train, test  # before the next ones are there
    result.taps = {tap: result.taps[tap] for tap in ready.taps if tap in result.taps}
    return result


def _extracted(
    ready: PreparedSweep,
    taps: Sequence[Tap],
    cache: FeatureCache | None,
    batch_size: BatchSize,
    device: str,
    progress: Progress,
    mode: Mode,
) -> tuple[Features, Features]:
    """Features of the training and of the test images."""
    settings = ExtractionSettings.for_model(
        ready.protocol,
        ready.model.spec,
        batch_size,
        device,
        stay=mode == "device",
        keep=mode == "disk",
        progress=progress,
    )
    both = (
        (ready.train_views, taps, ready.clean.name, "train"),
        (ready.test_views, sorted({*taps, shift.WHERE}), ready.dataset.name, "test"),
    )
    train, test = (
        read_features(
            ready.model,
            views,
            read_taps,
            settings,
            cache=cache,
            names={"model": ready.model.spec.name, "dataset": name, "part": part},
        )
        for views, read_taps, name, part in both
    )
    return train, test


def _probed(
    ready: PreparedSweep, taps: Sequence[Tap], train: Features, test: Features, device: str, jobs: int
) -> Iterator[TapResult]:
    """Results of some taps, in any order."""
    seen, unseen = ({tap: features[tap] for tap in taps} for features in (train, test))
    if ready.protocol.feature_norm == "l2":
        seen, unseen = (_l2_normalised(features) for features in (seen, unseen))
    labels, narrow = ready.data.test.labels, ready.demand.narrow
    yield from probe_taps(seen, unseen, ready.sets, labels, ready.protocol, narrow=narrow, device=device, jobs=jobs)


def _l2_normalised(features: dict[Tap, Array]) -> dict[Tap, Array]:
    """Every row scaled to unit length; rows of zeros stay zero. Memory that can be written to is, to save some."""
    found: dict[Tap, Array] = {}
    for tap, values in features.items():
        if isinstance(values, torch.Tensor):
            with torch.inference_mode():  # as they were made
                length = torch.linalg.vector_norm(values, dim=1, keepdim=True)
                found[tap] = values.div_(length.masked_fill_(length == 0, 1))
            continue
        norm = np.linalg.norm(values, axis=1, keepdims=True)
        found[tap] = np.divide(values, np.where(norm > 0, norm, 1), out=values if values.flags.writeable else None)
    return found
