"""Any model of timm, transformers (hf), open_clip and torchvision, also one that is not in the catalog.

pytest benchmarks/ --probe-model=timm:vit_small_patch16_224.augreg_in21k --probe-dataset=cifar10
pytest benchmarks/ --probe-model=hf:facebook/dinov2-small --probe-dataset=cifar10
"""

import pytest


@pytest.mark.probe(
    model=["timm:*", "hf:*", "open_clip:*", "torchvision:*"],
    dataset=["paper", "clip", "corruptions", "embedded"],
)
def test_probe(probe):
    probe.check()
