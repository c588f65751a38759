from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from importlib.resources import files

import pytest
import torch
from safetensors.torch import load_file, save_file

from probebench.catalog import builtin_models
from probebench.errors import LayoutError, ProbebenchError, WeightsError
from probebench.models import build

GLYPHVIT = builtin_models()["glyphvit"]
RANDOM = builtin_models()["glyphvit_random"]
WEIGHTS = files("probebench.embedded") / "glyphvit.safetensors"


def test_the_shipped_weights_are_the_ones_that_the_recipe_recorded():
    record = json.loads((files("probebench.embedded") / "glyphvit.json").read_text())
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == GLYPHVIT.sha256 == record["sha256"]
    assert {tensor.dtype for tensor in load_file(WEIGHTS).values()} == {torch.float16}
    assert record["parameters"] == sum(t.numel() for t in load_file(WEIGHTS).values())


def test_a_network_comes_frozen_in_float32_and_evaluation_mode():
    net = build(GLYPHVIT).net
    assert not net.training
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in net.parameters())


def test_random_weights_are_the_seeds_and_leave_the_callers_generator_alone():
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, second = build(RANDOM), build(RANDOM)
    assert torch.get_rng_state().equal(state)
    assert first.weights_digest == second.weights_digest
    assert build(replace(RANDOM, seed=1)).weights_digest != first.weights_digest
    assert build(GLYPHVIT).weights_digest != first.weights_digest


def test_other_weights_can_be_loaded_on_purpose(tmp_path):
    state = {name: tensor + 1 for name, tensor in load_file(WEIGHTS).items()}
    save_file(state, tmp_path / "w.safetensors")
    net = build(GLYPHVIT, weights=tmp_path / "w.safetensors").net
    assert net.norm.weight.equal(state["norm.weight"].float())


def test_a_spec_may_name_a_file(tmp_path):
    save_file(load_file(WEIGHTS), tmp_path / "w.safetensors")
    spec = replace(GLYPHVIT, checkpoint=str(tmp_path / "w.safetensors"), sha256=None)
    assert build(spec).weights_digest == build(GLYPHVIT).weights_digest


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"'glyphvit' \(.*gone.safetensors\): no such file"):
        build(GLYPHVIT, weights=tmp_path / "gone.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, 100_000])
def test_a_truncated_file_is_refused(tmp_path, keep):
    (tmp_path / "w.safetensors").write_bytes(WEIGHTS.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="not a readable safetensors file, or cut short"):
        build(GLYPHVIT, weights=tmp_path / "w.safetensors")


def test_a_replaced_file_is_refused_by_its_hash(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(WEIGHTS.read_bytes() + b" ")
    spec = replace(GLYPHVIT, checkpoint=str(tmp_path / "w.safetensors"))
    with pytest.raises(WeightsError, match=r"SHA-256 is .*, expected .*--probe-weights glyphvit=FILE"):
        build(spec)


def test_another_architecture_is_refused_with_what_differs(tmp_path):
    state = load_file(WEIGHTS)
    state["norm.weight"] = state["norm.weight"][:32].clone()
    state["extra"] = state.pop("norm.bias")
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(
        WeightsError, match=r"norm.bias is missing; extra is not part of the network; norm.weight has sh"
    ):
        build(GLYPHVIT, weights=tmp_path / "w.safetensors")


def test_a_wrong_depth_is_refused():
    with pytest.raises(LayoutError, match="has 12 blocks where its spec says 11"):
        build(replace(RANDOM, architecture="vit_tiny_patch16_224", kwargs={}, depth=11))


def test_an_unknown_architecture_gets_the_nearest_names():
    with pytest.raises(ProbebenchError, match=r"vit_tiny_patch16_225.*Did you mean 'vit_tiny_patch16_224'"):
        build(replace(RANDOM, architecture="vit_tiny_patch16_225", kwargs={}))
