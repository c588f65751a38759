"""Probe all taps on a user's own images, choose one, and export its probe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from probebench._arrays import HostArray, on_host
from probebench._format import human
from probebench._hardware import available_cores, choose_device
from probebench._progress import NullProgress, Progress
from probebench.catalog import DatasetSpec, ModelSpec
from probebench.catalog.protocols import DEFAULT, get_protocol
from probebench.catalog.taps import COMBINATIONS, OUTPUT, POOLINGS, SEARCHED, Tap, all_taps
from probebench.catalog.tasks import CLASSIFICATION, MULTILABEL, REGRESSION, Task
from probebench.datasets.dataset import upright
from probebench.errors import FeatureError, ProbebenchError, unknown
from probebench.features.batching import check_batch_size
from probebench.features.cache import FeatureCache
from probebench.measure.combine import combine, concatenate
from probebench.measure.duplicates import find_equal_pixels
from probebench.measure.extract import extract
from probebench.measure.near_duplicates import find_near_duplicates
from probebench.measure.prepare import PreparedSweep, model_of, prepare
from probebench.measure.probe import probe
from probebench.measure.result import SweepResult
from probebench.models import default_catalog
from probebench.models.timm_spec import resized_spec
from probebench.probes import logistic_path, ridge, sigmoid
from probebench.probes.attentive import Attentive
from probebench.probes.evaluate import TapResult
from probebench.probes.linear import Linear
from probebench.recommendation import screening
from probebench.recommendation.attention import Attended, attend, check_labels, check_tokens
from probebench.recommendation.export import Export, export
from probebench.recommendation.findings import TapRow
from probebench.recommendation.flops import saved_compute
from probebench.recommendation.images import Images, find_images
from probebench.recommendation.recommendation import Recommendation
from probebench.records.tap_selection import select_tap
from probebench.records.types import SelectionRecord
from probebench.scores import task_of
from probebench.stats import paired

_SOLVERS: Mapping[Task, Callable[..., Linear]] = {
    CLASSIFICATION: logistic_path.solve,
    MULTILABEL: sigmoid.solve,
    REGRESSION: ridge.solve_targets,
}


def recommend(
    model: str | ModelSpec,
    data: str | Path | DatasetSpec,
    *,
    budget: int | None = None,
    poolings: Sequence[str] = (),
    combinations: Sequence[str] = (),
    attentive: bool = False,
    size: int | None = None,
    weights: str | Path | None = None,
    task: str | None = None,
    duplicates: str | None = None,
    near_duplicates: float | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Recommendation:
    """Probe all taps of a model under ``default@2``, and choose one on held-out training images.

    Gains are over ``output``: what the network itself returns for an image, which is a tap like the others.

    Args:
        model: a name of the built-in catalog, a library and its name (``timm:NAME``, ``hf:NAME``), or a spec
        data: a folder of images, a table, or another format, see `probebench.recommendation.images.find_images`; or a
            name of the catalog, or a spec
        budget: number of taps that get the full probe besides ``final`` and ``output``: the best of a screening by a
            ridge probe on the held-out part of the training images. By default, and if there are no more taps, all of
            them without a screening
        poolings: ways to make one vector of the tokens of an image, some of `probebench.catalog.taps.POOLINGS`. Each
            tap is probed with each: with the first under its plain id, with others as ``L06-act.cls``. By default the
            mean over all tokens
        combinations: concatenations that are tried, too, some of `probebench.catalog.taps.COMBINATIONS`; the members of
            ``pair`` and ``triple`` are searched for among the probed taps, see `probebench.measure.combine`
        attentive: also train the probe of ``attentive@1`` on the tokens of the tap that is best of all that was tried;
            if that has none, of the best tap that has some. It is recommended if it is better on validation
        size: side of the square input in pixels, for networks of timm: at 98 instead of 518 pixels a ViT-S/14 needs a
            thirtieth of the time. By default that of the model
        weights: a file to load instead of the model's own
        task: what the labels of a table or an npz file are: ``multilabel``, ``regression``, or by default one class an
            image
        duplicates, near_duplicates: as the attributes of `DatasetSpec`; by default those of the data
        device, batch_size, jobs, progress: as for `probebench.run_sweep`

    Returns:
        the tap, its results, and its trained probe

    Raises:
        UnknownName: for a name that the catalog does not have, and of a pooling or of a combination
        LayoutError: for a network without a class token that is to be pooled
        DataError: for images that cannot be read or probed
        FeatureError: if features or tokens fit neither into memory nor into the feature cache
        ProbebenchError: see `probebench.errors`
    """
    if budget is not None and budget < 1:
        raise ProbebenchError(f"a budget must be at least 1 tap, got {budget}")
    check_batch_size(batch_size)
    first, *others = _checked("pooling", poolings, POOLINGS) or (DEFAULT.pooling,)
    protocol = DEFAULT if first == DEFAULT.pooling else get_protocol(f"{DEFAULT.name}+{first}")
    progress = progress or NullProgress()
    progress.start("read", 0)
    catalog = default_catalog()
    spec = replace(model_of(model, catalog), reference="")  # no shift distance is measured
    if size is not None:
        spec = resized_spec(spec, size)
    images = find_images(data, catalog, task)
    if attentive:
        check_labels(images.spec)
    if duplicates is not None:
        images = replace(images, spec=replace(images.spec, duplicates=duplicates))
    if near_duplicates is not None:
        images = replace(images, spec=replace(images.spec, near_duplicates=near_duplicates))
    device = choose_device(device)
    jobs = jobs or available_cores()
    prepared = prepare(
        spec,
        images.spec,
        protocol=protocol,
        taps=all_taps(spec.depth, others, _checked("combination", combinations, COMBINATIONS)),
        weights=weights,
        device=device,
        progress=progress,
    )
    cache = FeatureCache(always=False)
    plan = prepared.plan(device_memory=0, cache=cache, jobs=jobs)  # screening and export need arrays on the host
    if plan.mode == "passes":
        needed = human(prepared.workload.feature_bytes)
        raise FeatureError(
            f"choosing a tap needs the features of all taps at once ({needed}), which fit neither into memory nor into "
            "the feature cache: make room on the disk, or use fewer training images"
        )
    if attentive:
        check_tokens(prepared, plan, (first, *others), cache, jobs)
    settings = prepared.settings(plan, batch_size, progress)
    features = extract(prepared, prepared.taps, settings, cache)
    train = {tap: on_host(values) for tap, values in features.train.items()}
    taps = list(train)
    if budget is not None and budget < len(taps):
        scored = screening.scores(train, prepared.sets[0], protocol, prepared.device, jobs, progress)
        taps = screening.best(scored, budget)
    result = SweepResult.begin(prepared, plan)
    result.add_extraction(features)
    result.duplicates = find_equal_pixels(prepared, features)
    result.near_duplicates = find_near_duplicates(prepared, features)
    result.taps = {found.tap: found for found in probe(prepared, plan, features, taps, progress)}
    for found in combine(prepared, plan, features, settings, cache, result.taps, progress):
        result.taps[found.tap] = found
    attended = None
    if attentive:
        chosen = _select(result)[0]
        attended = attend(prepared, chosen, result.taps, cache, jobs=jobs, batch_size=batch_size, progress=progress)
        result.taps[attended.result.tap] = attended.result
    result.sort()
    progress.start("train", 0)
    screened = budget if len(taps) < len(train) else None
    own = None if weights is None else Path(weights)
    return _Choice(result, prepared, train, images, own, screened, (first, *others), attended).recommendation()


def _select(result: SweepResult) -> tuple[Tap, SelectionRecord]:
    """The tap that is best on held-out images of all that were measured, and its selection."""
    selection = select_tap(result.cases, result.correct)
    assert selection is not None
    return Tap.parse(selection["tap"]), selection


@dataclass(frozen=True)
class _Choice:
    """The result of a sweep, from which the recommendation is made.

    Attributes:
        train: per tap features of the training images, float32 of shape (n, width)
        weights: the file that replaced the weights of the model, if any
        budget, poolings: as in `Recommendation`
        attended: the attentive probe, if one was trained
    """

    result: SweepResult
    prepared: PreparedSweep
    train: Mapping[Tap, HostArray]
    images: Images
    weights: Path | None
    budget: int | None
    poolings: tuple[str, ...]
    attended: Attended | None

    def recommendation(self) -> Recommendation:
        result, prepared = self.result, self.prepared
        tap, selection = _select(result)
        assert selection["tied"] is not None
        tied = tuple(Tap.parse(one) for one in selection["tied"])
        chosen, output = result.taps[tap], result.taps[Tap(OUTPUT, OUTPUT)]
        reads = {one: _members(found) or (one,) for one, found in result.taps.items()}
        saved = saved_compute(prepared.model.net, result.model.input_size, reads)
        labels, held_out = prepared.sets[0].labels, prepared.sets[0].held_out
        assert held_out is not None
        assert chosen.held_out_accuracy is not None
        table = tuple(
            TapRow(
                tap=one.id,
                layer=one.layer,
                site=one.site,
                width=found.width,
                pooling=(one.pooling or result.protocol.pooling) if one.pools else "",
                validation=float(found.held_out_accuracy or 0.0),
                test=found.accuracy,
                low=found.ci95[0],
                high=found.ci95[1],
                gain=found.accuracy - output.accuracy,
                tied=one == tap or one in tied,
                saved_compute=saved[one],
                C=found.C,
            )
            for one, found in result.taps.items()
        )
        told = [note.text for note in result.notes if note.severity == "info"]
        return Recommendation(
            model=result.model.typed,
            data=self.images.title,
            note="; ".join(filter(None, [self.images.note, *told])),
            warnings=tuple(note.text for note in result.notes if note.severity != "info"),
            tap=tap,
            validation=chosen.held_out_accuracy,
            test=chosen.metrics.accuracy,
            gain=chosen.accuracy - output.accuracy,
            gain_p=paired(output.correct, chosen.correct).p_two_sided,
            tied=tied,
            level=selection["level"],
            saved_compute=saved[tap],
            budget=self.budget,
            taps=len(self.train),
            attentive=None if self.attended is None else self.attended.comparison,
            classes=_names(prepared.data.classes, labels),
            n_train=len(labels),
            n_validation=int(held_out.sum()),
            n_test=result.n_test,
            table=table,
            export=self._export(tap),
            task=chosen.task,
            poolings=self.poolings,
            same_as={one.id: of.id for one, of in result.same_as.items()},
            combinations={one.id: found.combination for one, found in result.taps.items() if found.combination},
        )

    def _export(self, tap: Tap) -> Export:
        result, prepared = self.result, self.prepared
        chosen, members = result.taps[tap], _members(result.taps[tap])
        protocol, constants = result.protocol, {"C": chosen.C}
        solved: Linear | Attentive
        if self.attended is not None and tap == self.attended.result.tap:
            solved, protocol = self.attended.probe, self.attended.protocol
            constants = {"rate": solved.rate, "epochs": solved.epochs}
        else:
            solved = self._solve(chosen, members)
        measured = {
            "data": self.images.spec.name,
            "n_train": result.n_train,
            "n_test": result.n_test,
            **constants,
            "validation": chosen.held_out_accuracy,
            "test": chosen.metrics.accuracy.to_json(),
        }
        names, turned = prepared.data.classes, upright(prepared.data.train.images)
        return export(
            prepared.model,
            self.weights,
            tap,
            solved,
            names,
            protocol,
            measured,
            chosen.task,
            upright=turned,
            members=members,
        )

    def _solve(self, chosen: TapResult, members: tuple[Tap, ...]) -> Linear:
        """Fit the linear probe that was chosen once more, for its weights."""
        result, training = self.result, self.prepared.sets[0]
        features = concatenate(self.train, members, result.protocol) if members else self.train[chosen.tap]
        features = features if training.rows is None else features[training.rows]
        assert chosen.C is not None
        return _SOLVERS[chosen.task](features, training.labels, chosen.C, result.protocol, result.device)


def _checked(kind: str, names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return the names, each once.

    Raises:
        UnknownName: if one is not known
    """
    names = [names] if isinstance(names, str) else names
    for name in names:
        if name not in known:
            raise unknown(kind, name, known)
    return tuple(dict.fromkeys(names))


def _members(found: TapResult) -> tuple[Tap, ...]:
    """The taps that are read for a tap that is made of others; none for one that is read itself."""
    return found.combination.members if found.combination is not None and found.tap.layer in SEARCHED else ()


def _names(classes: Sequence[str], labels: npt.NDArray[Any]) -> tuple[str, ...]:
    """Return the names of the classes that training images have, or of all labels or targets."""
    known = np.unique(labels) if task_of(labels) is CLASSIFICATION else range(len(classes))
    return tuple(classes[label] for label in known)
