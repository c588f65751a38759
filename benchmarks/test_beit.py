"""BEiT and BEiT v2."""

import pytest

MODELS = [
    "beit_b16",
    "beit_l16",
    "beitv2_b16",
    "beitv2_l16",
]


@pytest.mark.probe(model=[*MODELS, *(f"{model}_random" for model in MODELS)], dataset="paper")
def test_probe(probe):
    probe.check()
