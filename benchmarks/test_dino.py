"""DINO, DINOv2 with and without registers, DINOv3."""

import pytest

MODELS = [
    "dino_s16",
    "dino_s8",
    "dino_b16",
    "dino_b8",
    "dinov2_s14",
    "dinov2_b14",
    "dinov2_l14",
    "dinov2_g14",
    "dinov2_reg_s14",
    "dinov2_reg_b14",
    "dinov2_reg_l14",
    "dinov2_reg_g14",
    "dinov3_s16",
    "dinov3_splus16",
    "dinov3_b16",
    "dinov3_l16",
    "dinov3_hplus16",
    "dinov3_7b16",
    "dinov3_sat_l16",
]


@pytest.mark.probe(model=[*MODELS, *(f"{model}_random" for model in MODELS)], dataset="paper")
def test_probe(probe):
    probe.check()
