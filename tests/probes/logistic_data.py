"""Features, fits and references that the tests of both logistic probes share."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probebench.catalog.taps import Tap
from probebench.probes import get_probe

TAPS = {Tap(1, "rc2"): 12, Tap(2, "rc2"): 12, Tap(1, "act"): 40}
HELD_OUT = np.arange(300) % 5 == 4


def data(classes=4, n=300, m=120, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n + m) % classes
    rng.shuffle(labels)
    values = {
        tap: (rng.normal(size=(n + m, width)) + 0.5 * rng.normal(size=(classes, width))[labels]).astype(np.float32)
        for tap, width in TAPS.items()
    }
    train, test = ({tap: x[part] for tap, x in values.items()} for part in (slice(n), slice(n, None)))
    return train, labels[:n], test


def run(train, labels, test, protocol, held_out=HELD_OUT, jobs=1, device="cpu"):
    return dict(get_probe(protocol.probe)(train, labels, test, held_out, protocol, device, jobs))


def exact(C):
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-10, max_iter=10_000))
