"""The result of a sweep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from probebench._format import counted
from probebench.catalog import DatasetSpec, ModelSpec
from probebench.catalog.protocols import Protocol
from probebench.catalog.taps import FINAL, OUTPUT, Tap
from probebench.catalog.tasks import TASKS, Task
from probebench.datasets.duplicates import Duplicates
from probebench.errors import Note
from probebench.measure.near_duplicates import NearDuplicates
from probebench.measure.plan import SweepPlan
from probebench.measure.shift import ShiftDistance, Unavailable
from probebench.models.checkpoint import PLAIN
from probebench.probes.evaluate import TapResult
from probebench.records.ranking import choose
from probebench.records.types import ScoredCase
from probebench.stats import Scores

if TYPE_CHECKING:
    from probebench.measure.extract import ExtractedFeatures
    from probebench.measure.prepare import PreparedSweep


@dataclass
class SweepResult:
    """The result of one sweep. Taps are added as they finish, so after an interruption it has those that did.

    Attributes:
        model, dataset, protocol: what was measured
        trained_on: name of the dataset whose train split the probe was fitted on
        weights_digest: of the network's parameters
        weights_entry, weights_prefix, weights_made_for, weights_family, weights_left_out, weights_copies: see
            `probebench.models.build.Model`
        test_set: digest of the test images and labels
        n_train, n_test: examples that the probe was fitted and scored on; of one draw, where there are several
        images: number of images that went through the network, without those whose features were in the cache
        extract_seconds: wall time of the forward passes, loading included
        device: torch device of the forward passes
        batch_size: images per forward pass, at the end: memory may have run out
        plan: where features were kept, and the number of passes
        shift_distance: of the test images from the model's pretraining data; None if it was not measured
        duplicates: images that were found several times
        near_duplicates: test images that are nearly training images; None if they were not looked for
        data_notes: how the images were found, see `probebench.datasets.Split.notes`
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
    weights_entry: str = ""
    weights_prefix: str = ""
    weights_made_for: int = 0
    weights_family: str = ""
    weights_left_out: tuple[str, ...] = ()
    weights_copies: str = ""
    batch_size: int = 0
    plan: SweepPlan | None = None
    shift_distance: ShiftDistance | Unavailable | None = None
    duplicates: Duplicates = field(default_factory=Duplicates)
    near_duplicates: NearDuplicates | None = None
    data_notes: list[Note] = field(default_factory=list)
    taps: dict[Tap, TapResult] = field(default_factory=dict)

    @classmethod
    def begin(cls, prepared: PreparedSweep, plan: SweepPlan) -> SweepResult:
        """The result of a sweep before anything is extracted: without taps."""
        return cls(
            model=prepared.model.spec,
            dataset=prepared.dataset,
            protocol=prepared.protocol,
            trained_on=prepared.clean.name,
            weights_digest=prepared.model.weights_digest,
            test_set=prepared.data.test.digest,
            n_train=prepared.workload.n_train,
            n_test=prepared.workload.n_test,
            images=0,
            extract_seconds=0.0,
            device=prepared.device,
            weights_entry=prepared.model.entry,
            weights_prefix=prepared.model.prefix,
            weights_made_for=prepared.model.made_for,
            weights_family=prepared.model.family,
            weights_left_out=prepared.model.left_out,
            weights_copies=prepared.model.copies,
            plan=plan,
            duplicates=prepared.duplicates,
            data_notes=prepared.data.notes,
        )

    def add_extraction(self, features: ExtractedFeatures) -> None:
        """Add the cost of one pass over the images."""
        self.images += features.images
        self.batch_size = features.batch_size
        self.extract_seconds += features.seconds

    @property
    def same_as(self) -> dict[Tap, Tap]:
        """By tap the one with the same features up to rounding, with which it was not fitted again."""
        return {tap: found.same_as for tap, found in self.taps.items() if found.same_as is not None}

    @property
    def cases(self) -> list[ScoredCase]:
        """The taps with the keys that `probebench.records.tap_selection.select_tap` reads."""
        return [
            {
                "id": tap.id,
                "layer": tap.layer,
                "site": tap.site,
                "pooling": tap.pooling,
                "accuracy": found.accuracy,
                "held_out_accuracy": found.held_out_accuracy,
            }
            for tap, found in self.taps.items()
        ]

    @property
    def correct(self) -> dict[str, Scores]:
        """Return by tap id which test examples were classified correctly; bool, of shape (n_test,)."""
        return {tap.id: found.correct for tap, found in self.taps.items()}

    def sort(self) -> None:
        """Bring the taps into the order in which data meets them."""
        self.taps = dict(sorted(self.taps.items()))

    @property
    def notes(self) -> list[Note]:
        """Notes for the user on how the weights and the images were found."""
        return [*(Note("info", text) for text in self.weights_notes), *self.notes_on_images]

    @property
    def notes_on_images(self) -> list[Note]:
        """Notes for the user on how the images were found, and on those that were found several times."""
        found = self.duplicates.note(self.dataset)
        near = None if self.near_duplicates is None else self.near_duplicates.note(self.dataset)
        return [*self.data_notes, *(note for note in (found, near) if note is not None)]

    @property
    def weights_notes(self) -> list[str]:
        """Notes for the user on how the network's weights were found in their file, a line each."""
        notes, start = [], f"weights of {self.model.name}:"
        if self.weights_entry not in ("", *PLAIN):
            notes.append(f"{start} those in the entry {self.weights_entry!r} of their file")
        if self.weights_prefix:
            notes.append(f"{start} names in their file have the prefix {self.weights_prefix!r}, which was dropped")
        if self.weights_family:
            notes.append(f"{start} the names of {self.weights_family} in their file were translated to timm's")
        if self.weights_left_out:
            count = len(self.weights_left_out)
            notes.append(
                f"{start} {counted(count, 'tensor')} of their file, no part of the network, "
                f"{'were' if count > 1 else 'was'} left out: {_group(self.weights_left_out)}"
            )
        if self.weights_copies:
            notes.append(
                f"{start} {self.weights_copies}; checkpoint_key and checkpoint_prefix in its ModelSpec name one"
            )
        if self.weights_made_for:
            notes.append(
                f"{start} position embeddings in their file are made for images of {self.weights_made_for} pixels, and "
                f"were resampled to the {self.model.input_size} that are read; "
                f"kwargs={{'img_size': {self.weights_made_for}}} in its ModelSpec reads images of that size"
            )
        return notes

    def to_rows(self) -> list[dict[str, Any]]:
        """One dictionary a tap, of plain values, as `pandas.DataFrame` takes them.

        Its keys: ``model``, ``dataset`` and ``protocol``, names; ``tap``, ``layer`` and ``site``; ``pooling``, if it is
        not the protocol's, else empty; ``width``;
        ``accuracy``, ``low`` and ``high``, top-1 on the test split, or the mean average precision or R2 if that is the
        score of the dataset's task, and its 95% interval; ``mean_per_class``;
        ``equal_width``, the accuracy at the width of the residual stream; ``held_out_accuracy``, ``C``, ``gap``,
        ``iterations`` and ``seconds``, as in `TapResult`; of a probe on tokens ``linear``, the accuracy of the linear
        probe on their mean, and ``linear_p``, the p-value that it is as good. Accuracies are in [0, 1]; missing values
        are None.
        """
        return [
            {
                "model": self.model.name,
                "dataset": self.dataset.name,
                "protocol": self.protocol.name,
                "tap": tap.id,
                "layer": tap.layer,
                "site": tap.site,
                "pooling": tap.pooling,
                "width": found.width,
                "accuracy": found.accuracy,
                "low": found.ci95[0],
                "high": found.ci95[1],
                "mean_per_class": None if found.metrics.mean_per_class is None else found.metrics.mean_per_class.value,
                "equal_width": None if found.width_matched is None else found.width_matched.accuracy.value,
                "held_out_accuracy": found.held_out_accuracy,
                "C": found.C,
                "gap": found.gap,
                "iterations": found.iterations,
                "seconds": found.seconds,
                "linear": None if found.linear is None else found.linear.accuracy,
                "linear_p": None if found.linear is None else found.linear.p_value,
            }
            for tap, found in self.taps.items()
        ]

    def __repr__(self) -> str:
        lines = [
            f"<SweepResult {self.model.name} on {self.dataset.name}, {self.protocol.name}: {len(self.taps)} taps, "
            f"{self.n_train} training and {self.n_test} test images"
        ]
        rows: list[Any] = self.to_rows()
        if rows:
            best = choose(rows)
            on = "test" if best["held_out_accuracy"] is None else "held-out"
            task = TASKS[self.dataset.task]
            lines += [f"  {_format_row(best, task)}, the best on {on} images"]
            lines += [f"  {_format_row(row, task)}" for row in rows if row["tap"] in {FINAL, OUTPUT} - {best["tap"]}]
        return "\n".join(lines) + ">"


def _group(names: Sequence[str]) -> str:
    """Name all tensors in a few words: those whose names begin with the same part are counted together."""
    counts = Counter(name.partition(".")[0] for name in names)
    return ", ".join(
        next(name for name in names if name.partition(".")[0] == part) if count == 1 else f"{part}.* ({count})"
        for part, count in counts.items()
    )


def _format_row(row: dict[str, Any], task: Task) -> str:
    return f"{row['tap']}: {task.text(row['accuracy'])} ({task.interval((row['low'], row['high']))})"
