"""Masked autoencoders and I-JEPA."""

import pytest

MODELS = [
    "mae_b16",
    "mae_l16",
    "mae_h14",
    "ijepa_h14",
    "ijepa_in22k_h14",
    "ijepa_in22k_g16",
]


@pytest.mark.probe(model=[*MODELS, *(f"{model}_random" for model in MODELS)], dataset="paper")
def test_probe(probe):
    probe.check()
