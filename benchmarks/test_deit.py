"""DeiT and DeiT III."""

import pytest

MODELS = [
    "deit_ti16",
    "deit_s16",
    "deit_b16",
    "deit_distilled_b16",
    "deit3_s16",
    "deit3_m16",
    "deit3_b16",
    "deit3_l16",
    "deit3_h14",
    "deit3_in22k_s16",
    "deit3_in22k_b16",
    "deit3_in22k_l16",
    "deit3_in22k_h14",
]


@pytest.mark.probe(model=[*MODELS, *(f"{model}_random" for model in MODELS)], dataset="paper")
def test_probe(probe):
    probe.check()
