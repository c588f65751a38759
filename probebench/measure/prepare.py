"""The first stage of a sweep: read the data, build the network, and plan the memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from probebench import datasets
from probebench._hardware import available_cores, choose_device, usable_memory
from probebench._progress import NullProgress, Progress
from probebench.catalog import Catalog, DatasetSpec, ModelSpec
from probebench.catalog.catalog import dataset_of
from probebench.catalog.protocols import DEFAULT_PROTOCOL, Protocol, get_protocol
from probebench.catalog.taps import SEARCHED, Tap, all_taps, most_combined
from probebench.catalog.tasks import CLASSIFICATION, MULTILABEL, REGRESSION, TASKS
from probebench.datasets.dataset import explain_broken, training_split_for
from probebench.datasets.duplicates import Duplicates, drop_from_train, find_duplicates
from probebench.datasets.splits import held_out_part, training_sets
from probebench.datasets.views import Views
from probebench.errors import DataError, ProbebenchError, unknown
from probebench.features.batching import BatchSize
from probebench.features.cache import FeatureCache
from probebench.features.hooks import widths_of
from probebench.features.settings import ExtractionSettings
from probebench.features.tokens import check_tokens, count_tokens
from probebench.features.verify import verify_blocks
from probebench.measure.downloads import download_missing
from probebench.measure.plan import SweepPlan, Workload, plan_sweep
from probebench.models import default_catalog
from probebench.models.build import Model, build_model
from probebench.models.checkpoint import own_file
from probebench.models.libraries import find_library
from probebench.probes import find_probe
from probebench.probes.evaluate import TrainingSet
from probebench.scores import tested_labels


@dataclass(frozen=True)
class SweepImages:
    """The images of a sweep, whatever network they go through.

    Attributes:
        data: both splits, read
        read: int64, the rows of the train split that go through the network
        sets: the training sets, one a draw, as rows of `read`
        dropped: the number of training images that were left out because of duplicates
    """

    protocol: Protocol
    data: datasets.Dataset
    read: npt.NDArray[np.int64]
    sets: list[TrainingSet]
    dropped: int = 0

    def duplicates(self) -> Duplicates:
        """Compare the images that are used with one another. Reads files, but decodes none."""
        try:
            found = find_duplicates(self.data.train, self.read, self.data.test)
        except DataError as error:
            raise explain_broken([self.data.train, self.data.test], error) from error
        return replace(found, dropped=self.dropped)

    def views(self, model: ModelSpec) -> tuple[Views, Views]:
        """The training and the test images, as a model reads them."""
        protocol, data = self.protocol, self.data
        rest = model.input_size, protocol.seed, protocol.resizing(model)
        return (
            Views(data.train, self.read, protocol.train_view, *rest),
            Views(data.test, np.arange(len(data.test)), protocol.test_view, *rest),
        )

    def workload(self, widths: Mapping[Tap, int], narrow: int | None, combined: int = 1) -> Workload:
        """The size of the sweep, see `probebench.measure.plan.Workload`."""
        return Workload(
            self.protocol,
            widths,
            n_read=len(self.read),
            n_train=len(self.sets[0].labels),
            n_test=len(self.data.test),
            classes=len(self.data.classes) * (2 if self.data.task == MULTILABEL.name else 1),
            draws=len(self.sets),
            narrow=narrow,
            task=self.data.task,
            combined=combined,
        )


@dataclass(frozen=True)
class PreparedSweep:
    """A sweep that is ready for extraction.

    Attributes:
        model: the network, on `device`
        dataset, clean: those that the test split and the train split are taken from
        reference: the dataset that represents the model's pretraining data; None if none is known
        taps: those to read, in the order data meets them
        searched: combinations of them to search for, see `probebench.measure.combine`
        data: both splits, read
        duplicates: the images that were found several times
        read: int64, the rows of the train split that go through the network
        sets: the training sets, one a draw, as rows of `train_views`
        train_views, test_views: the images that go through the network
        workload: the sizes that decide memory and time
        device: a torch device
    """

    model: Model
    dataset: DatasetSpec
    clean: DatasetSpec
    reference: DatasetSpec | None
    protocol: Protocol
    taps: list[Tap]
    searched: list[Tap]
    data: datasets.Dataset
    duplicates: Duplicates
    read: npt.NDArray[np.int64]
    sets: list[TrainingSet]
    train_views: Views
    test_views: Views
    workload: Workload
    device: str

    @property
    def images(self) -> int:
        """Number of images that one pass sends through the network."""
        return len(self.train_views) + len(self.test_views)

    def plan(
        self,
        *,
        memory: int | None = None,
        device_memory: int | None = None,
        cache: FeatureCache | None = None,
        jobs: int | None = None,
    ) -> SweepPlan:
        """Plan the sweep by the memory of this machine; arguments and errors as for `plan_here`."""
        return plan_here(
            self.workload,
            device_of(self.model),
            memory=memory,
            device_memory=device_memory,
            cache=cache,
            jobs=jobs,
        )

    def passes(self, plan: SweepPlan) -> tuple[tuple[Tap, ...], ...]:
        """The taps of each pass over the images."""
        return plan.groups if plan.mode == "passes" else (tuple(self.taps),)

    def settings(
        self, plan: SweepPlan, batch_size: int | None = None, progress: Progress | None = None
    ) -> ExtractionSettings:
        """The settings of its extraction.

        Args:
            batch_size: images per forward pass; None for what suits the network and the device
        """
        return ExtractionSettings.for_model(
            self.protocol,
            self.model.spec,
            BatchSize.for_network(self.model.net, self.device, batch_size),
            self.device,
            stay=plan.mode == "device",
            keep=plan.mode == "disk",
            progress=progress,
        )


def model_of(model: str | ModelSpec, catalog: Catalog) -> ModelSpec:
    """The complete spec of a model.

    Raises:
        UnknownName: for a name that the catalog does not have
        ProbebenchError: for anything that is neither a name nor a spec
    """
    if isinstance(model, str):
        return catalog.model(model)
    if not isinstance(model, ModelSpec):
        raise ProbebenchError(
            f"model must be a name or a ModelSpec, got {type(model).__name__}. For a network of your own, save its "
            "weights by safetensors.torch.save_file(net.state_dict(), 'mine.safetensors') and give "
            "ModelSpec('mine', ARCHITECTURE, checkpoint='mine.safetensors') with timm's name of the architecture"
        )
    return model if model.complete else find_library(model).complete_spec(model)


def _parse_taps(taps: Sequence[Tap | str], spec: ModelSpec) -> list[Tap]:
    """Parse taps, and sort them in the order data meets them."""
    given = [taps] if isinstance(taps, str | Tap) else taps
    found = sorted({tap if isinstance(tap, Tap) else Tap.parse(str(tap)) for tap in given})
    if not found:
        raise ProbebenchError("taps is empty: name some, as in ['L06-act', 'final'], or leave it out for all")
    for tap in found:
        if isinstance(tap.layer, int) and tap.layer > spec.depth:
            raise unknown("layer", str(tap.layer), [f"1 to {spec.depth} for model {spec.name}"])
    return found


def _default_taps(spec: ModelSpec, protocol: Protocol) -> list[Tap]:
    """All taps of a model; under a protocol that reads tokens those that have some."""
    return [tap for tap in all_taps(spec.depth) if tap.pools or not protocol.reads_tokens]


def check_combinations(taps: Sequence[Tap], protocol: Protocol) -> None:
    """Check that a sweep can search for the combinations among its taps.

    Raises:
        ProbebenchError: if the protocol holds out no images, or there are too few taps to combine
    """
    least = most_combined(taps)
    if least == 1:
        return
    wanted = [tap for tap in taps if tap.layer in SEARCHED]
    if protocol.selection != "held_out":
        raise ProbebenchError(
            f"{wanted[0].id} cannot be searched for: protocol {protocol.name} holds out no images to choose taps on, "
            f"and the test images must not decide; use {DEFAULT_PROTOCOL}"
        )
    others = sum(not tap.is_combination for tap in taps)
    if others < least:
        raise ProbebenchError(f"{wanted[-1].id} is made of {least} taps, but {others} are selected; select more")


def prepare(
    model: str | ModelSpec,
    dataset: str | DatasetSpec,
    *,
    protocol: str | Protocol = DEFAULT_PROTOCOL,
    taps: Sequence[Tap | str] | None = None,
    clean: DatasetSpec | None = None,
    reference: DatasetSpec | None = None,
    weights: str | Path | None = None,
    download: bool = True,
    device: str = "auto",
    progress: Progress | None = None,
) -> PreparedSweep:
    """Read the data, build the network, and compute the workload; arguments as for `probebench.run_sweep`.

    Raises:
        UnknownName, WeightsError, LayoutError, DataError, FetchError: see `probebench.errors`
    """
    device, progress, catalog = choose_device(device), progress or NullProgress(), default_catalog()
    model_spec, dataset_spec = model_of(model, catalog), dataset_of(dataset, catalog)
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    chosen_taps = _default_taps(model_spec, protocol) if taps is None else _parse_taps(taps, model_spec)
    if clean is None or protocol.train_on != "clean":
        clean = clean_of(dataset_spec, protocol, catalog)

    check_combinations(chosen_taps, protocol)
    check_tokens(chosen_taps, protocol)
    read_taps = [tap for tap in chosen_taps if tap.layer not in SEARCHED]
    find_probe(protocol.probe).check(protocol)  # an unknown name or a missing field is refused before any work
    check_task(dataset_spec, protocol)
    weights = None if weights is None else Path(weights)
    own_file(model_spec, weights)
    if download:
        download_missing(model_spec, (clean, dataset_spec), own_weights=weights is not None, progress=progress)
    images = read_images(dataset_spec, clean, protocol)
    built = build_model(model_spec, weights=weights, device=device, precision=protocol.precision)
    verify_blocks(built)
    train_views, test_views = images.views(model_spec)
    widths = widths_of(built, read_taps, pooling=protocol.pooling, device=device)
    tokens = count_tokens(built, read_taps, pooling=protocol.pooling, device=device) if protocol.reads_tokens else 0
    return PreparedSweep(
        model=built,
        dataset=dataset_spec,
        clean=clean,
        reference=reference or catalog.reference(model_spec),
        protocol=protocol,
        taps=read_taps,
        searched=[tap for tap in chosen_taps if tap not in read_taps],
        data=images.data,
        duplicates=images.duplicates(),
        read=images.read,
        sets=images.sets,
        train_views=train_views,
        test_views=test_views,
        workload=replace(images.workload(widths, stream_width(built), most_combined(chosen_taps)), tokens=tokens),
        device=device,
    )


def clean_of(dataset: DatasetSpec, protocol: Protocol, catalog: Catalog) -> DatasetSpec:
    """The dataset whose train split is used to probe a dataset: a clean one if the protocol trains on that."""
    return catalog.clean(dataset) if protocol.train_on == "clean" else dataset


def check_task(dataset: DatasetSpec, protocol: Protocol) -> None:
    """Check that a protocol can measure a dataset of a task.

    Raises:
        ProbebenchError: if its probe does not fit such labels, or it draws images by their class
    """
    task = TASKS[dataset.task]
    if task is CLASSIFICATION:
        return
    start = f"protocol {protocol.name!r} cannot measure dataset {dataset.name!r} of task {task.name!r}"
    if task.name not in find_probe(protocol.probe).tasks:
        raise ProbebenchError(f"{start}: its probe {protocol.probe} fits classes only; use {DEFAULT_PROTOCOL}")
    if protocol.shots is not None:
        raise ProbebenchError(f"{start}: it draws {protocol.shots} images a class; use {DEFAULT_PROTOCOL}")


def read_images(dataset: DatasetSpec, clean: DatasetSpec, protocol: Protocol) -> SweepImages:
    """Read a dataset, and choose the training images.

    Args:
        clean: the dataset whose train split is used

    Raises:
        NotOnDisk: if a dataset is not on this machine
        DataError: if it is damaged, or has no training image of a class that is tested
    """
    data = datasets.load(dataset)
    if clean.name != dataset.name:
        data = replace(data, train=training_split_for(data, datasets.load(clean)))
    dropped = 0
    if dataset.duplicates == "drop-train":
        data, dropped = drop_from_train(data)
    chosen = training_sets(data.train, protocol)
    for indices in chosen:
        _refuse_untestable(data, data.train.labels[indices], protocol)
    # Images that several draws share go through the network once.
    read = chosen[0] if len(chosen) == 1 else np.unique(np.concatenate(chosen))
    sets = [
        TrainingSet(
            rows=None if len(chosen) == 1 else np.searchsorted(read, indices),
            labels=data.train.labels[indices],
            held_out=held_out_part(data.train, indices, protocol),
        )
        for indices in chosen
    ]
    return SweepImages(protocol, data, read, sets, dropped)


def stream_width(model: Model) -> int | None:
    """The width of the residual stream of a network; None if it is not known."""
    return int(getattr(model.net, "embed_dim", 0)) or None


def device_of(model: Model) -> str:
    """The torch device that a network is on."""
    return str(next(model.net.parameters()).device)


def plan_here(
    workload: Workload,
    device: str,
    *,
    memory: int | None = None,
    device_memory: int | None = None,
    cache: FeatureCache | None = None,
    jobs: int | None = None,
) -> SweepPlan:
    """Plan a sweep by the memory of this machine, see `probebench.measure.plan.plan_sweep`.

    Args:
        device: of the network
        memory: bytes; None for most of what is free
        device_memory: bytes on a GPU, of which no more than what is free is taken; None for most of that
        cache: its free room bounds the features that go to the disk
        jobs: processor cores for the probes; None for all

    Raises:
        FeatureError: if not even one tap fits into the memory
    """
    jobs = jobs or available_cores()
    free = usable_memory("cpu") if memory is None else memory
    on_gpu = 0
    if find_probe(workload.protocol.probe).on_device:
        on_gpu = _usable_on_gpu(device)
        jobs = 1 if on_gpu else jobs
    if device_memory is not None:
        on_gpu = min(on_gpu, device_memory)
    if cache is not None and cache.always:
        on_gpu = 0  # all features go to the disk
    return plan_sweep(workload, memory=free, disk=_room(cache), jobs=jobs, device=on_gpu)


def _usable_on_gpu(device: str) -> int:
    """Bytes that features and probes may take on a GPU; 0 for other devices."""
    return usable_memory(device) if device.startswith("cuda") else 0


def _room(cache: FeatureCache | None) -> int:
    """Bytes that the feature cache may take."""
    if cache is None:
        return 0
    try:
        return cache.room()
    except OSError:
        return 0


def _refuse_untestable(data: datasets.Dataset, train_labels: npt.NDArray[Any], protocol: Protocol) -> None:
    """Refuse classes and labels that are tested without a training image, and targets that do not vary."""
    if data.task == REGRESSION.name:
        for part, values in (("training", train_labels), ("test", data.test.labels)):
            constant = np.flatnonzero(np.ptp(values, axis=0) == 0)
            if len(constant):
                name = data.classes[int(constant[0])]
                raise DataError(
                    f"dataset {data.name!r}: the target {name!r} is the same for all {len(values)} {part} images"
                )
        return
    if data.task == MULTILABEL.name:
        if not tested_labels(data.test.labels).any():
            raise DataError(f"dataset {data.name!r}: no label that some test images have and others have not")
        tested, seen = (np.flatnonzero((labels == 1).any(axis=0)) for labels in (data.test.labels, train_labels))
    else:
        tested, seen = np.unique(data.test.labels), train_labels
    missing = np.setdiff1d(tested, seen)
    if len(missing):
        names = ", ".join(f"{data.classes[i]!r}" for i in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        what = "label" if data.task == MULTILABEL.name else "class"
        raise DataError(
            f"dataset {data.name!r}: no training image under protocol {protocol.name} for {what} {names}{more}, "
            f"which the test split has ({len(train_labels)} of {len(data.train)} training images are used); "
            f"give it more training images per {what}"
        )
