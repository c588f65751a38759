"""The distance of a dataset from the pretraining data of a model, measured on the model's features.

The kernel distance (KID: M. Bińkowski et al., ICLR 2018, arXiv 1801.01401): the squared maximum mean discrepancy
between the features of two sets of images (A. Gretton et al., JMLR 13, 2012), without bias at any number of images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from probebench import datasets
from probebench._arrays import Array, on_host
from probebench._progress import NullProgress
from probebench.catalog import DatasetSpec, ModelSpec
from probebench.catalog.taps import FINAL, Tap
from probebench.datasets.views import Views
from probebench.errors import ProbebenchError
from probebench.features.cache import FeatureCache
from probebench.features.extraction import read_features
from probebench.features.settings import ExtractionSettings
from probebench.fetch import local
from probebench.records.types import DistanceRecord, NoDistanceRecord

if TYPE_CHECKING:
    from probebench.catalog.protocols import Protocol
    from probebench.measure.prepare import PreparedSweep
    from probebench.models.build import Model

MEASURE = "kid"
MOST = 1000
"""Number of images of each side that are compared; of more, a random choice."""

GROUPS = 10
"""Number of groups of images that are left out in turn for the standard error."""

WHERE = Tap(FINAL, FINAL)
"""The tap whose features are compared."""

Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ShiftDistance:
    """The distance of the test images from the pretraining data of a model, measured on its features.

    Attributes:
        reference: name of the dataset that stands for the pretraining data
        value: squared maximum mean discrepancy; about zero, and possibly negative, for images like the reference's
        standard_error: of the value
    """

    reference: str
    value: float
    standard_error: float

    def to_json(self) -> DistanceRecord:
        return {
            "measure": MEASURE,
            "reference": self.reference,
            "value": self.value,
            "standard_error": self.standard_error,
        }


@dataclass(frozen=True)
class Unavailable:
    """The reason why there is no distance, and what to do about it."""

    why: str

    def to_json(self) -> NoDistanceRecord:
        return {"unavailable": self.why}


def draw(n: int, *, reference: bool = False) -> npt.NDArray[np.int64]:
    """Draw the indices of at most `MOST` of n images by a fixed seed.

    The two sides are taken from the two ends of one order, so that a dataset which is its own reference is compared
    with others of its images: the same image on both sides would count as a likeness. Of fewer than twice `MOST`
    images, some are on both sides.
    """
    order = np.random.default_rng(0).permutation(n)
    return order[:MOST] if reference else order[-MOST:]


def kernel_distance(features: Features, reference: Features) -> tuple[float, float]:
    """Compute the squared maximum mean discrepancy under the kernel (x y / width + 1)^3, and its standard error.

    Features are standardised by the reference's mean and deviation, so that models of any scale can be compared. The
    standard error is the jackknife's over `GROUPS` groups of images; it takes that mean and deviation, which datasets
    of a model share, as given.

    Args:
        features, reference: shapes (n, width) and (m, width), at least `2 * GROUPS` rows each

    Raises:
        ValueError: if there are fewer rows
    """
    if min(len(features), len(reference)) < 2 * GROUPS:
        raise ValueError(f"needs {2 * GROUPS} images on either side, got {len(features)} and {len(reference)}")
    mean, scale = reference.mean(axis=0, dtype=np.float64), reference.std(axis=0, dtype=np.float64)
    scale[scale <= 1e-6 * np.abs(mean)] = 1.0  # constant but for rounding
    x, y = ((values - mean) / scale for values in (features, reference))
    # Every tenth image, because neighbours may be of one class.
    parts = [[np.arange(len(values))[group::GROUPS] for group in range(GROUPS)] for values in (x, y)]
    within = [_group_sums(values, values, part, part, same=True) for values, part in zip((x, y), parts, strict=True)]
    between = _group_sums(x, y, *parts, same=False)

    def distance(kept: npt.NDArray[np.bool_]) -> float:
        sizes = [sum(len(part[g]) for g in np.flatnonzero(kept)) for part in parts]
        own = [sums[np.ix_(kept, kept)].sum() / (n * (n - 1)) for sums, n in zip(within, sizes, strict=True)]
        return float(own[0] + own[1] - 2 * between[np.ix_(kept, kept)].sum() / (sizes[0] * sizes[1]))

    everything = np.ones(GROUPS, dtype=bool)
    left_out = np.array([distance(np.arange(GROUPS) != g) for g in range(GROUPS)])
    error = np.sqrt((GROUPS - 1) / GROUPS * np.square(left_out - left_out.mean()).sum())
    return distance(everything), float(error)


def _group_sums(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    x_groups: list[npt.NDArray[np.int64]],
    y_groups: list[npt.NDArray[np.int64]],
    *,
    same: bool,
) -> npt.NDArray[np.float64]:
    """Sums of the kernel over pairs of images by their groups; without the pairs of an image with itself, if `same`."""
    kernel = (x @ y.T / x.shape[1] + 1) ** 3
    if same:
        np.fill_diagonal(kernel, 0.0)
    return np.array([[kernel[np.ix_(rows, columns)].sum() for columns in y_groups] for rows in x_groups])


class References:
    """Reads the features of reference sets, and remembers the latest for the next dataset of the same model.

    Args:
        cache: where features are stored and looked up on disk
    """

    def __init__(self, cache: FeatureCache | None = None) -> None:
        self._cache = cache
        self._key: tuple[str, ...] = ()
        self._features: Features | None = None

    def read(self, built: Model, spec: DatasetSpec, protocol: Protocol, settings: ExtractionSettings) -> Features:
        """Read the features of at most `MOST` test images of a dataset, float32 of shape (n, width).

        Raises:
            ProbebenchError: if the dataset cannot be read
        """
        key = (built.weights_digest, built.spec.architecture, protocol.fingerprint, spec.name, settings.device)
        if self._features is None or key != self._key:
            split = datasets.load(spec).test
            resizing = protocol.resizing(built.spec)
            size, kind, seed = built.spec.input_size, protocol.test_view, protocol.seed
            views = Views(split, draw(len(split), reference=True), kind, size, seed, resizing)
            found = read_features(
                built,
                views,
                [WHERE],
                replace(settings, stay=False, keep=False, progress=NullProgress()),
                cache=self._cache,
                names={"model": built.spec.name, "dataset": spec.name, "part": "reference"},
            )
            self._key, self._features = key, on_host(found[WHERE])
        return self._features


def explain_no_reference(model: ModelSpec, reference: DatasetSpec | None) -> str:
    """Explain why a model has no reference set on this machine; an empty string if it has one."""
    if model.weights == "random" and model.checkpoint is None:
        return "a network with random weights has no pretraining data"
    if reference is None:
        data = f" ({model.pretraining})" if model.pretraining else ""
        return f"no dataset stands for what {model.name} was pretrained on{data}; ModelSpec.reference names one"
    if not local.on_disk(reference):
        return f"{reference.name}, which stands for what {model.name} was pretrained on, is not on this machine"
    return ""


def measure_shift(
    test: Mapping[Tap, Array], prepared: PreparedSweep, references: References, settings: ExtractionSettings
) -> ShiftDistance | Unavailable:
    """Measure how far test images are from a model's pretraining data. An error costs the number, not the sweep.

    Args:
        test: features of the test images, of which those at `WHERE` are used, before any scaling of rows
        settings: of the extraction of `test`
    """
    built, reference = prepared.model, prepared.reference
    if why := explain_no_reference(built.spec, reference):
        return Unavailable(why)
    assert reference is not None
    try:
        features = on_host(test[WHERE])
        if len(features) < 2 * GROUPS:  # so that no reference is read in vain
            have = f"{prepared.dataset.name} has {len(features)} test images"
            return Unavailable(f"{have}; a distance needs {2 * GROUPS}")
        known = references.read(built, reference, prepared.protocol, settings)
        drawn = draw(len(features))
        if prepared.dataset == reference and len(features) < 2 * MOST:  # too few for two sides: a half for each
            half = len(features) // 2
            drawn, known = drawn[-half:], known[:half]
        value, error = kernel_distance(features[drawn], known)
    except (ProbebenchError, OSError, ValueError) as problem:
        return Unavailable(f"reference {reference.name}: {problem}")
    return ShiftDistance(reference.name, value, error)
