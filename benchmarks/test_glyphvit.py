"""The embedded model and its random control on the embedded datasets: the paper's study in miniature, offline."""

import pytest


@pytest.mark.probe(model=["glyphvit", "glyphvit_random"], dataset="embedded")
def test_probe(probe):
    probe.check()
