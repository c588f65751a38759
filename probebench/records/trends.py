"""Trends with shift: how the chosen site and depth change as datasets get farther from the pretraining data.

This is the question of arXiv 2603.05280, answered from a run record: for each model the datasets whose distance was
measured, and the rank correlation of distance with the choices made there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import TYPE_CHECKING

from probebench.catalog.taps import EMBED, Tap
from probebench.catalog.tasks import CLASSIFICATION, Task
from probebench.records.cases import SweepKey, group_by_sweep, key_of, tap_of, task_of
from probebench.records.ranking import Row, best_taps, choose
from probebench.records.types import Record

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

TREND_SITES = ("act", "ln2", "rc2")  # those that the paper's answer is about
FEWEST = 3  # datasets
EXACT = 9  # up to so many datasets p-values are counted out over all orders: 362,880
SMALL = 10  # fewer datasets than these are few


@dataclass(frozen=True)
class DatasetPoint:
    """One dataset of a model.

    Attributes:
        name: of the dataset
        distance, standard_error: from the pretraining data, as measured
        tap: the chosen tap
        depth: of that tap, as a fraction: 0 for ``embed``, 1 for ``final`` and ``output``; of the deepest member of a
            combination
        accuracy: by site, of its best layer with the pooling of the protocol, chosen as a tap is; None if the site was
            not measured
        gain: of the chosen tap over ``output``; None if that was not measured
    """

    name: str
    distance: float
    standard_error: float
    tap: Tap
    depth: float
    accuracy: dict[str, float | None]
    gain: float | None

    @property
    def act_over_ln2(self) -> float | None:
        act, ln2 = self.accuracy["act"], self.accuracy["ln2"]
        return None if act is None or ln2 is None else act - ln2


@dataclass(frozen=True)
class Trend:
    """Spearman's rank correlation of distance with something else.

    Attributes:
        of: the name of the other quantity
        n: datasets that have it
        rho: the correlation; None if it is undefined: too few datasets, or all equal
        p: two-sided p-value, exact for up to `EXACT` datasets
    """

    of: str
    n: int
    rho: float | None
    p: float | None


@dataclass(frozen=True)
class ShiftTrend:
    """One model, against one reference.

    Attributes:
        model: its name
        measure, reference: of the distances
        datasets: by growing distance
        task: that all datasets have
        trends: of the depth of the chosen tap, of the accuracy of the best ``act`` minus that of the best ``ln2``,
            and of the gain of the chosen tap over ``output``
    """

    model: str
    measure: str
    reference: str
    datasets: list[DatasetPoint]
    trends: list[Trend]
    task: Task = CLASSIFICATION


def shift_trends(record: Record, ranking: dict[str, list[Row]]) -> list[ShiftTrend]:
    """The trends of each model, controls left out, that has at least `FEWEST` datasets with comparable distances."""
    cases = group_by_sweep(record["cases"])
    rows = {row.key: row for row in best_taps(ranking)}
    measured: dict[tuple[str, str, str, Task], list[DatasetPoint]] = {}
    for sweep in record["sweeps"]:
        key, distance = key_of(sweep), sweep.get("shift_distance")
        if sweep["control_of"] or key not in cases or distance is None or "unavailable" in distance:
            continue
        row, own = rows[key], cases[key]
        plain = [case for case in own if not tap_of(case).pooling]
        by_site = {site: [case for case in plain if case["site"] == site] for site in TREND_SITES}
        found = DatasetPoint(
            name=sweep["dataset"],
            distance=distance["value"],
            standard_error=distance["standard_error"],
            tap=row.tap,
            depth=_depth(row, sweep["depth"]),
            accuracy={site: choose(some)["accuracy"] if some else None for site, some in by_site.items()},
            gain=row.gain_output,
        )
        of = sweep["model"], distance["measure"], distance["reference"], task_of(sweep)
        measured.setdefault(of, []).append(found)
    for datasets in measured.values():
        datasets.sort(key=lambda dataset: dataset.distance)
    return [
        ShiftTrend(model, measure, reference, datasets, _trends(datasets), task)
        for (model, measure, reference, task), datasets in measured.items()
        if len(datasets) >= FEWEST
    ]


def _depth(row: Row, layers: int) -> float:
    members = row.case["combination"]["members"] if "combination" in row.case else []
    return max(_depth_of(tap, layers) for tap in [*map(Tap.parse, members)] or [row.tap])


def _depth_of(tap: Tap, layers: int) -> float:
    if isinstance(tap.layer, int):
        return tap.layer / layers
    return 0.0 if tap.layer == EMBED else 1.0


def unavailable_distances(record: Record) -> dict[str, list[SweepKey]]:
    """The sweeps without a measured distance, by reason; controls left out."""
    found: dict[str, list[SweepKey]] = {}
    for sweep in record["sweeps"]:
        distance = sweep.get("shift_distance")
        if distance is not None and "unavailable" in distance and not sweep["control_of"]:
            found.setdefault(distance["unavailable"], []).append(key_of(sweep))
    return found


def _trends(datasets: Sequence[DatasetPoint]) -> list[Trend]:
    of: dict[str, list[float | None]] = {
        "depth of the chosen tap": [d.depth for d in datasets],
        "best act minus best ln2": [d.act_over_ln2 for d in datasets],
        "gain of the chosen tap over output": [d.gain for d in datasets],
    }
    trends = []
    for name, values in of.items():
        # Differences of accuracies that are equal up to rounding are ties.
        pairs = [(d.distance, round(value, 9)) for d, value in zip(datasets, values, strict=True) if value is not None]
        rho, p = spearman([x for x, _ in pairs], [y for _, y in pairs])
        trends.append(Trend(name, len(pairs), rho, p))
    return trends


def spearman(x: Sequence[float], y: Sequence[float]) -> tuple[float | None, float | None]:
    """Spearman's rank correlation and its two-sided p-value (C. Spearman, Am. J. Psychol. 15, 1904).

    For up to `EXACT` pairs the p-value is the share of all orders of `y` whose correlation is at least as far from 0,
    which is exact with ties, too; for more pairs it is scipy's, by Student's t.

    Returns:
        rho and p; None for both if there are fewer than `FEWEST` pairs, or if all of `x` or all of `y` are equal
    """
    import numpy as np
    from scipy.stats import rankdata, spearmanr

    if len(x) < FEWEST or len(set(x)) == 1 or len(set(y)) == 1:
        return None, None
    rho, p = spearmanr(x, y)
    if len(x) <= EXACT:
        ranks = [rankdata(values) - (len(x) + 1) / 2 for values in (x, y)]
        products = ranks[1][_orders(len(x))] @ ranks[0]
        p = np.mean(np.abs(products) >= abs(ranks[0] @ ranks[1]) - 1e-9)
    return float(rho), float(p)


@cache
def _orders(n: int) -> npt.NDArray[np.int8]:
    """All orders of `n` things: int8, shape (n!, n)."""
    import numpy as np

    return np.array(list(permutations(range(n))), dtype=np.int8)
