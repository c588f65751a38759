"""The whole measurement of one (model, dataset, protocol) as one function that knows nothing of pytest."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from probebench import datasets, models, shift
from probebench import weights as pretrained
from probebench.cache import FeatureCache
from probebench.cache.extraction import features_of
from probebench.catalog import Catalog, DatasetSpec, ModelSpec
from probebench.datasets import disk
from probebench.errors import DataError, ProbebenchError, unknown
from probebench.fetch import Progress, fetch_dataset
from probebench.probing import TapResult, TrainingSet, probe_taps
from probebench.protocols import Protocol, get_protocol
from probebench.shift import References, ShiftDistance, Unavailable
from probebench.sites import Tap, all_taps
from probebench.views import Views, held_out_part, pixel_statistics, training_sets


@dataclass
class SweepResult:
    """What one sweep measured. Taps are added as they finish, so after an interruption it holds those that did.

    Attributes:
        model, dataset, protocol: what was measured
        trained_on: name of the dataset whose train split the probe was fitted on
        weights_digest: of the network's parameters
        test_set: digest of the test images and labels
        n_train, n_test: examples that the probe was fitted and scored on; of one draw, where there are several
        images: how many images went through the network; none of those whose features were in the cache
        extract_seconds: wall time of the forward passes, loading included
        device: torch device of the forward passes
        shift_distance: how far the test images are from what the model was pretrained on; None if it was not asked
        taps: results by tap
    """

    model: ModelSpec
    dataset: DatasetSpec
    protocol: Protocol
    trained_on: str
    weights_digest: str
    test_set: str
    n_train: int
    n_test: int
    images: int
    extract_seconds: float
    device: str
    shift_distance: ShiftDistance | Unavailable | None = None
    taps: dict[Tap, TapResult] = field(default_factory=dict)


class _Silent:
    def start(self, stage: str, total: int) -> None:
        pass

    def advance(self, count: int) -> None:
        pass


def choose_device(name: str = "auto") -> str:
    """``cuda`` where there is one, else ``cpu``, for ``auto``; any torch device is checked and returned.

    Raises:
        ProbebenchError: if the device does not exist
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ProbebenchError(f"device {name!r} cannot be used here ({reason}); try cpu, cuda or auto") from error
    return name


def available_cores() -> int:
    """Processor cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_sweep(
    model: str | ModelSpec,
    dataset: str | DatasetSpec,
    *,
    protocol: str | Protocol = "default@1",
    taps: Sequence[Tap] | None = None,
    clean: DatasetSpec | None = None,
    reference: DatasetSpec | None = None,
    references: References | None = None,
    weights: Path | None = None,
    download: bool = True,
    cache: FeatureCache | None = None,
    device: str = "auto",
    batch_size: int = 256,
    jobs: int | None = None,
    progress: Progress | None = None,
    on_start: Callable[[SweepResult], None] | None = None,
) -> SweepResult:
    """Extract features once, fit a probe at every tap, score it on the test split.

    Args:
        model, dataset, protocol: names from the built-in catalog, or specs; a model may be ``timm:`` and timm's name
        taps: which taps to probe; all of the model's by default
        clean: the dataset to take training images from under a protocol that trains on clean ones; by default the one
            that the built-in catalog has for the dataset
        reference: the dataset that stands for what the model was pretrained on; by default the one that the built-in
            catalog has for `ModelSpec.reference`
        references: keeps what was read of it for the next sweep of the same model
        weights: a file to load instead of the model's own, of the formats of `ModelSpec.checkpoint`
        download: get weights and archives that are not on this machine; without, they are an error
        cache: where features are kept and looked for; nowhere by default
        device: a torch device or ``auto``
        batch_size: images per forward pass
        jobs: processor cores for the probes; all that there are by default
        progress: told about stages as they run
        on_start: called with the result object before its first tap is added, so that a caller has what is
            finished when the sweep is interrupted

    Returns:
        a `SweepResult` with one entry per tap, in the order data meets them

    Raises:
        UnknownName: for a name that the catalog does not have
        WeightsError, LayoutError, DataError, FeatureError, FetchError: see `probebench.errors`
    """
    catalog = Catalog.default()
    model_spec = catalog.model(model) if isinstance(model, str) else model
    if not model_spec.complete:
        model_spec = models.completed(model_spec)
    dataset_spec = catalog.dataset(dataset) if isinstance(dataset, str) else dataset
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    taps = all_taps(model_spec.depth) if taps is None else sorted(set(taps))
    for tap in taps:
        if isinstance(tap.layer, int) and tap.layer > model_spec.depth:
            raise unknown("layer", str(tap.layer), [f"1 to {model_spec.depth} for model {model_spec.name}"])
    device = choose_device(device)
    progress = progress or _Silent()

    if protocol.train_on != "clean":
        clean = dataset_spec
    elif clean is None:
        clean = catalog.clean(dataset_spec)

    if download:
        if weights is None and pretrained.needs_download(model_spec):
            pretrained.download(model_spec, progress)
        for spec in {spec.name: spec for spec in (clean, dataset_spec)}.values():
            if not disk.on_disk(spec):
                fetch_dataset(spec, disk.data_root(), progress)
    data = datasets.load(dataset_spec)
    if clean.name != dataset_spec.name:
        data = replace(data, train=datasets.training_split_for(data, datasets.load(clean)))
    chosen = training_sets(data.train, protocol)
    for indices in chosen:
        _refuse_missing_classes(data, data.train.labels[indices], protocol)
    # Images that several draws have in common go through the network once.
    read = chosen[0] if len(chosen) == 1 else np.unique(np.concatenate(chosen))
    sets = [
        TrainingSet(
            rows=None if len(chosen) == 1 else np.searchsorted(read, indices),
            labels=data.train.labels[indices],
            held_out=held_out_part(data.train, indices, protocol),
        )
        for indices in chosen
    ]
    built = models.build(model_spec, weights=weights, device=device)

    size, seed, resizing = model_spec.input_size, protocol.seed, protocol.resizing(model_spec)
    train_views = Views(data.train, read, protocol.train_view, size, seed, resizing)
    test_views = Views(data.test, np.arange(len(data.test)), protocol.test_view, size, seed, resizing)
    mean, std = pixel_statistics(protocol, model_spec)
    progress.start("extract", len(train_views) + len(test_views))
    start = time.perf_counter()
    train, test = (
        features_of(
            built,
            views,
            read_taps,
            cache=cache,
            names={"model": model_spec.name, "dataset": name, "part": part},
            pooling=protocol.pooling,
            mean=mean,
            std=std,
            batch_size=batch_size,
            device=device,
            progress=progress,
        )
        for views, read_taps, name, part in (
            (train_views, taps, clean.name, "train"),
            (test_views, sorted({*taps, shift.WHERE}), dataset_spec.name, "test"),
        )
    )
    images = train.images + test.images
    extract_seconds = time.perf_counter() - start
    distance = shift.shift_distance(
        test[shift.WHERE],
        built,
        reference or catalog.reference(model_spec),
        protocol,
        references or References(cache),
        batch_size=batch_size,
        device=device,
    )
    seen, unseen = ({tap: features[tap] for tap in taps} for features in (train, test))
    if protocol.feature_norm == "l2":
        seen, unseen = (_l2_normalised(features) for features in (seen, unseen))
    del train, test

    result = SweepResult(
        model=model_spec,
        dataset=dataset_spec,
        protocol=protocol,
        trained_on=clean.name,
        weights_digest=built.weights_digest,
        test_set=data.test.digest,
        n_train=len(chosen[0]),
        n_test=len(data.test),
        images=images,
        extract_seconds=extract_seconds,
        device=device,
        shift_distance=distance,
    )
    if on_start is not None:
        on_start(result)
    progress.start("fit", len(taps))
    share = extract_seconds / len(taps)
    found = probe_taps(
        seen,
        unseen,
        sets,
        data.test.labels,
        protocol,
        narrow=int(getattr(built.net, "embed_dim", 0)) or None,
        device=device,
        jobs=jobs or available_cores(),
    )
    for tap_result in found:
        result.taps[tap_result.tap] = replace(tap_result, seconds=tap_result.seconds + share)
        progress.advance(1)
    result.taps = {tap: result.taps[tap] for tap in taps}
    return result


def _refuse_missing_classes(data: datasets.Dataset, train_labels: npt.NDArray[np.int64], protocol: Protocol) -> None:
    missing = np.setdiff1d(data.test.labels, train_labels)
    if len(missing):
        names = ", ".join(f"{data.classes[i]!r}" for i in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise DataError(
            f"dataset {data.name!r}: no training image under protocol {protocol.name} for class {names}{more}, "
            f"which the test split has ({len(train_labels)} of {len(data.train)} training images are used); "
            "give it more training images per class"
        )


def _l2_normalised(features: dict[Tap, npt.NDArray[np.float32]]) -> dict[Tap, npt.NDArray[np.float32]]:
    """Every row scaled to unit length; rows of zeros stay zero. Arrays that can be written to are, to save memory."""
    found = {}
    for tap, values in features.items():
        norm = np.linalg.norm(values, axis=1, keepdims=True)
        found[tap] = np.divide(values, np.where(norm > 0, norm, 1), out=values if values.flags.writeable else None)
    return found
