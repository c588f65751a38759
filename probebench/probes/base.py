"""Probes: classifiers fitted on frozen features, one per tap.

A probe is a function from the features of many taps to one `Fit` per tap. It sees all taps at once so that an
implementation may share work between them; results come as they are ready, so that what is finished survives an
interruption.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING
from typing import Protocol as TypingProtocol

import numpy as np
import numpy.typing as npt

from probebench.catalog.protocols import Protocol
from probebench.catalog.taps import Tap
from probebench.errors import unknown

if TYPE_CHECKING:
    from probebench._arrays import Array

ON_DEVICE = frozenset({"knn", "logistic_path", "ridge_path"})
"""Probes that run on the torch device; others run on the CPU."""


@dataclass(frozen=True)
class Fit:
    """What fitting a probe at one tap gave.

    Attributes:
        predictions: int64, shape (n_test,), predicted class indices
        classes: int64, shape (C,), class indices that the probe was fitted on, in the order of the scores' columns
        scores: float32, shape (n_test, C), the larger the likelier
        probabilities: whether their softmax is what the probe takes for the probabilities of the classes
        seconds: processor time of the fit and the prediction
        iterations: of the solver, over all that it solved for this tap
        C: inverse regularisation strength that was used; None if the probe has none
        gap: largest relative distance to the optimum of what was solved, as the solver estimates it; None if it does
            not
        held_out_accuracy: on the held-out part of train at `C`, or leave-one-out where `C` was chosen by it;
            in [0, 1]; None if there is neither
    """

    predictions: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    probabilities: bool
    seconds: float
    iterations: int
    C: float | None
    gap: float | None = None
    held_out_accuracy: float | None = None


class Probe(TypingProtocol):
    """The seam between sweeps and solvers."""

    def __call__(
        self,
        train: Mapping[Tap, Array],
        train_labels: npt.NDArray[np.int64],
        test: Mapping[Tap, Array],
        held_out: npt.NDArray[np.bool_] | None,
        protocol: Protocol,
        device: str,
        jobs: int,
    ) -> Iterator[tuple[Tap, Fit]]:
        """Fit a probe at every tap and predict the test examples.

        Args:
            train, test: per tap float32 features of shape (n_train, width) and (n_test, width), already normalised
                row by row as the protocol says, not standardised; arrays, or tensors on the device
            train_labels: shape (n_train,)
            held_out: shape (n_train,), the part of train to choose hyperparameters on; None if there are none
            device: torch device for probes that run on one
            jobs: how many processor cores to use

        Yields:
            each tap of `train`, once, in any order, with its fit
        """
        ...


_PROBES = {
    "knn": "probebench.probes.knn",
    "logistic_path": "probebench.probes.logistic_path",
    "ridge_path": "probebench.probes.ridge",
    "sklearn_logistic": "probebench.probes.sklearn_logistic",
}


def get_probe(name: str) -> Probe:
    """The probe of that name.

    Raises:
        UnknownName: with the nearest names
    """
    if name not in _PROBES:
        raise unknown("probe", name, _PROBES)
    probe: Probe = import_module(_PROBES[name]).fit
    return probe
