"""Vision transformers with relative and rotary position embeddings."""

import pytest

MODELS = [
    "relpos_b16",
    "rope_b16",
]


@pytest.mark.probe(model=[*MODELS, *(f"{model}_random" for model in MODELS)], dataset="paper")
def test_probe(probe):
    probe.check()
