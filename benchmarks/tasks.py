"""Several labels an image, and a real-valued target: not in the suite `embedded`, but run whenever they are named."""

import pytest


@pytest.mark.probe(model=["glyphvit", "glyphvit_random"], dataset=["letters_grid", "letters_angle"])
def test_probe(probe):
    probe.check()
