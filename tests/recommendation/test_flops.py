"""The share of computation, against the formula for a plain vision transformer."""

from __future__ import annotations

import pytest

from probebench import Tap
from probebench.catalog import Catalog
from probebench.models.build import build_model
from probebench.recommendation.flops import blocks_needed, saved_compute


def test_operations_are_those_of_the_formula():
    net = build_model(Catalog.default().model("glyphvit")).net
    tokens, patches, width, pixels = 17, 16, 64, 3 * 8 * 8
    # Query, key, value and output projections, an MLP four times as wide, and two products of attention.
    block = 2 * tokens * width * (4 * width + 8 * width) + 2 * 2 * tokens**2 * width
    total = 2 * patches * pixels * width + 12 * block
    taps = {Tap.parse(name): n for name, n in [("embed", 1), ("L01-ln1", 1), ("L06-act", 6), ("L11-rc2", 11)]}
    saved = saved_compute(net, 32, [*taps, Tap("final", "final"), Tap(12, "ln1")])
    for tap, blocks in taps.items():
        assert saved[tap] == pytest.approx((12 - blocks) * block / total, abs=1e-12)
    assert saved[Tap("final", "final")] == saved[Tap(12, "ln1")] == 0
    assert not any(module._forward_hooks for module in net.modules())


def test_blocks_needed():
    assert [blocks_needed(Tap.parse(name), 4) for name in ("embed", "L03-rc2", "final")] == [1, 3, 4]
