"""Probes: classifiers fitted on frozen features, one per tap.

A probe is a function from the features of many taps to one `Fit` per tap. It sees all taps at once so that an
implementation may share work between them. It yields each result as soon as it is ready, so that finished taps survive
an interruption.

Each probe is one module with a `ProbeInfo` named ``PROBE``, which holds everything that planning and measuring need to
know of it. `register_probe` adds a module that is not in this package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from typing import Protocol as TypingProtocol

import numpy as np
import numpy.typing as npt

from probebench.catalog.protocols import Protocol
from probebench.catalog.taps import Tap
from probebench.catalog.tasks import CLASSIFICATION
from probebench.errors import ProbebenchError, unknown

if TYPE_CHECKING:
    from probebench._arrays import Array

STRENGTHS = "values of C to choose from"
"""The purpose of `Protocol.path`, for `ProbeInfo.needs`."""


@dataclass(frozen=True)
class Fit:
    """The result of fitting a probe at one tap and predicting the test examples.

    Attributes:
        predictions: int64, shape (n_test,), predicted class indices; of several labels an image 0 or 1, shape
            (n_test, labels); of real-valued targets the scores
        classes: int64, shape (C,), class indices that the probe was fitted on, in the order of the scores' columns; of
            labels and targets their numbers
        scores: float32, shape (n_test, C), the larger the likelier; of targets the predicted values, float64
        probabilities: whether the softmax of the scores estimates the probabilities of the classes; of labels, the
            logistic function of each score
        seconds: processor time of the fit and the prediction
        iterations: of the solver, summed over all problems that it solved for this tap
        C: inverse regularisation strength that was used; None if the probe has none
        gap: largest relative distance to the optimum over all problems solved, as the solver estimates it; None if the
            solver gives no estimate
        held_out_accuracy: on the held-out part of train at `C`, or leave-one-out if `C` was chosen by it;
            in [0, 1]; None if there is neither. Of labels the mean average precision, of targets R2
    """

    predictions: npt.NDArray[Any]
    classes: npt.NDArray[np.int64]
    scores: npt.NDArray[Any]
    probabilities: bool
    seconds: float
    iterations: int
    C: float | None
    gap: float | None = None
    held_out_accuracy: float | None = None


class Probe(TypingProtocol):
    """The function that fits a probe: the seam between sweeps and solvers."""

    def __call__(
        self,
        train: Mapping[Tap, Array],
        train_labels: npt.NDArray[Any],
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
            train_labels: int64, shape (n_train,); int8, shape (n_train, labels), 1, 0 or, if unknown, -1, for any
                number of labels an image; or float64, shape (n_train, targets), see `ProbeInfo.tasks`
            held_out: shape (n_train,), the part of train to choose hyperparameters on; None if none is held out
            device: torch device for probes that run on one
            jobs: how many processor cores to use

        Yields:
            each tap of `train`, once, in any order, with its fit
        """
        ...


@dataclass(frozen=True)
class MatchedFit:
    """A fit at one tap, and its width control.

    Attributes:
        fit: on all features
        narrow: on the leading principal components, as many as the residual stream is wide; None if the tap is no wider
            or has no variance outside them
    """

    fit: Fit
    narrow: Fit | None


@dataclass(frozen=True)
class FitSize:
    """The size of the fit at one tap.

    Attributes:
        n_train, n_test: rows that are fitted on, and rows that are predicted
        width: features
        classes: of the labels
        strengths: values of C in the protocol's path; 0 if it has none
        taps: of that width in the sweep
        tokens: of an image, where the probe reads tokens; 0 for others
        queries, batch: of the protocol; 0 if it has none
        epochs: over the training images, with every learning rate and for the last fit; 0 if the protocol has none
        task: name of the task of the labels; `classes` counts as `probebench._arrays.count_outputs` does
    """

    n_train: int
    n_test: int
    width: int
    classes: int
    strengths: int
    taps: int = 1
    tokens: int = 0
    queries: int = 0
    batch: int = 0
    epochs: int = 0
    task: str = CLASSIFICATION.name


@dataclass(frozen=True)
class ProbeInfo:
    """Everything that planning and measuring need to know of a probe.

    Attributes:
        fit: the probe itself
        memory: the most bytes that fitting one tap takes, besides its features
        operations: the operations of a float32 matrix product that takes as long as fitting one tap
        on_device: whether it runs on the torch device; other probes run on the CPU
        needs: by name the fields of `Protocol` that must not be None, and the purpose that the probe needs them for
        fit_matched: like `fit`, but fits the width control as well: a last argument, ``narrow``, is the width of the
            residual stream. None if the probe has no shorter way to the control than a second fit
        tasks: names of the tasks that it can fit, see `probebench.catalog.tasks`
        tokens: whether it is fitted on tokens instead of pooled features: of shape (images, tokens, width), bfloat16
            on a device, its bits as uint16 on the host, see `probebench.features.tokens`. Its results have those of the
            probe ``logistic`` on the pooled features beside them
    """

    fit: Probe
    memory: Callable[[FitSize], int]
    operations: Callable[[FitSize], float]
    on_device: bool = False
    needs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    fit_matched: Callable[..., Iterator[tuple[Tap, MatchedFit]]] | None = None
    tasks: tuple[str, ...] = (CLASSIFICATION.name,)
    tokens: bool = False

    def check(self, protocol: Protocol) -> None:
        """Check that a protocol has every field that this probe needs, and no tokens for one that reads none.

        Raises:
            ProbebenchError: naming the first field that is missing
        """
        if protocol.reads_tokens and not self.tokens:
            raise ProbebenchError(
                f"protocol {protocol.name!r}: the probe {protocol.probe} reads no tokens; leave out queries"
            )
        for name, purpose in self.needs.items():
            if getattr(protocol, name) is None:
                raise ProbebenchError(
                    f"protocol {protocol.name!r}: the probe {protocol.probe} needs {purpose}; give {name}"
                )


# Modules by name, imported when first used: they import torch, and an unused plugin must not.
_MODULES = {
    "attentive": "probebench.probes.attentive",
    "knn": "probebench.probes.knn",
    "logistic": "probebench.probes.logistic",
    "logistic_path": "probebench.probes.logistic_path",
    "ridge_path": "probebench.probes.ridge",
    "sklearn_logistic": "probebench.probes.sklearn_logistic",
}


def register_probe(name: str, module: str) -> None:
    """Add a probe, for protocols that name it.

    Args:
        name: as in `Protocol.probe`
        module: dotted name of a module with a `ProbeInfo` named ``PROBE``; imported when the probe is first used

    Raises:
        ProbebenchError: if another module has that name
    """
    if _MODULES.setdefault(name, module) != module:
        raise ProbebenchError(f"probe {name!r} is registered twice; choose another name")


def find_probe(name: str) -> ProbeInfo:
    """Return the probe of that name, with everything that planning needs to know of it.

    Raises:
        UnknownName: with the nearest names
    """
    if name not in _MODULES:
        raise unknown("probe", name, _MODULES)
    info: ProbeInfo = import_module(_MODULES[name]).PROBE
    return info


def get_probe(name: str) -> Probe:
    """Return the function that fits the probe of that name.

    Raises:
        UnknownName: with the nearest names
    """
    return find_probe(name).fit
