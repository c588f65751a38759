"""The types of a run record: one TypedDict for each object of ``probebench/records/schema/run-1.json``.

A test holds them to the schema: the same keys, the same ones required, and the same types. What the values mean is
described there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict, TypeVar, final

from probebench.stats import Scores

Verdict = Literal["same", "improved", "regressed", "new", "not comparable"]

MetricName = Literal["top5", "mean_per_class", "nll", "ece", "rmse", "mae"]


class EstimateRecord(TypedDict):
    """A metric on the test images with its 95% interval."""

    value: float
    ci95: list[float]


class MetricsRecord(TypedDict, total=False):
    """The metrics of a case besides its accuracy; None for one that it does not have."""

    top5: EstimateRecord | None
    mean_per_class: EstimateRecord | None
    nll: EstimateRecord | None
    ece: EstimateRecord | None
    rmse: EstimateRecord | None
    mae: EstimateRecord | None


class WidthMatchedRecord(TypedDict):
    """The probe of a case at the width of the residual stream."""

    width: int
    accuracy: float
    ci95: list[float]


class TapScore(TypedDict):
    """The part of a case by which the best tap of a sweep is chosen."""

    layer: int | str
    site: str
    pooling: NotRequired[str]
    accuracy: float
    held_out_accuracy: float | None


class ScoredCase(TapScore):
    """The part of a case by which it is also compared with the chosen one."""

    id: str


class CombinationRecord(TypedDict):
    """The comparison of a concatenation of taps with the best of them."""

    members: list[str]
    best_member: str | None
    gain: float | None
    p_value: float | None
    tried: int


class LinearRecord(TypedDict):
    """The linear probe on the mean of the tokens of a case that was fitted on tokens."""

    accuracy: float
    ci95: list[float]
    p_value: float


class CaseRecord(ScoredCase):
    """One case: one tap of a sweep."""

    model: str
    dataset: str
    protocol: str
    fingerprint: str
    width: int
    n_train: int
    n_test: int
    draws: NotRequired[int]
    ci95: list[float]
    mean_per_class: NotRequired[float]
    metrics: NotRequired[MetricsRecord]
    width_matched: NotRequired[WidthMatchedRecord | None]
    verdict: Verdict
    baseline_accuracy: float | None
    lost: int
    gained: int
    p_value: float | None
    seconds: float
    iterations: int
    C: float | None
    gap: float | None
    combination: NotRequired[CombinationRecord]
    linear: NotRequired[LinearRecord]


class SelectionRecord(TypedDict):
    """The tap that a sweep chose, and the taps that are tied with it."""

    tap: str
    by: Literal["held_out", "test"]
    score: float
    accuracy: float
    best: str
    optimism: float
    tied: list[str] | None
    worse: int | None
    better: int | None
    level: float


Part = Literal["early", "middle", "late", "final"]


class PoolingRecord(TypedDict):
    """The tap that was chosen in one part of the network among those with one pooling."""

    part: Part
    pooling: str
    tap: str
    accuracy: float
    gain: float | None
    ci95: list[float] | None
    p_value: float | None
    differs: bool | None


ContrastName = Literal["chosen over output", "rc2 over last rc2", "act over rc2", "ln2 over rc2", "act over ln2"]


class ContrastRecord(TypedDict):
    """Two places in the network, compared on the same test images."""

    contrast: ContrastName
    tap: str
    over: str
    gain: float
    ci95: list[float]
    p_value: float
    differs: bool
    gain_equal_width: float | None
    changes: NotRequired[str]


class PlanRecord(TypedDict):
    """The memory plan of a sweep: the place of features, and the memory and disk it was planned to take."""

    mode: Literal["device", "memory", "disk", "passes"]
    passes: int
    memory_bytes: int
    disk_bytes: int
    device_bytes: NotRequired[int]


@final
class DistanceRecord(TypedDict):
    """The measured distance of the test images from the pretraining data."""

    measure: str
    reference: str
    value: float
    standard_error: float


@final
class NoDistanceRecord(TypedDict):
    """The reason why a distance was not measured."""

    unavailable: str


@final
class DuplicatesRecord(TypedDict):
    """The images of a dataset that were found several times, by kind, with the names of two equal ones."""

    test_in_train: int
    within_train: int
    within_test: int
    two_labels: int
    dropped: int
    examples: dict[str, list[str]]


@final
class NearDuplicatesRecord(TypedDict):
    """The test images that are nearly training images, and what nearly means."""

    cosine: float
    tap: str
    test_near_train: int


class SweepRecord(TypedDict):
    """One sweep: one model on one dataset."""

    model: str
    dataset: str
    trained_on: NotRequired[str]
    protocol: str
    depth: int
    control_of: str | None
    tuned_from: NotRequired[str]
    shift: str
    plan: NotRequired[PlanRecord]
    shift_distance: NotRequired[DistanceRecord | NoDistanceRecord]
    metric: NotRequired[str]
    weights: str
    test_set: str
    images: int
    extract_seconds: float
    wall_seconds: float
    device: str
    precision: str
    batch_size: NotRequired[int]
    seed: int
    selection: NotRequired[SelectionRecord | None]
    poolings: NotRequired[list[PoolingRecord]]
    contrasts: NotRequired[list[ContrastRecord]]
    duplicates: NotRequired[DuplicatesRecord]
    near_duplicates: NotRequired[NearDuplicatesRecord]
    data_notes: NotRequired[list[str]]
    same_as: NotRequired[dict[str, str]]


class HardwareRecord(TypedDict):
    """The machine or machines that measured."""

    platform: str
    cpu: str
    cores: int
    threads: int
    workers: NotRequired[int]
    engine: NotRequired[Literal["ray"]]
    nodes: NotRequired[int]
    devices: list[str]
    gpus: list[str]


class FailureRecord(TypedDict):
    """A sweep that could not be measured."""

    sweep: str
    error: str


class WithheldRecord(TypedDict):
    """A model whose cases were skipped because its weights or images are not on this machine."""

    model: str
    cases: int
    lacks: str
    command: str


class CorrectRecord(TypedDict):
    """The file beside the record that says which test examples were right."""

    file: str
    sha256: str


class SourceRecord(TypedDict):
    """One of the runs that a record was merged from."""

    name: str
    started: str
    command: list[str]
    versions: dict[str, str]
    hardware: HardwareRecord


class Record(TypedDict):
    """A run record."""

    schema: int
    started: str
    duration_seconds: float
    interrupted: bool
    command: list[str]
    versions: dict[str, str]
    hardware: HardwareRecord
    precision: list[str]
    seeds: list[int]
    images: int
    images_per_second: float | None
    alpha: float
    min_drop: float
    sweeps: list[SweepRecord]
    cases: list[CaseRecord]
    failures: list[FailureRecord]
    withheld: NotRequired[list[WithheldRecord]]
    stale: list[str]
    shard: NotRequired[list[int]]
    extra: dict[str, Any]
    correct: NotRequired[CorrectRecord]
    merged: NotRequired[list[SourceRecord]]


Score = TypeVar("Score", bound=TapScore)

Correct = Mapping[str, Scores]
"""By id of a case: bool of shape (n_test,), which test examples were right; (draws, n_test) for several draws. If the
labels are no classes, float32: the score of each test example, whose mean is the case's (`probebench.scores`)."""
