"""The answer as an object: for programs, notebooks and the terminal."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from probebench.catalog.taps import Tap
from probebench.errors import ProbebenchError
from probebench.measure.result import SweepResult
from probebench.metrics import Estimate
from probebench.records.types import ScoredCase

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

    from probebench.recommendation.export import Export


@dataclass(frozen=True)
class TapRow:
    """What was measured at one tap. Accuracies and shares are in [0, 1].

    Attributes:
        tap, layer, site, width: where, and how many features there are
        validation: accuracy on the held-out training images
        test: accuracy on the test images
        low, high: its 95% interval
        gain: test accuracy minus that of ``final``
        tied: whether the test images cannot tell it from the recommended tap; true of that itself
        saved_compute: share of the network's computation that lies in blocks behind it
        C: inverse regularisation strength of its probe
    """

    tap: str
    layer: int | str
    site: str
    width: int
    validation: float
    test: float
    low: float
    high: float
    gain: float
    tied: bool
    saved_compute: float
    C: float | None


@dataclass(frozen=True)
class Recommendation:
    """Which tap to use, how good it is, and what else is as good.

    Printed, or as the last value of a notebook's cell, it shows its answer; `save` writes the probe.

    Attributes:
        model: its name
        data: the folder or the name of the dataset
        note: how the data was split, where it was, and how the network was found in its weights file; else empty
        tap: the best on held-out training images
        validation: its accuracy on those, in [0, 1]; being the best, a little too good
        test: its accuracy on the test images, with its 95% interval
        gain: that minus the test accuracy of ``final``
        gain_p: p-value that `final` is as good, by McNemar's exact two-sided test; one where ``final`` is the tap
        tied: the other taps that the test images cannot tell from it, in the order data meets them: McNemar's exact
            two-sided tests, Holm's procedure over all others that were probed
        level: family-wise error level of these
        saved_compute: share of the network's floating-point operations in the blocks behind the tap, in [0, 1]
        budget: how many taps were probed after a screening; None if all were
        taps: how many the model has
        classes: their names
        n_train, n_validation, n_test: images; the held-out ones are among those of training
        table: all taps that were probed, in the order data meets them
        export: the trained probe of the tap, and what is written with it
    """

    model: str
    data: str
    note: str
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

    @property
    def cheaper(self) -> list[TapRow]:
        """Tied taps that save more computation, the cheapest first; none that a cheaper one equals on validation."""
        tied = [row for row in self.table if row.tied and row.saved_compute > self.saved_compute]
        found: list[TapRow] = []
        for row in sorted(tied, key=lambda row: (-row.saved_compute, -row.validation)):
            if not found or row.validation > found[-1].validation:
                found.append(row)
        return found

    @property
    def smallest(self) -> int:
        """On so many test images, all in one direction, a tap must differ from the recommended one to be told apart."""
        others = max(1, len(self.table) - 1)
        return int(np.floor(np.log2(2 * others / self.level))) + 1

    def save(self, folder: str | Path) -> tuple[Path, Path]:
        """Write the trained probe and a script that classifies images with it.

        Returns:
            the paths of ``probe.safetensors`` and ``classify.py`` in the folder, which is made if it does not exist

        Raises:
            StoreError: if they cannot be written, or would replace a ``classify.py`` of another origin
        """
        return self.export.write(Path(folder))

    def to_dataframe(self) -> pd.DataFrame:
        """`table` as a pandas DataFrame, with the attributes of `TapRow` as columns and `tap` as the index.

        Raises:
            ProbebenchError: without pandas
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ProbebenchError("a DataFrame needs pandas: pip install 'probebench[notebook]'") from error
        return pd.DataFrame([asdict(row) for row in self.table]).set_index("tap")

    def __str__(self) -> str:
        from probebench.recommendation.display import lines

        return "\n".join(lines(self))

    def __rich__(self) -> RenderableType:
        from probebench.recommendation.display import rich

        return rich(self)

    def _repr_html_(self) -> str:
        from probebench.recommendation.display import html

        return html(self)


def as_cases(result: SweepResult) -> list[ScoredCase]:
    """The cases of a sweep as far as `probebench.records.tap_selection.select_tap` reads them."""
    return [
        {
            "id": tap.id,
            "layer": tap.layer,
            "site": tap.site,
            "accuracy": found.accuracy,
            "held_out_accuracy": found.held_out_accuracy,
        }
        for tap, found in result.taps.items()
    ]


def correct_of(result: SweepResult) -> dict[str, npt.NDArray[np.bool_]]:
    """By id of a tap, which test examples were right."""
    return {tap.id: found.correct for tap, found in result.taps.items()}
