"""Image towers of SigLIP and SigLIP 2."""

import pytest

MODELS = [
    "siglip_b16",
    "siglip_l16",
    "siglip_so14",
    "siglip2_b32",
    "siglip2_b16",
    "siglip2_l16",
    "siglip2_so14",
    "siglip2_gopt16",
]


@pytest.mark.probe(model=[*MODELS, *(f"{model}_random" for model in MODELS)], dataset="paper")
def test_probe(probe):
    probe.check()
