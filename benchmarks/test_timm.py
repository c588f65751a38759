"""Any model of timm, also one that is not in the catalog.

pytest benchmarks/ --probe-model=timm:vit_small_patch16_224.augreg_in21k --probe-dataset=cifar10
"""

import pytest


@pytest.mark.probe(model="timm:*", dataset=["paper", "clip", "corruptions", "embedded"])
def test_probe(probe):
    probe.check()
