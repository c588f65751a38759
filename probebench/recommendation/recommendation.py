"""The recommendation as a dataclass, and its text for terminals and notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from probebench._format import counted, percent
from probebench.catalog.taps import FINAL, OUTPUT, SEARCHED, TOKENS, Tap
from probebench.catalog.tasks import CLASSIFICATION, MULTILABEL, Task
from probebench.errors import ProbebenchError
from probebench.measure.result import SweepResult
from probebench.metrics import Estimate
from probebench.probes.evaluate import Combination
from probebench.recommendation.display import LABEL
from probebench.recommendation.screening import measured
from probebench.records.types import ScoredCase
from probebench.stats import Scores, holm

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

    from probebench.recommendation.export import Export

SHOWN = 3
"""Number of cheaper taps in the text and in the table."""


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
class Recommendation:
    """The recommended tap of a model for a dataset, its scores, and the taps that are tied with it.

    `print` shows a summary, and so does a notebook; `save` writes the trained probe.

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
    def columns(self) -> tuple[str, ...]:
        """The titles of `rows`."""
        unit = " %" if self.task.percent else f" {self.task.score}"
        return ("tap", f"validation{unit}", f"test{unit}", "95% interval", "vs output", "tied", "saved %")

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

    def save(self, folder: str | Path) -> tuple[Path, Path]:
        """Write the trained probe and a script that classifies images with it.

        Returns:
            the paths of ``probe.safetensors`` and ``classify.py`` in the folder, which is created if needed. If the
            network's weights are in a file of the user, the folder also gets them, as ``network.safetensors``

        Raises:
            StoreError: if they cannot be written, or would replace a ``classify.py`` that is not from probebench
        """
        return self.export.write(Path(folder))

    def to_dataframe(self) -> pd.DataFrame:
        """Return `table` as a pandas DataFrame, with the attributes of `TapRow` as columns and `tap` as the index.

        Raises:
            ProbebenchError: if pandas is not installed
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ProbebenchError("a DataFrame needs pandas: pip install 'probebench[notebook]'") from error
        return pd.DataFrame([asdict(row) for row in self.table]).set_index("tap")

    def lines(self) -> list[str]:
        """Return the summary, one fact per line, with a label of ten characters in all lines but the first."""
        task = self.task
        text = [
            f"{self.model} on {self.data}: {counted(self.n_train, 'training image')}, {self.n_validation:,} of them "
            f"for validation, {counted(self.n_test, 'test image')}, {self._describe_classes()}",
            *([f"note      {self.note}"] if self.note else []),
            *(f"warning   {text}" for text in self.warnings),
            f"tap       {self._describe_choice()} on validation ({task.text(self.validation)})",
            f"test      {task.text(self.test.value)}, 95% interval {task.interval(self.test.ci95)}",
            f"gain      {self._describe_gain()}",
            f"tied      {self._describe_ties()}",
            f"compute   {self._describe_compute()}",
            *(f"{name.partition('.')[0]:<{LABEL}}{self._describe_combination(name)}" for name in self.combinations),
            *([f"attentive {self._describe_attentive(self.attentive)}"] if self.attentive else []),
            *([f"pooling   {self._describe_poolings()}"] if self.poolings != ("mean",) else []),
            *([f"same      {self._describe_same()}"] if self.same_as else []),
            f"how sure  {self._describe_certainty()}",
        ]
        if self.budget is not None:
            text.append(f"budget    {self._describe_budget(self.budget)}")
        return text

    def rows(self) -> list[tuple[str, ...]]:
        """Return the recommended tap, some cheaper ones, concatenations and their best members, the attentive probe and
        the linear one at its tap, and references.

        Returns:
            cells of `columns`
        """
        task, last = self.task, ["", FINAL, OUTPUT]
        members = (each.best_member.id for each in self.combinations.values() if each.best_member is not None)
        named = {self.tap.id, FINAL, OUTPUT, *self.combinations, *members}
        if self.attentive is not None:
            named |= {self.attentive.tap.id, self.attentive.linear.id}
        shown = [row for row in self.table if row.tap in named]
        shown += [row for row in self.cheaper[-SHOWN:] if row not in shown]
        return [
            (
                row.tap,
                task.number(row.validation),
                task.number(row.test),
                task.interval((row.low, row.high)),
                task.change(row.gain),
                "yes" if row.tied else "no",
                percent(row.saved_compute),
            )
            for row in sorted(
                shown,
                key=lambda row: (
                    row.tap != self.tap.id,
                    last.index(row.tap) if row.tap in last else 0,
                    -row.saved_compute,
                ),
            )
        ]

    @property
    def _test(self) -> str:
        return "McNemar's exact test" if self.task is CLASSIFICATION else "the sign-flip test"

    def _describe_classes(self) -> str:
        if self.task is CLASSIFICATION:
            return f"{len(self.classes)} classes"
        return counted(len(self.classes), "label" if self.task is MULTILABEL else "target")

    def _describe_choice(self) -> str:
        name, attends = self.tap.id, self.attentive is not None
        if not (self.combinations or attends):
            return f"{name}, the best of {len(self.table)}"
        if self.tap.keeps_tokens:
            name += " (the attentive probe)"
        elif self.tap.is_combination:
            name += f" ({self._describe_members(name)})"
        tried = [counted(len(self.table) - len(self.combinations) - attends, "tap")]
        tried += [counted(self.concatenations, "concatenation")] if self.combinations else []
        tried += ["1 attentive probe"] if attends else []
        return f"{name}, the best of {', '.join(tried[:-1])} and {tried[-1]}"

    def _describe_members(self, name: str) -> str:
        if name not in SEARCHED:
            pooling = Tap.parse(name).pooling
            return f"the last four blocks, each behind the final norm{f', pooled by {pooling}' if pooling else ''}"
        return " + ".join(member.id for member in self.combinations[name].members)

    def _describe_combination(self, name: str) -> str:
        """Compare a concatenation with its best member; whether it is better, by Holm's procedure over all of them."""
        found, at = self.combinations[name], {row.tap: row for row in self.table}
        one = at[name]
        text = f"{self._describe_members(name)}: test {self.task.text(one.test)} with {one.width} features"
        if found.best_member is None or found.gain is None or found.p_value is None:
            return f"{text}; none of its members was probed alone"
        how = "not significantly better"
        if name in self.distinguishable:
            how = "better" if found.gain > 0 else "worse"
        member, change = at[found.best_member.id], self.task.points(found.gain)
        return (
            f"{text}, {how} than its best member {member.tap} with {member.width} ({change}, p = {found.p_value:.2g})"
        )

    def _describe_attentive(self, found: AttentiveComparison) -> str:
        """Compare the attentive probe with the linear one; whether it is better, as for concatenations."""
        at, place = {row.tap: row for row in self.table}, found.linear.plain.id
        one, linear = at[found.tap.id], at[found.linear.id]
        what = f"attention to the tokens of {place}"
        if found.tap.pooling == TOKENS["patch_mean"]:
            what = f"attention to the tokens of the patches at {place}"
        if found.instead_of is not None:
            what += f", the best single tap with tokens (the best of all, {found.instead_of.id}, has none)"
        how = "not significantly better"
        if found.tap.id in self.distinguishable:
            how = "better" if found.gain > 0 else "worse"
        return (
            f"{what}: validation {self.task.text(one.validation)}, test {self.task.text(one.test)}, {how} than the "
            f"linear probe of {linear.tap} (test {self.task.text(linear.test)}, {self.task.points(found.gain)}, "
            f"p = {found.p_value:.2g}); {found.weights:,} weights instead of {found.linear_weights:,}, and "
            f"{found.seconds:.0f} s to read tokens and to train"
        )

    def _describe_gain(self) -> str:
        what = "what the network itself returns"
        if self.tap.layer == OUTPUT:
            return f"none: output is {what}"
        if self.same_as.get(OUTPUT) == self.tap.id:
            return f"none: {self.tap.id} is output, {what}, up to rounding"
        return f"{self.task.points(self.gain)} over output, {what} (p = {self.gain_p:.2g}, {self._test})"

    def _describe_ties(self) -> str:
        others = len(self.table) - 1
        if not self.tied:
            return f"none of the {others} other taps"
        earliest = f"the earliest is {self.tied[0].id}" if self.tied[0] < self.tap else "none of them is earlier"
        tied = "is tied" if len(self.tied) == 1 else "are tied"
        return f"{len(self.tied)} of {counted(others, 'other tap')} {tied} with it on the test images; {earliest}"

    def _describe_compute(self) -> str:
        if self.saved_compute == 0:
            own = "the tap needs the whole network"
        else:
            own = f"dropping what comes after the tap saves {percent(self.saved_compute)}% of the network's computation"
        if not self.cheaper:
            return f"{own}; no tied tap saves more"
        named = ", ".join(
            f"{row.tap} {percent(row.saved_compute)}% (test {self.task.text(row.test)})"
            for row in self.cheaper[-SHOWN:]
        )
        more = f" (up to {percent(self.cheaper[0].saved_compute)}%)" if len(self.cheaper) > SHOWN else ""
        return f"{own}; tied taps save more{more}: {named}"

    def _describe_poolings(self) -> str:
        first, *others = self.poolings
        if not others:
            return f"{first}, of all taps but output"
        named = " and ".join(f"L01-act.{each}" for each in others)
        return f"{first}; taps with another have its name behind a dot, as in {named}"

    def _describe_same(self) -> str:
        named = [f"{one} is {of}" for one, of in self.same_as.items()]
        more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
        return f"{', '.join(named[:SHOWN])}{more}, up to rounding: fitted once"

    def _describe_certainty(self) -> str:
        taps = counted(len(self.table) - 1, "tap")
        text = (
            f"ties by {self._test}{'s' if self.task is CLASSIFICATION else ''}, Holm's procedure at "
            f"{100 * self.level:g}% over {taps}, n = {self.n_test:,}. 'Tied' means not distinguishable"
        )
        if self.task is not CLASSIFICATION:
            return text
        return f"{text}: with this test set, differences below {counted(self.smallest, 'image')} cannot be detected"

    def _describe_budget(self, budget: int) -> str:
        text = (
            f"a ridge probe screened {self.taps} taps on validation; only its best {budget}, "
            f"{'final, output and last4' if 'last4' in self.combinations else 'final and output'} had the full probe. "
        )
        known = measured(budget)
        if self.task is not CLASSIFICATION:
            return text + "How often that finds the best tap was measured for classes only"
        if known is None:
            return text + "How often so small a screening finds the best tap was not measured"
        size, often = known
        where = f"With a budget of {size}{' and one pooling' if len(self.poolings) > 1 else ''}"
        return text + (
            f"{where}, the screening kept the tap that the full probe chooses in {often.same} of {often.runs} measured "
            f"runs, and the chosen tap was that one or tied with it in {often.tied}"
        )

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __rich__(self) -> RenderableType:
        from probebench.recommendation.display import rich

        return rich(self.lines(), self.columns, self.rows())

    def _repr_html_(self) -> str:
        from probebench.recommendation.display import html

        return html(self.lines(), self.columns, self.rows())


def as_cases(result: SweepResult) -> list[ScoredCase]:
    """Return the cases of a sweep with the keys that `probebench.records.tap_selection.select_tap` reads."""
    return [
        {
            "id": tap.id,
            "layer": tap.layer,
            "site": tap.site,
            "pooling": tap.pooling,
            "accuracy": found.accuracy,
            "held_out_accuracy": found.held_out_accuracy,
        }
        for tap, found in result.taps.items()
    ]


def correct_of(result: SweepResult) -> dict[str, Scores]:
    """Return by tap id which test examples were classified correctly: bool, shape (n_test,)."""
    return {tap.id: found.correct for tap, found in result.taps.items()}
