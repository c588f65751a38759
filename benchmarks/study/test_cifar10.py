"""CIFAR-10, and CIFAR-10 corrupted as CIFAR-10-C is: a probe of clean images, and one of corrupted images."""

import pytest
from study_data import CIFAR10, CORRUPTIONS, LADDERS, MODEL, MODELS, WEIGHTS, need

need(WEIGHTS, CIFAR10)


@pytest.mark.probe(model=MODELS, dataset="cifar10_small")
def test_clean(probe):
    probe.check()


@pytest.mark.probe(model=MODELS, dataset=[f"cifar10_small_within_{name}" for name in CORRUPTIONS])
def test_within(probe):
    probe.check()


@pytest.mark.probe(model=MODELS, dataset=[f"cifar10_small_c_{name}" for name in CORRUPTIONS])
def test_transfer(probe):
    probe.check()


@pytest.mark.probe(
    model=MODEL,
    dataset=[
        f"cifar10_small_{kind}_{name}_s{severity}"
        for kind in ("within", "c")
        for name in LADDERS
        for severity in range(1, 5)
    ],
)
def test_ladder(probe):
    """Severities 1 to 4; 0 and 5 are above. Without the random control, which would take another twenty minutes."""
    probe.check()
