"""AIMv2."""

import pytest

MODELS = [
    "aimv2_l14",
    "aimv2_h14",
    "aimv2_1b14",
    "aimv2_3b14",
]


@pytest.mark.probe(model=[*MODELS, *(f"{model}_random" for model in MODELS)], dataset="paper")
def test_probe(probe):
    probe.check()
