r"""CIFAR-10, and CIFAR-10 corrupted as CIFAR-10-C is, by severity.

Two cores needed 110 minutes for all cases of this folder under `default@2` (61), for those of PACS under `transfer@2`
(2), and for a part of them under `paper@1` (46); docs/study.md has the results:

    pytest benchmarks/study --probe-resume --probe-json=default.json
    pytest benchmarks/study/test_pacs.py -k "not photo" --probe-protocol=transfer@2 --probe-resume \
        --probe-json=transfer.json
    W=cifar10_small_within; pytest benchmarks/study --probe-protocol=paper@1 --probe-cache=off --probe-resume \
        --probe-dataset=cifar10_small,${W}_contrast,${W}_gaussian_noise,${W}_motion_blur,${W}_snow,${W}_speckle_noise \
        --probe-dataset=pacs_photo,pacs_sketch --probe-json=paper.json
"""

import pytest
from study_data import CIFAR10, CONTROL, CORRUPTIONS, MODEL, WEIGHTS, need, severities

need(WEIGHTS, CIFAR10)


@pytest.mark.probe(model=[MODEL, CONTROL], dataset="cifar10_small")
def test_clean(probe):
    probe.check()


@pytest.mark.probe(
    model=MODEL,
    dataset=[f"cifar10_small_within_{name}{suffix}" for name in CORRUPTIONS for suffix in severities(name).values()],
)
def test_within(probe):
    """Trained on corrupted images, too."""
    probe.check()


@pytest.mark.probe(
    model=MODEL,
    dataset=[f"cifar10_small_c_{name}{suffix}" for name in CORRUPTIONS for suffix in severities(name).values()],
)
def test_transfer(probe):
    """Trained on clean images."""
    probe.check()


# At severity 5 only: at the others the control would take another twenty minutes.
@pytest.mark.probe(
    model=CONTROL, dataset=[f"cifar10_small_{kind}_{name}" for kind in ("within", "c") for name in CORRUPTIONS]
)
def test_controls(probe):
    probe.check()
