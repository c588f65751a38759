from __future__ import annotations

import hashlib
import json
from argparse import Namespace
from dataclasses import replace
from importlib.resources import files

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from probebench.catalog import Catalog, ModelSpec, builtin_models
from probebench.errors import LayoutError, ProbebenchError, WeightsError
from probebench.models.build import build_model
from probebench.models.timm_spec import complete_spec, without_weights

GLYPHVIT = builtin_models()["glyphvit"]
RANDOM = builtin_models()["glyphvit_random"]
WEIGHTS = files("probebench.embedded") / "glyphvit.safetensors"


def test_the_shipped_weights_are_the_ones_that_the_recipe_recorded():
    record = json.loads((files("probebench.embedded") / "glyphvit.json").read_text())
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == GLYPHVIT.sha256 == record["sha256"]
    assert {tensor.dtype for tensor in load_file(WEIGHTS).values()} == {torch.float16}
    assert record["parameters"] == sum(t.numel() for t in load_file(WEIGHTS).values())


def test_a_network_comes_frozen_in_float32_and_evaluation_mode():
    net = build_model(GLYPHVIT).net
    assert not net.training
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in net.parameters())


def test_random_weights_are_the_seeds_and_leave_the_callers_generator_alone():
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, second = build_model(RANDOM), build_model(RANDOM)
    assert torch.get_rng_state().equal(state)
    assert first.weights_digest == second.weights_digest
    assert build_model(replace(RANDOM, seed=1)).weights_digest != first.weights_digest
    assert build_model(GLYPHVIT).weights_digest != first.weights_digest


def test_other_weights_can_be_loaded_on_purpose(tmp_path):
    state = {name: tensor + 1 for name, tensor in load_file(WEIGHTS).items()}
    save_file(state, tmp_path / "w.safetensors")
    net = build_model(GLYPHVIT, weights=tmp_path / "w.safetensors").net
    assert net.norm.weight.equal(state["norm.weight"].float())


def test_a_spec_may_name_a_file(tmp_path):
    save_file(load_file(WEIGHTS), tmp_path / "w.safetensors")
    spec = replace(GLYPHVIT, checkpoint=str(tmp_path / "w.safetensors"), sha256=None)
    assert build_model(spec).weights_digest == build_model(GLYPHVIT).weights_digest


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"'glyphvit' \(.*gone.safetensors\): no such file; correct the path$"):
        build_model(GLYPHVIT, weights=tmp_path / "gone.safetensors")
    with pytest.raises(WeightsError, match=r"'mine' \(/.*gone.pt\): no such file; correct `checkpoint` of its spec"):
        build_model(tiny(checkpoint="gone.pt"))


@pytest.mark.parametrize("keep", [12, 100, 100_000])
def test_a_truncated_file_is_refused(tmp_path, keep):
    (tmp_path / "w.safetensors").write_bytes(WEIGHTS.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="not a readable safetensors file, or truncated"):
        build_model(GLYPHVIT, weights=tmp_path / "w.safetensors")


def test_a_replaced_file_is_refused_by_its_hash(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(WEIGHTS.read_bytes() + b" ")
    spec = replace(GLYPHVIT, checkpoint=str(tmp_path / "w.safetensors"))
    with pytest.raises(WeightsError, match=r"SHA-256 is .*, expected .*--probe-weights glyphvit=FILE"):
        build_model(spec)


def test_another_architecture_is_refused_with_what_differs(tmp_path):
    state = load_file(WEIGHTS)
    state["norm.weight"] = state["norm.weight"][:32].clone()
    state["extra"] = state.pop("norm.bias")
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(
        WeightsError, match=r"norm.bias is missing; extra is not part of the network; norm.weight has sh"
    ):
        build_model(GLYPHVIT, weights=tmp_path / "w.safetensors")


def test_names_that_do_not_fit_are_shown_beside_the_networks(tmp_path, tuned):
    foreign = {f"encoder.{i}.kernel": torch.zeros(2) for i in range(5)}
    torch.save({"meters": {"loss": torch.zeros(1)}, "weights": foreign}, tmp_path / "w.pt")
    with pytest.raises(
        WeightsError,
        match=r" vit_tiny_patch16_224 with kwargs {'img_size': .*} \(in its entry 'weights'\): cls_token is "
        r"missing; pos_embed is missing; .* and \d+ more; encoder.0.kernel is not part of the network; "
        r"encoder.1.kernel is not .*; encoder.2.kernel is not part of the network and 2 more. "
        r"The file also has tensors in 'meters'$",
    ):
        build_model(tiny(checkpoint=str(tmp_path / "w.pt")))


def test_a_wrong_depth_is_refused():
    with pytest.raises(LayoutError, match="has 12 blocks, but its spec says depth=11"):
        build_model(replace(RANDOM, architecture="vit_tiny_patch16_224", kwargs={}, depth=11))


def test_an_unknown_architecture_gets_the_nearest_names():
    with pytest.raises(ProbebenchError, match=r"vit_tiny_patch16_225.*Did you mean 'vit_tiny_patch16_224'"):
        build_model(replace(RANDOM, architecture="vit_tiny_patch16_225", kwargs={}))


def tiny(**changes):
    """A small network of timm's by its name."""
    kwargs = {"img_size": 32, "patch_size": 16, "embed_dim": 16, "depth": 2, "num_heads": 2}
    fields = {"name": "mine", "architecture": "vit_tiny_patch16_224", "kwargs": kwargs | changes.pop("kwargs", {})}
    fields |= {"depth": 2, "input_size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    return ModelSpec(**(fields | changes))


@pytest.fixture
def tuned():
    """Weights of that network as somebody fine-tuned it, with five classes of its own."""
    spec = tiny(kwargs={"num_classes": 5})
    return build_model(replace(spec, weights="random", seed=3)).net.state_dict()


OPTIMIZER = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}


@pytest.mark.parametrize(
    ("entry", "wrap"),
    [
        ("", lambda state: state),
        ("state_dict", lambda state: {"state_dict": state, "epoch": 3, "args": Namespace(lr=0.1)}),
        ("model", lambda state: {"model": prefixed("module.", state)}),
        ("model", lambda state: {"model": prefixed("_orig_mod.module.", state), "optimizer": OPTIMIZER}),
        ("state_dict", lambda state: {"state_dict": prefixed("model.", state), "pytorch-lightning_version": "2.4"}),
        ("state_dict_ema", lambda state: {"state_dict_ema": state, "state_dict": {}}),
        ("state_dict_ema", lambda state: {"state_dict": zeros(state), "state_dict_ema": state}),
        ("model_ema", lambda state: {"model": zeros(state), "model_ema": state}),
        ("state_dict", lambda state: {"state_dict": state, "state_dict_ema": None}),
        ("state_dict", lambda state: {"ema": zeros(state), "state_dict": state}),
        ("model_state_dict", lambda state: {"epoch": 3, "model_state_dict": state, "optimizer_state_dict": OPTIMIZER}),
        ("net", lambda state: {"net": state, "acc": 0.9}),
        ("ema", lambda state: {"ema": prefixed("module.", state), "buffers": {"queue": torch.zeros(3)}}),
        ("teacher", lambda state: {"teacher": prefixed("backbone.", state), "loss": {"center": torch.zeros(3)}}),
        ("net", lambda state: {"model": {"step": torch.tensor(3)}, "net": state}),
    ],
)
def test_checkpoints_of_training_scripts_are_read(tmp_path, tuned, entry, wrap):
    torch.save(wrap(tuned), tmp_path / "w.pt")
    built = build_model(tiny(checkpoint=str(tmp_path / "w.pt")))
    assert built.entry == entry
    found = built.net.state_dict()
    assert all(found[name].equal(tuned[name]) for name in tuned if not name.startswith("head."))
    assert built.net.head.out_features == 1000


def zeros(state):
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


def test_of_several_entries_that_fit_none_is_guessed(tmp_path, tuned):
    other = {name: tensor + 1 for name, tensor in tuned.items()}
    torch.save({"net": tuned, "ema": prefixed("model.", other), "epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(
        WeightsError,
        match=r"2 times, in its entry 'net' and in its entry 'ema' under the prefix 'model\.' of its names; name "
        r"the one to use in its ModelSpec, for example checkpoint_key='net'$",
    ):
        build_model(tiny(checkpoint=str(tmp_path / "w.pt")))
    built = build_model(tiny(checkpoint=str(tmp_path / "w.pt"), checkpoint_key="ema"))
    assert (built.entry, built.prefix, built.copies) == ("ema", "model.", "")
    with pytest.raises(ProbebenchError, match=r"unknown entry of weights .*'emma'. Did you mean 'ema'"):
        build_model(tiny(checkpoint=str(tmp_path / "w.pt"), checkpoint_key="emma"))


def test_copies_that_are_equal_are_one(tmp_path, tuned):
    torch.save({"net": tuned, "ema": prefixed("model.", tuned)}, tmp_path / "w.pt")
    built = build_model(tiny(checkpoint=str(tmp_path / "w.pt")))
    assert (built.entry, built.copies) == ("net", "")


@pytest.mark.parametrize(
    ("wrap", "place"),
    [
        (lambda old, new: {"student": prefixed("backbone.", old), "teacher": prefixed("backbone.", new)}, "teacher"),
        (lambda old, new: {"model": prefixed("student.net.", old) | prefixed("teacher.net.", new)}, "teacher.net."),
        (lambda old, new: {"encoder": prefixed("module.", old), "target_encoder": new}, "target_encoder"),
        (lambda old, new: {"state_dict": prefixed("momentum_encoder.", old) | prefixed("base_encoder.", new)}, "base_"),
        (lambda old, new: {"state_dict": prefixed("target.net.", old) | prefixed("online.net.", new)}, "online."),
    ],
    ids=["dino", "dinov2", "ijepa", "mocov3", "byol"],
)
def test_the_copy_that_a_method_evaluates_is_taken_and_the_other_is_told(tmp_path, tuned, wrap, place):
    torch.save(wrap({name: tensor + 1 for name, tensor in tuned.items()}, tuned), tmp_path / "w.pt")
    built = build_model(tiny(checkpoint=str(tmp_path / "w.pt")))
    assert built.net.norm.weight.equal(tuned["norm.weight"])
    assert place in f"{built.entry}.{built.prefix}"
    assert "their file has another copy of the network " in built.copies


def test_a_fine_tuned_network_is_loaded_without_its_classifier(tmp_path, tuned):
    save_file(tuned, tmp_path / "w.safetensors")
    first, second = (build_model(tiny(checkpoint=str(tmp_path / "w.safetensors"))) for _ in range(2))
    assert first.net.blocks[1].mlp.fc1.weight.equal(tuned["blocks.1.mlp.fc1.weight"])
    assert first.weights_digest == second.weights_digest
    without = {name: tensor for name, tensor in tuned.items() if not name.startswith("head.")}
    save_file(without, tmp_path / "w.safetensors")
    assert build_model(tiny(checkpoint=str(tmp_path / "w.safetensors"))).weights_digest == first.weights_digest


def test_a_checkpoint_on_another_grid_of_patches_is_brought_onto_this_one(tmp_path):
    large = build_model(tiny(weights="random", seed=3, input_size=64, kwargs={"img_size": 64})).net.state_dict()
    save_file(large, tmp_path / "w.safetensors")
    built = build_model(tiny(checkpoint=str(tmp_path / "w.safetensors")))
    assert built.net.pos_embed.shape == (1, 5, 16)
    assert built.net.cls_token.equal(large["cls_token"])
    assert built.made_for == 64
    there = tiny(checkpoint=str(tmp_path / "w.safetensors"), input_size=64, kwargs={"img_size": 64})
    assert build_model(there).made_for == 0


@pytest.mark.parametrize("kwargs", [{"reg_tokens": 2}, {"class_token": False, "global_pool": "avg"}])
def test_tokens_before_the_patches_are_no_other_grid(tmp_path, kwargs):
    save_file(build_model(tiny(weights="random", seed=3, kwargs=kwargs)).net.state_dict(), tmp_path / "w.safetensors")
    assert build_model(tiny(checkpoint=str(tmp_path / "w.safetensors"), kwargs=kwargs)).made_for == 0


def test_patches_of_another_size_are_another_network(tmp_path):
    finer = build_model(tiny(weights="random", seed=3, kwargs={"patch_size": 8})).net.state_dict()
    save_file(prefixed("backbone.", finer), tmp_path / "w.safetensors")
    with pytest.raises(
        WeightsError, match=r"patch_embed.proj.weight has shape \(16, 3, 8, 8\), not \(16, 3, 16, 16\)$"
    ):
        build_model(tiny(checkpoint=str(tmp_path / "w.safetensors")))


def prefixed(prefix, state):
    return {f"{prefix}{name}": tensor.clone() for name, tensor in state.items()}


@pytest.mark.parametrize("prefix", ["backbone.", "model.", "model.vision.encoder.", "module.net."])
@pytest.mark.parametrize("save", [save_file, torch.save])
def test_a_prefix_of_training_code_is_dropped_with_what_lies_elsewhere(tmp_path, tuned, prefix, save):
    file = tmp_path / ("w.safetensors" if save is save_file else "w.pt")
    save(prefixed(prefix, tuned) | {"projector.weight": torch.zeros(3), "classifier.norm.weight": torch.ones(16)}, file)
    built = build_model(tiny(checkpoint=str(file)))
    assert all(built.net.state_dict()[name].equal(tuned[name]) for name in tuned if not name.startswith("head."))
    assert built.prefix == prefix.removeprefix("module.")  # of torch's own wrapper, and always dropped


def test_torchs_own_wrappers_leave_no_trace_in_either_format(tmp_path, tuned):
    save_file(tuned, tmp_path / "plain.safetensors")
    save_file(prefixed("module.", tuned), tmp_path / "w.safetensors")
    plain, wrapped = (
        build_model(tiny(checkpoint=str(tmp_path / name))) for name in ("plain.safetensors", "w.safetensors")
    )
    assert (wrapped.weights_digest, wrapped.prefix) == (plain.weights_digest, "")


def test_under_a_prefix_another_grid_is_brought_onto_this_one_too(tmp_path):
    large = build_model(tiny(weights="random", seed=3, input_size=64, kwargs={"img_size": 64})).net.state_dict()
    save_file(prefixed("backbone.", large), tmp_path / "w.safetensors")
    built = build_model(tiny(checkpoint=str(tmp_path / "w.safetensors")))
    assert (built.net.pos_embed.shape, built.prefix) == ((1, 5, 16), "backbone.")


def test_a_network_that_is_there_twice_is_not_guessed(tmp_path, tuned):
    other = {name: tensor + 1 for name, tensor in tuned.items()}
    save_file(prefixed("left.net.", tuned) | prefixed("right.net.", other), tmp_path / "w.safetensors")
    with pytest.raises(
        WeightsError, match=r"2 times, under .*'left.net.' .* and under .*'right.net.'.*checkpoint_prefix='left.net.'$"
    ):
        build_model(tiny(checkpoint=str(tmp_path / "w.safetensors")))
    built = build_model(tiny(checkpoint=str(tmp_path / "w.safetensors"), checkpoint_prefix="right.net."))
    assert built.net.norm.weight.equal(other["norm.weight"])
    # A copy beside the network under its plain names is not taken in its place.
    save_file(prefixed("ema.", tuned) | tuned, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"ema.blocks.0.attn.proj.bias is not part of the network"):
        build_model(tiny(checkpoint=str(tmp_path / "w.safetensors")))


def test_averaged_weights_that_do_not_fit_are_not_passed_over(tmp_path, tuned):
    averaged = {name: tensor for name, tensor in tuned.items() if name != "norm.weight"}
    torch.save({"state_dict": tuned, "state_dict_ema": averaged}, tmp_path / "w.pt")
    with pytest.raises(
        WeightsError, match=r"EMA weights, .* do not match .*norm.weight is missing.*checkpoint_key='state_dict'"
    ):
        build_model(tiny(checkpoint=str(tmp_path / "w.pt")))
    counted = prefixed("module.", tuned) | {"n_averaged": torch.tensor(9)}  # torch.optim.swa_utils.AveragedModel
    torch.save({"model": tuned, "model_ema": counted}, tmp_path / "w.pt")
    assert build_model(tiny(checkpoint=str(tmp_path / "w.pt"))).entry == "model_ema"


def test_what_does_not_fit_is_listed_without_the_prefix(tmp_path, tuned):
    del tuned["norm.bias"]
    save_file(prefixed("backbone.", tuned), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"\(under the prefix 'backbone.' of its names\): norm.bias is missing$"):
        build_model(tiny(checkpoint=str(tmp_path / "w.safetensors")))


def test_a_torch_file_of_something_else_is_refused(tmp_path):
    file = tmp_path / "w.pt"
    for content, held in (
        ({"losses": [1.0, 2.0], "state_dict": {}}, r"'losses' \(list\), 'state_dict' \(dict\)"),
        (dict.fromkeys(range(7), 0), r"0 \(int\), 1 \(int\), 2 \(int\), 3 \(int\), 4 \(int\) and 2 more"),
        ([torch.zeros(3)], "a list"),
        ({}, "nothing"),
    ):
        torch.save(content, file)
        with pytest.raises(
            WeightsError, match=f"contains no dictionary of tensors, but {held}; save only the state_dict"
        ):
            build_model(tiny(checkpoint=str(file)))


def test_pretrained_weights_that_are_damaged_are_refused(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    monkeypatch.setattr("probebench.fetch.hub.cached", lambda spec: tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"model 'vit_b16' \(.*\) cannot be loaded .*delete it and fetch it again"):
        build_model(Catalog.default().model("vit_b16"))


def test_pretrained_weights_that_are_not_here_are_an_error_with_the_command(monkeypatch):
    monkeypatch.setattr("probebench.fetch.hub.cached", lambda spec: None)
    with pytest.raises(
        WeightsError, match=r"'vit_b16' \(343 MB\) are not on this machine; run: probebench fetch vit_b16"
    ):
        build_model(Catalog.default().model("vit_b16"))


def test_another_input_size_needs_a_network_of_that_size():
    spec = ModelSpec("m", "vit_tiny_patch16_224", 12, "random", 32, (0.5,) * 3, (0.5,) * 3, seed=0)
    with pytest.raises(WeightsError, match=r"input_size is 32, but .* is built for 224 x 224 pixels; set both"):
        build_model(spec)
    assert build_model(replace(spec, kwargs={"img_size": 32})).net.patch_embed.img_size == (32, 32)


def test_the_hash_of_any_weights_file_is_checked_where_it_is_given(tmp_path, tuned, monkeypatch):
    save_file(tuned, tmp_path / "w.safetensors")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match="SHA-256 is"):
        build_model(tiny(checkpoint="./w.safetensors", sha256="0" * 64))
    monkeypatch.setattr("probebench.fetch.hub.cached", lambda spec: tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="SHA-256 is"):
        build_model(replace(Catalog.default().model("vit_b16"), sha256="0" * 64))


def test_what_a_spec_leaves_out_is_filled_in_and_a_bare_name_gets_its_tag():
    spec = complete_spec(ModelSpec("mine", "vit_tiny_patch16_224"))
    assert spec.architecture == "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert (spec.depth, spec.width, spec.input_size, spec.interpolation) == (12, 192, 224, "bicubic")
    assert (spec.mean, spec.crop, spec.licence) == ((0.5,) * 3, 0.9, "apache-2.0")
    kept = complete_spec(ModelSpec("mine", "vit_tiny_patch16_224.augreg_in21k", mean=(0.1, 0.2, 0.3), licence="mit"))
    assert (kept.mean, kept.licence, kept.std) == ((0.1, 0.2, 0.3), "mit", (0.5,) * 3)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ModelSpec("m", "vit_tiny_patch61_224"), "unknown timm architecture 'vit_tiny_patch61_224'. Did you mean"),
        (ModelSpec("m", "vit_tiny_patch16_224.augreg_in12k"), "unknown pretraining tag .* Did you mean 'augreg_in21k'"),
        (ModelSpec("m", "vit_small_patch16_18x2_224"), "timm has no pretrained weights .*weights = 'random'"),
        (ModelSpec("m", "VisionTransformer", checkpoint="w.pt"), "needs depth, input_size, mean and std"),
        (ModelSpec("m", "vit_tiny_patch16_224."), "unknown pretraining tag"),
        (ModelSpec("m", "vit_tiny_patch16_224", kwargs={"foo": 1}), "cannot be built with kwargs .*foo"),
        (ModelSpec("m", "vit_tiny_patch16_224", kwargs={"img_size": (32, 64)}), "only square inputs are supported"),
        (ModelSpec("m", "resnet50"), "model 'm': ResNet has no list of transformer blocks"),
    ],
)
def test_what_timm_does_not_have_is_said(spec, message):
    with pytest.raises(ProbebenchError, match=message):
        complete_spec(spec)


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "vitamin_small_224", "beit_base_patch16_224", "tnt_s_patch16_224"]
)
def test_networks_without_weights_have_the_shapes_of_others(name):
    def described(net):
        tensors = net.state_dict(keep_vars=True).items()
        return {key: (value.shape, value.dtype, value.requires_grad) for key, value in tensors}

    with without_weights():
        net = timm.create_model(name)
        kept = torch.ones(2, device="cpu").mul_(3)
    assert described(net) == described(timm.create_model(name))
    assert all(value.is_meta for value in net.parameters())
    assert kept.tolist() == [3, 3]
