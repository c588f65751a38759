"""Image towers of CLIP, OpenCLIP, DataComp, DFN and MetaCLIP."""

import pytest

MODELS = [
    "clip_b32",
    "clip_b16",
    "clip_l14",
    "clip_336_l14",
    "openclip_b32",
    "openclip_b16",
    "openclip_l14",
    "openclip_h14",
    "openclip_g14",
    "openclip_bigg14",
    "datacomp_b16",
    "datacomp_l14",
    "dfn_b16",
    "dfn_h14",
    "metaclip_b16",
    "metaclip_l14",
]


@pytest.mark.probe(model=[*MODELS, *(f"{model}_random" for model in MODELS)], dataset="paper")
def test_probe(probe):
    probe.check()
