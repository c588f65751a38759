"""Perception Encoder."""

import pytest

MODELS = [
    "pe_core_ti16",
    "pe_core_s16",
    "pe_core_b16",
    "pe_core_l14",
    "pe_core_g14",
    "pe_lang_l14",
    "pe_spatial_b16",
    "pe_spatial_l14",
]


@pytest.mark.probe(model=[*MODELS, *(f"{model}_random" for model in MODELS)], dataset="paper")
def test_probe(probe):
    probe.check()
