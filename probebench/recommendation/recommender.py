"""Probe one's own images, choose a tap, and keep its probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from probebench._hardware import available_cores, choose_device
from probebench._progress import Progress
from probebench.catalog import DatasetSpec, ModelSpec
from probebench.catalog.protocols import DEFAULT
from probebench.catalog.taps import FINAL, Tap
from probebench.errors import ProbebenchError
from probebench.features.cache import FeatureCache
from probebench.measure.prepare import model_of
from probebench.measure.result import SweepResult
from probebench.measure.sweep import ExtractedFeatures, run_sweep
from probebench.models import default_catalog
from probebench.probes.logistic_path import solve
from probebench.recommendation import screening
from probebench.recommendation.export import Export, export
from probebench.recommendation.flops import saved_compute
from probebench.recommendation.images import Images, find_images
from probebench.recommendation.recommendation import Recommendation, TapRow, as_cases, correct_of
from probebench.records.tap_selection import select_tap
from probebench.stats import discordant, mcnemar_two_sided


def recommend(
    model: str | ModelSpec,
    data: str | Path | DatasetSpec,
    *,
    budget: int | None = None,
    weights: str | Path | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Recommendation:
    """Probe all taps of a model under ``default@1``, and choose one on held-out training images.

    Args:
        model: a name of the built-in catalog, ``timm:`` and timm's name, or a spec
        data: a folder of images, see `probebench.recommendation.images.find_images`; or a name of the catalog, or a
        spec
        budget: how many taps get the full probe, beside ``final``: the best of a screening by a ridge probe on the
            held-out part of the training images. All taps, and no screening, by default and where there are no more
        weights: a file to load instead of the model's own
        device, batch_size, jobs, progress: as of `probebench.run_sweep`

    Returns:
        the tap, what is known about it, and its trained probe

    Raises:
        UnknownName: for a name that there is not
        DataError: for images that cannot be read or probed
        ProbebenchError: see `probebench.errors`
    """
    if budget is not None and budget < 1:
        raise ProbebenchError(f"a budget must be at least 1 tap, got {budget}")
    catalog = default_catalog()
    spec = replace(model_of(model, catalog), reference="")  # a shift distance is not asked for
    images = find_images(data, catalog)
    device = choose_device(device)
    cores = jobs or available_cores()
    seen: list[ExtractedFeatures] = []

    def screen(extracted: ExtractedFeatures) -> Sequence[Tap]:
        seen.append(extracted)
        if budget is None or budget >= len(extracted.train):
            return list(extracted.train)
        return screening.best(screening.scores(extracted.train, extracted.sets[0], DEFAULT, device, cores), budget)

    result = run_sweep(
        spec,
        images.spec,
        protocol=DEFAULT,
        weights=weights,
        device=device,
        batch_size=batch_size,
        jobs=cores,
        progress=progress,
        cache=FeatureCache(always=False),
        screen=screen,
    )
    return _Choice(result, seen[0], images, None if weights is None else Path(weights)).recommendation()


@dataclass(frozen=True)
class _Choice:
    """What a sweep found, on the way to a recommendation."""

    result: SweepResult
    seen: ExtractedFeatures
    images: Images
    weights: Path | None

    def recommendation(self) -> Recommendation:
        result, seen = self.result, self.seen
        selection = select_tap(as_cases(result), correct_of(result))
        assert selection is not None
        assert selection["tied"] is not None
        tap, tied = Tap.parse(selection["tap"]), tuple(Tap.parse(one) for one in selection["tied"])
        chosen, final = result.taps[tap], result.taps[Tap(FINAL, FINAL)]
        saved = saved_compute(seen.model.net, result.model.input_size, result.taps)
        lost, gained = discordant(final.correct, chosen.correct)
        labels, held_out = seen.sets[0].labels, seen.sets[0].held_out
        assert held_out is not None
        assert chosen.held_out_accuracy is not None
        table = tuple(
            TapRow(
                tap=one.id,
                layer=one.layer,
                site=one.site,
                width=found.width,
                validation=float(found.held_out_accuracy or 0.0),
                test=found.accuracy,
                low=found.ci95[0],
                high=found.ci95[1],
                gain=found.accuracy - final.accuracy,
                tied=one == tap or one in tied,
                saved_compute=saved[one],
                C=found.C,
            )
            for one, found in result.taps.items()
        )
        return Recommendation(
            model=result.model.typed if result.model.name.startswith("timm_") else result.model.name,
            data=self.images.title,
            note="; ".join(filter(None, [self.images.note, *result.weights_notes])),
            tap=tap,
            validation=chosen.held_out_accuracy,
            test=chosen.metrics.accuracy,
            gain=chosen.accuracy - final.accuracy,
            gain_p=float(mcnemar_two_sided([lost], [gained])[0]),
            tied=tied,
            level=selection["level"],
            saved_compute=saved[tap],
            budget=len(result.taps) - 1 if len(result.taps) < len(seen.train) else None,
            taps=len(seen.train),
            classes=tuple(seen.data.classes[label] for label in np.unique(labels)),
            n_train=len(labels),
            n_validation=int(held_out.sum()),
            n_test=result.n_test,
            table=table,
            export=self._export(tap),
        )

    def _export(self, tap: Tap) -> Export:
        result, seen = self.result, self.seen
        chosen, training = result.taps[tap], seen.sets[0]
        features = seen.train[tap] if training.rows is None else seen.train[tap][training.rows]
        assert chosen.C is not None
        probe = solve(features, training.labels, chosen.C, result.protocol, result.device)
        measured = {
            "data": self.images.spec.name,
            "n_train": result.n_train,
            "n_test": result.n_test,
            "C": chosen.C,
            "validation": chosen.held_out_accuracy,
            "test": chosen.metrics.accuracy.to_json(),
        }
        return export(seen.model, self.weights, tap, probe, seen.data.classes, result.protocol, measured)
