"""EVA and EVA-02."""

import pytest

MODELS = [
    "eva_clip_g14",
    "eva02_ti14",
    "eva02_s14",
    "eva02_b14",
    "eva02_l14",
    "eva02_clip_b16",
    "eva02_clip_l14",
]


@pytest.mark.probe(model=[*MODELS, *(f"{model}_random" for model in MODELS)], dataset="paper")
def test_probe(probe):
    probe.check()
