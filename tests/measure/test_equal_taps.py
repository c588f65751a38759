"""Taps whose features are the same up to rounding are fitted once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probebench import DatasetSpec, run_sweep
from probebench.catalog.taps import Tap
from probebench.datasets import Split
from probebench.features.extraction import Features
from probebench.measure.equal_taps import find_equal
from probebench.measure.extract import ExtractedFeatures
from tests.tiny import tiny_model

NOISE = DatasetSpec("noise", f"{__name__}:noise")
FINAL, OUTPUT, LAST = Tap("final", "final"), Tap("output", "output"), Tap(2, "rc2")


def noise():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (90, 16, 16, 3), dtype=np.uint8)
    labels = np.arange(90, dtype=np.int64) % 2
    return ["a", "b"], Split(images[:40], labels[:40]), Split(images[40:], labels[40:])


def sweep(taps, **network):
    model = tiny_model(16, patch_size=8, embed_dim=16, **network)
    return run_sweep(model, NOISE, taps=taps, jobs=1, device="cpu")


def test_without_prefix_tokens_output_is_final_and_all_averages_are_one():
    result = sweep(["L02-rc2", "final", "final.patch_mean", "output"], class_token=False, global_pool="avg")
    assert result.same_as == {Tap("final", "final", "patch_mean"): FINAL, OUTPUT: FINAL}
    for tap in result.same_as:
        assert np.array_equal(result.taps[tap].correct, result.taps[FINAL].correct)
        assert result.taps[tap].iterations == 0
    assert result.taps[LAST].same_as is None


def test_output_is_the_class_token_of_final_where_the_network_reads_that():
    result = sweep(["final", "final.cls", "output"])
    assert result.same_as == {OUTPUT: Tap("final", "final", "cls")}
    assert sweep(["final", "output"]).same_as == {}


def test_output_is_the_last_block_where_nothing_follows_it():
    result = sweep(["L01-rc2", "L02-rc2", "output"], class_token=False, global_pool="avg", final_norm=False)
    assert result.same_as == {OUTPUT: LAST}


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize(("part", "row"), [("train", 0), ("train", 4999), ("test", 4999)])
def test_a_single_image_that_differs_is_seen(kind, part, row):
    rng = np.random.default_rng(0)
    parts = {}
    for name in ("train", "test"):
        rows = rng.standard_normal((5000, 3), dtype=np.float32)
        parts[name] = {FINAL: kind(rows), OUTPUT: kind(rows * np.float32(1 + 1e-7))}
    features = ExtractedFeatures((FINAL, OUTPUT), *(Features(each) for each in parts.values()), 1, 0.0)
    assert find_equal(features, features.taps) == {OUTPUT: FINAL}
    parts[part][OUTPUT] = kind(np.asarray(parts[part][OUTPUT]).copy())
    parts[part][OUTPUT][row] += 1
    features = ExtractedFeatures((FINAL, OUTPUT), *(Features(each) for each in parts.values()), 1, 0.0)
    assert find_equal(features, features.taps) == {}
