"""The share of computation, against the formula for a plain vision transformer."""

from __future__ import annotations

import pytest

from probebench import Tap
from probebench.catalog import Catalog
from probebench.models.build import build_model
from probebench.recommendation.flops import blocks_needed, saved_compute
from tests.tiny import tiny_model


def test_operations_are_those_of_the_formula():
    net = build_model(Catalog.default().model("glyphvit")).net
    tokens, patches, width, pixels = 17, 16, 64, 3 * 8 * 8
    # Query, key, value and output projections, an MLP four times as wide, and two products of attention.
    block = 2 * tokens * width * (4 * width + 8 * width) + 2 * 2 * tokens**2 * width
    total = 2 * patches * pixels * width + 12 * block
    taps = {Tap.parse(name): n for name, n in [("embed", 1), ("L01-ln1", 1), ("L06-act", 6), ("L11-rc2", 11)]}
    last = [Tap("final", "final"), Tap("output", "output"), Tap(12, "ln1")]
    pair = Tap("pair", "pair")
    saved = saved_compute(net, 32, {tap: [tap] for tap in (*taps, *last)} | {pair: [Tap(3, "act"), Tap(11, "ln1")]})
    for tap, blocks in taps.items():
        assert saved[tap] == pytest.approx((12 - blocks) * block / total, abs=1e-12)
    assert {saved[tap] for tap in last} == {0.0}
    assert saved[pair] == saved[Tap.parse("L11-rc2")]
    assert not any(module._forward_hooks for module in net.modules())


def test_blocks_needed():
    needed = {"embed": 1, "L03-rc2": 3, "final": 4, "output": 4, "last4": 4, "L01-act L02-act": 2}
    for names, blocks in needed.items():
        assert blocks_needed(map(Tap.parse, names.split()), 4) == blocks, names


def test_attention_pooling_comes_after_the_last_block():
    kwargs = {"patch_size": 16, "embed_dim": 24, "global_pool": "map", "class_token": False}
    net = build_model(tiny_model(32, **kwargs)).net
    places = [Tap("output", "output"), Tap(2, "rc2"), Tap(1, "rc2")]
    saved = saved_compute(net, 32, {tap: [tap] for tap in places})
    tokens, width = 4, 24
    block = 2 * tokens * width * 12 * width + 2 * 2 * tokens**2 * width
    # The query of one latent token; keys, values and two products of attention; its projection and MLP.
    pool = 2 * width * width + 2 * tokens * width * 2 * width + 2 * 2 * tokens * width + 2 * width * 9 * width
    total = 2 * tokens * 3 * 16 * 16 * width + 2 * block + pool
    assert saved == pytest.approx(dict(zip(places, (0, pool / total, (pool + block) / total), strict=True)), abs=1e-12)
