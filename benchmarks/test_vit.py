"""The original vision transformer, AugReg, and hybrids with a ResNet stem."""

import pytest

MODELS = [
    "vit_b16",
    "vit_b32",
    "vit_l16",
    "vit_l32",
    "vit_h14",
    "vit_ft_b16",
    "vit_hybrid_b16",
    "augreg_ti16",
    "augreg_s32",
    "augreg_s16",
    "augreg_b32",
    "augreg_b16",
    "augreg_b8",
    "augreg_l16",
    "augreg_ft_b16",
    "augreg_in1k_b16",
    "augreg_hybrid_s32",
    "augreg_hybrid_l32",
]


@pytest.mark.probe(model=[*MODELS, *(f"{model}_random" for model in MODELS)], dataset="paper")
def test_probe(probe):
    probe.check()
