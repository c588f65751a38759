"""Define what a recommendation is made of: the tap, its scores, and the taps that are tied with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from probebench.catalog.taps import SEARCHED, Tap
from probebench.catalog.tasks import CLASSIFICATION, Task
from probebench.metrics import Estimate
from probebench.probes.evaluate import Combination
from probebench.recommendation.export import Export
from probebench.stats import holm


@dataclass(frozen=True)
class TapRow:
    """The measurements of one tap. Accuracies and shares are in [0, 1]; if the labels of the dataset are no classes, an
    accuracy is the score of its task: mean average precision or R2.

    Attributes:
        tap, layer, site, width: position of the tap, and number of features
        pooling: how its vector is made of tokens, see `probebench.catalog.taps.POOLINGS`; empty for ``output``, which
            the network makes itself, and ``tokens`` or ``patch_tokens`` where an attentive probe attends to them
        validation: accuracy on the held-out training images
        test: accuracy on the test images
        low, high: 95% interval of the test accuracy
        gain: test accuracy minus that of ``output``, what the network itself returns
        tied: whether it is statistically tied with the recommended tap on the test images; true for that tap itself
        saved_compute: share of the network's computation that comes after it
        C: inverse regularisation strength of its probe; None of an attentive one
    """

    tap: str
    layer: int | str
    site: str
    width: int
    pooling: str
    validation: float
    test: float
    low: float
    high: float
    gain: float
    tied: bool
    saved_compute: float
    C: float | None


@dataclass(frozen=True)
class AttentiveComparison:
    """The comparison of the probe of ``attentive@1`` with the linear probe at the same tap.

    Attributes:
        tap: whose tokens it reads, such as ``L07-act.tokens``
        linear: the tap of the linear probe, whose features are made of tokens of the same place
        instead_of: what was best before, if that has no tokens to attend to; else None
        gain: test accuracy minus that of the linear probe
        p_value: that the two are equally good, by McNemar's exact two-sided test
        weights, linear_weights: the numbers of weights of the two probes
        seconds: to read the tokens and to train, wall time
    """

    tap: Tap
    linear: Tap
    instead_of: Tap | None
    gain: float
    p_value: float
    weights: int
    linear_weights: int
    seconds: float


@dataclass(frozen=True)
class Findings:
    """The recommended tap of a model for a dataset, its scores, and the taps that are tied with it.

    Attributes:
        model: name of the model
        data: the folder or the name of the dataset
        note: how the data was split, if it had no split, and where in its file the network was found; else empty
        warnings: what makes the scores doubtful, such as test images that are also training images
        tap: the best tap on held-out training images
        validation: its accuracy on those images, in [0, 1]; slightly optimistic, because it is the best of many
        test: its accuracy on the test images, with its 95% interval
        gain: that accuracy minus the test accuracy of ``output``, what the network itself returns for an image
        gain_p: p-value that ``output`` is as good, by McNemar's exact two-sided test, of scores by the sign-flip test;
            1 if the tap is ``output``
        tied: the other taps that are statistically tied with it on the test images, in forward order: two-sided
            tests of the same kind, Holm's procedure over all other probed taps
        level: family-wise error level of these tests
        saved_compute: share of the network's floating-point operations that come after the tap, in [0, 1]
        budget: number of taps that were probed after a screening, besides ``final`` and ``output``; None if all were
            probed
        taps: number of taps of the model
        classes: class names, or names of labels or targets
        n_train, n_validation, n_test: numbers of images; training images include the validation images
        table: all probed taps in forward order
        export: the trained probe of the tap and its metadata
        task: of the dataset
        poolings: those that were tried: of taps that name none of their own, and then of those that do, such as
            ``L06-act.cls``
        same_as: taps whose features are those of another tap up to rounding, by id, with the other one
        combinations: the concatenations in `table`, by id, with their members
        attentive: how the attentive probe compares with the linear one; None if none was trained
    """

    model: str
    data: str
    note: str
    warnings: tuple[str, ...]
    tap: Tap
    validation: float
    test: Estimate
    gain: float
    gain_p: float
    tied: tuple[Tap, ...]
    level: float
    saved_compute: float
    budget: int | None
    taps: int
    classes: tuple[str, ...]
    n_train: int
    n_validation: int
    n_test: int
    table: tuple[TapRow, ...] = field(repr=False)
    export: Export = field(repr=False)
    task: Task = CLASSIFICATION
    poolings: tuple[str, ...] = ("mean",)
    same_as: Mapping[str, str] = field(default_factory=dict)
    combinations: Mapping[str, Combination] = field(default_factory=dict)
    attentive: AttentiveComparison | None = None

    @property
    def cheaper(self) -> list[TapRow]:
        """Tied taps that save more computation, cheapest first; none that a cheaper one equals on validation."""
        tied = [row for row in self.table if row.tied and row.saved_compute > self.saved_compute]
        found: list[TapRow] = []
        for row in sorted(tied, key=lambda row: (-row.saved_compute, -row.validation)):
            if not found or row.validation > found[-1].validation:
                found.append(row)
        return found

    @property
    def smallest(self) -> int:
        """The fewest test images, all in one direction, on which a tap must differ to be distinguishable from `tap`."""
        others = max(1, len(self.table) - 1)
        return int(np.floor(np.log2(2 * others / self.level))) + 1

    @property
    def concatenations(self) -> int:
        """The number of concatenations that were fitted, those of the search for members included."""
        searched = [found.tried for name, found in self.combinations.items() if name in SEARCHED]
        return max(searched, default=0) + len(self.combinations) - len(searched)

    @property
    def distinguishable(self) -> set[str]:
        """The concatenations that differ from their best member, and the attentive probe if it differs from the linear
        one, by Holm's procedure over all of them, at `level`."""
        p_values = {name: each.p_value for name, each in self.combinations.items() if each.p_value is not None}
        if self.attentive is not None:
            p_values[self.attentive.tap.id] = self.attentive.p_value
        differs = holm(list(p_values.values()), self.level)
        return {name for name, different in zip(p_values, differs, strict=True) if different}
