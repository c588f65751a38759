"""The whole measurement of one (model, dataset, protocol) as one function, for notebooks and scripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from probebench._hardware import available_cores
from probebench._progress import Progress
from probebench.catalog import DatasetSpec, ModelSpec
from probebench.catalog.protocols import DEFAULT_PROTOCOL, Protocol
from probebench.catalog.taps import Tap
from probebench.features.batching import check_batch_size
from probebench.features.cache import FeatureCache
from probebench.measure.combine import combine
from probebench.measure.duplicates import find_equal_pixels
from probebench.measure.extract import extract
from probebench.measure.near_duplicates import find_near_duplicates
from probebench.measure.prepare import prepare
from probebench.measure.probe import probe
from probebench.measure.result import SweepResult
from probebench.measure.shift import References, measure_shift


def run_sweep(
    model: str | ModelSpec,
    dataset: str | DatasetSpec,
    *,
    protocol: str | Protocol = DEFAULT_PROTOCOL,
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
) -> SweepResult:
    """Extract features once, fit a probe at every tap, score it on the test split.

    Args:
        model, dataset, protocol: names from the built-in catalog, or specs; a model may be ``timm:NAME``,
            ``hf:NAME`` or the like
        taps: which taps to probe, `Tap` or ids such as ``L06-act``; all of the model's by default
        clean: the dataset to take training images from under a protocol that trains on clean ones; by default the one
            that the built-in catalog has for the dataset
        reference: the dataset that represents the model's pretraining data; by default the one that the built-in
            catalog has for `ModelSpec.reference`
        references: keeps the features of `reference` for the next sweep of the same model
        weights: a file to load instead of the model's own, of the formats of `ModelSpec.checkpoint`
        download: get weights and archives that are not on this machine; if False, they are an error
        cache: where features are stored and looked up; nowhere by default
        memory: bytes that features and probes may take; by default most of what is free. What does not fit is read
            from the cache, or in several passes, see `probebench.measure.plan`
        device_memory: bytes that features and probes may take on a GPU, where features stay if they fit; by default
            most of what is free there, 0 to keep features on the host
        device: a torch device or ``auto``
        batch_size: images per forward pass; by default what suits the network and the device. Halved if memory runs
            out
        jobs: processor cores for the probes; by default all
        progress: told about stages as they run

    Returns:
        a `SweepResult` with one entry per tap, in the order data meets them

    Raises:
        UnknownName: for a name that the catalog does not have
        ProbebenchError: for a model or dataset that is neither a name nor a spec, and for no taps
        WeightsError, LayoutError, DataError, FeatureError, FetchError: see `probebench.errors`
    """
    check_batch_size(batch_size)
    prepared = prepare(
        model,
        dataset,
        protocol=protocol,
        taps=taps,
        clean=clean,
        reference=reference,
        weights=weights,
        download=download,
        device=device,
        progress=progress,
    )
    plan = prepared.plan(memory=memory, device_memory=device_memory, cache=cache, jobs=jobs or available_cores())
    settings = prepared.settings(plan, batch_size, progress)
    references = references or References(cache)
    result = SweepResult.begin(prepared, plan)
    passes = prepared.passes(plan)
    for group in passes:
        features = extract(prepared, group, settings, cache)
        result.add_extraction(features)
        if not result.taps:
            result.duplicates = find_equal_pixels(prepared, features)
            result.near_duplicates = find_near_duplicates(prepared, features)
        if result.shift_distance is None:
            result.shift_distance = measure_shift(features.test, prepared, references, settings)
        for found in probe(prepared, plan, features, progress=progress):
            result.taps[found.tap] = found
        if group is not passes[-1]:
            del features  # before the next ones are there
    for found in combine(prepared, plan, features, settings, cache, result.taps, progress):
        result.taps[found.tap] = found
    result.sort()
    return result
