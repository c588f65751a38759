"""The columns of leaderboards: what each reads from a row, and its title.

Every face picks the columns that it shows, and formats their cells for its readers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from probebench._format import interval, percent, signed
from probebench.catalog.tasks import CLASSIFICATION, Task
from probebench.records.cases import change_of, metric_interval, metric_value
from probebench.records.ranking import Row
from probebench.records.types import MetricName
from probebench.records.view import RecordView, SweepView
from probebench.reporting.sentences import earliest

Kind = Literal["word", "verdict", "tap", "count", "percent", "points", "interval", "number", "p_value"]

FORMATS: dict[Kind, Callable[[Any], str]] = {
    "word": str,
    "verdict": str,
    "tap": str,
    "count": str,
    "percent": percent,
    "points": signed,
    "interval": interval,
    "number": str,
    "p_value": lambda p: f"{p:.3f}" if p >= 0.001 else f"{p:.0e}",
}
"""The text of values that are not None."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: its name in code
        name: its title in files
        title: its title on screens, without the unit
        about: an explanation
        kind: how its values are written and sorted
        value: of a row and its sweep: accuracies and gains are fractions, unrounded; None if the record has no value
        of_score: whether it has scores of the dataset's task, or differences of them, so that the task says how they
            are written
    """

    key: str
    name: str
    title: str
    about: str
    kind: Kind
    value: Callable[[Row, SweepView], Any]
    of_score: bool = False

    @property
    def numeric(self) -> bool:
        return self.kind not in ("word", "verdict", "tap")

    def text(self, row: Row, sweep: SweepView, formats: Mapping[Kind, Callable[[Any], str]] = FORMATS) -> str:
        """The cell of a row; empty if the record has no value."""
        value = self.value(row, sweep)
        if value is None:
            return ""
        if self.of_score and not sweep.task.percent:
            return _written(self.kind, value, sweep.task)
        return formats[self.kind](value)


def _written(kind: Kind, value: Any, task: Task) -> str:
    """The text of a score that is not written in percent."""
    if kind == "interval":
        return task.interval(value)
    return task.change(value) if kind == "points" else task.number(value)


def _selection(row: Row, sweep: SweepView) -> str:
    if row.tap.id == sweep.selection["tap"]:
        return "chosen"
    return "tied" if row.tap.id in (sweep.selection["tied"] or ()) else ""


def _tied(row: Row, sweep: SweepView) -> int | None:
    tied = sweep.selection["tied"]
    return None if tied is None else len(tied)


def _matched(row: Row, sweep: SweepView) -> float | None:
    found = row.case.get("width_matched")
    return None if found is None else found["accuracy"]


def _linear_gain(row: Row) -> float | None:
    found = row.case.get("linear")
    return None if found is None else row.case["accuracy"] - found["accuracy"]


def _metric(key: str, metric: MetricName, name: str, title: str, about: str, kind: Kind) -> list[Column]:
    return [
        Column(key, name, title, about, kind, lambda row, _: metric_value(row.case, metric)),
        Column(
            f"{key}_interval",
            f"{name} ci95",
            f"{title} 95% CI",
            f"95% interval of {title}",
            "interval",
            lambda row, _: metric_interval(row.case, metric),
        ),
    ]


_ALL = (
    Column("rank", "rank", "#", "rank within the dataset", "count", lambda row, _: row.rank),
    Column("dataset", "dataset", "dataset", "test images", "word", lambda row, _: row.case["dataset"]),
    Column("model", "model", "model", "frozen network", "word", lambda row, _: row.case["model"]),
    Column("tap", "tap", "tap", "layer and site", "tap", lambda row, _: row.tap.id),
    Column(
        "layer",
        "layer",
        "layer",
        "block number, a reference or a combination",
        "count",
        lambda row, _: row.case["layer"],
    ),
    Column("site", "site", "site", "module of the layer", "word", lambda row, _: row.case["site"]),
    Column(
        "pooling",
        "pooling",
        "pooling",
        "of a tap that has another than the protocol's",
        "word",
        lambda row, _: row.tap.pooling or None,
    ),
    Column("metric", "metric", "metric", "the score of the dataset", "word", lambda _, sweep: sweep.task.score),
    Column("accuracy", "accuracy", "acc", "on the test images", "percent", lambda row, _: row.case["accuracy"], True),
    Column("interval", "ci95", "95% CI", "of the accuracy", "interval", lambda row, _: row.case["ci95"], True),
    Column(
        "output",
        "vs output",
        "vs output",
        "gain in points over what the model returns",
        "points",
        lambda row, _: row.gain_output,
        of_score=True,
    ),
    Column(
        "rc2",
        "vs last rc2",
        "vs rc2",
        "the same over the last layer's block output",
        "points",
        lambda row, _: row.gain_rc2,
        of_score=True,
    ),
    Column(
        "equal_width",
        "equal width",
        "equal width",
        "gain over output at the width of the residual stream",
        "points",
        lambda row, _: row.gain_equal_width,
        of_score=True,
    ),
    Column(
        "random",
        "random",
        "random",
        "gain of the same tap of the random control",
        "points",
        lambda row, _: row.gain_random,
        of_score=True,
    ),
    Column(
        "linear",
        "vs linear",
        "vs linear",
        "gain in points over the linear probe on the mean of the same tokens",
        "points",
        lambda row, _: _linear_gain(row),
        of_score=True,
    ),
    Column(
        "linear_p",
        "vs linear p",
        "p vs linear",
        "that the linear probe is as good, by a paired test",
        "p_value",
        lambda row, _: None if (found := row.case.get("linear")) is None else found["p_value"],
    ),
    Column("selection", "selection", "selection", "chosen, or tied with the chosen tap", "word", _selection),
    Column("tied", "tied", "tied", "taps that are tied with it", "count", _tied),
    Column(
        "earliest",
        "earliest tied",
        "earliest",
        "the first tied tap, if it comes before the chosen one",
        "tap",
        lambda _, sweep: earliest(sweep.selection),
    ),
    Column("verdict", "verdict", "verdict", "against the baseline", "verdict", lambda row, _: row.case["verdict"]),
    Column(
        "baseline", "baseline", "baseline", "accuracy", "percent", lambda row, _: row.case["baseline_accuracy"], True
    ),
    Column(
        "change", "change", "change", "points since the baseline", "points", lambda row, _: change_of(row.case), True
    ),
    Column(
        "held_out",
        "held out",
        "held out",
        "on held-out images",
        "percent",
        lambda row, _: row.case.get("held_out_accuracy"),
        of_score=True,
    ),
    *_metric("per_class", "mean_per_class", "mean per class", "per class", "accuracy averaged over classes", "percent"),
    *_metric("top5", "top5", "top5", "top 5", "the right class among the first five", "percent"),
    *_metric("nll", "nll", "nll", "NLL", "negative log-likelihood of the right class, in nats", "number"),
    *_metric("ece", "ece", "ece", "ECE", "expected calibration error", "percent"),
    *_metric("rmse", "rmse", "rmse", "RMSE", "root of the mean squared error, in the unit of the target", "number"),
    *_metric("mae", "mae", "mae", "MAE", "mean absolute error, in the unit of the target", "number"),
    Column(
        "matched",
        "equal width accuracy",
        "equal width",
        "of as many features as the residual stream has",
        "percent",
        _matched,
        of_score=True,
    ),
    Column("width", "width", "width", "number of features", "count", lambda row, _: row.case["width"]),
    Column("draws", "draws", "draws", "of the training set", "count", lambda row, _: row.case.get("draws", 1)),
    Column("seconds", "seconds", "seconds", "attributed time", "number", lambda row, _: row.case["seconds"]),
)

COLUMNS = {column.key: column for column in _ALL}


def has_metric_column(view: RecordView) -> bool:
    """Return whether a record needs the column ``metric``: if the score of any dataset is not an accuracy."""
    return any(task is not CLASSIFICATION for task in view.tasks.values())
