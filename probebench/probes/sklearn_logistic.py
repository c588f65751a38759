"""The reference probe: scikit-learn's StandardScaler and LogisticRegression, as the paper's authors ran them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed, parallel_config
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from probebench._arrays import Array, on_host
from probebench.catalog.protocols import Protocol
from probebench.catalog.taps import Tap
from probebench.probes.base import Fit, ProbeInfo
from probebench.probes.memory import copy_bytes
from probebench.probes.operations import count_as_path


def make_classifier(protocol: Protocol) -> Pipeline:
    """Return the scikit-learn pipeline of a protocol."""
    assert protocol.C is not None
    logistic = LogisticRegression(C=protocol.C, max_iter=protocol.max_iter)
    return make_pipeline(StandardScaler(), logistic) if protocol.standardize else make_pipeline(logistic)


def fit(
    train: Mapping[Tap, Array],
    train_labels: npt.NDArray[np.int64],
    test: Mapping[Tap, Array],
    held_out: npt.NDArray[np.bool_] | None,
    protocol: Protocol,
    device: str,
    jobs: int,
) -> Iterator[tuple[Tap, Fit]]:
    """See `probebench.probes.Probe`. Each fit runs on one thread, so the result does not depend on `jobs`."""
    # Wide taps take longest: start them first so that the cores finish together.
    order = sorted(train, key=lambda tap: -train[tap].shape[1])
    if jobs == 1:
        with threadpool_limits(1):
            for tap in order:
                yield tap, _fit_one(train[tap], train_labels, test[tap], protocol)
        return
    tasks = (delayed(_fit_one)(train[tap], train_labels, test[tap], protocol) for tap in order)
    with parallel_config("loky", inner_max_num_threads=1):
        fits = Parallel(n_jobs=jobs, return_as="generator")(tasks)
        yield from zip(order, fits, strict=True)


def _fit_one(
    train: Array,
    labels: npt.NDArray[np.int64],
    test: Array,
    protocol: Protocol,
) -> Fit:
    start = time.process_time()
    train, test = on_host(train), on_host(test)
    classifier = make_classifier(protocol)
    with warnings.catch_warnings():
        # The result has the iterations; a thousand warnings would add nothing.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(train, labels)
        predictions = classifier.predict(test)
        scores = np.asarray(classifier.decision_function(test), dtype=np.float32)
    if scores.ndim == 1:  # for two classes scikit-learn returns the logit of the second; that of the first is zero
        scores = np.column_stack([np.zeros_like(scores), scores])
    return Fit(
        predictions=predictions.astype(np.int64),
        classes=classifier.classes_.astype(np.int64),
        scores=scores,
        probabilities=True,
        seconds=time.process_time() - start,
        iterations=int(np.max(classifier[-1].n_iter_)),
        C=classifier[-1].C,
    )


PROBE = ProbeInfo(fit, memory=copy_bytes, operations=count_as_path, needs={"C": "a strength"})
