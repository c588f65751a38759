"""Networks found in checkpoints of other code: by other names and among other tensors; and those that are not."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file

from probebench.catalog import ModelSpec
from probebench.errors import WeightsError
from probebench.models.build import build_model

SMALL = {"depth": 2, "embed_dim": 24, "num_heads": 2, "patch_size": 8, "img_size": 32}


def spec(tmp_path, architecture="vit_tiny_patch16_224", name="w.safetensors", **kwargs):
    more = {"depth": 2, "input_size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3, "kwargs": SMALL | kwargs}
    return ModelSpec("mine", architecture, checkpoint=str(tmp_path / name), **more)


def network(architecture="vit_tiny_patch16_224", **kwargs):
    """A network of timm, none of whose tensors is as it was initialised."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = timm.create_model(architecture, **SMALL, **kwargs).eval()
        for parameter in net.parameters():
            parameter.data.add_(0.2 * torch.randn_like(parameter))
    return net


def body(state):
    return {name: tensor.clone() for name, tensor in state.items() if not name.startswith("head.")}


def load(tmp_path, state, **kwargs):
    save_file({name: tensor.clone() for name, tensor in state.items()}, tmp_path / "w.safetensors")
    return build_model(spec(tmp_path, **kwargs))


def same(built, state):
    found = built.net.state_dict()
    assert all(found[name].equal(tensor) for name, tensor in state.items())


def renamed(state, *rules):
    found = {}
    for name, tensor in state.items():
        for pattern, put in rules:
            name = re.sub(pattern, put, name)
        found[name] = tensor
    return found


def split_attention(state, form):
    """Query, key and value in tensors of their own."""
    found = {}
    for name, tensor in state.items():
        match = re.fullmatch(r"(.*)\.attn\.qkv\.(weight|bias)", name)
        if match is None:
            found[name] = tensor
            continue
        for part, value in zip("qkv", tensor.chunk(3), strict=True):
            found[form.format(match[1], {"q": "query", "k": "key", "v": "value"}[part], part, match[2])] = value
    return found


def transformers_4(state, layer_norms=(("norm1", "layernorm_before"), ("norm2", "layernorm_after"))):
    state = split_attention(state, "{0}.attention.attention.{1}.{3}")
    return renamed(
        state,
        (r"^(cls_token|mask_token)$", r"embeddings.\1"),
        ("^pos_embed$", "embeddings.position_embeddings"),
        (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
        (r"^norm\.", "layernorm."),
        (r"^blocks\.", "encoder.layer."),
        (r"\.attn\.proj\.", ".attention.output.dense."),
        *((rf"\.{ours}\.", f".{theirs}.") for ours, theirs in layer_norms),
        (r"\.mlp\.fc1\.", ".intermediate.dense."),
        (r"\.mlp\.fc2\.", ".output.dense."),
    )


def transformers_5(state):
    state = split_attention(state, "{0}.attention.{2}_proj.{3}")
    return renamed(
        state,
        (r"^cls_token$", "embeddings.cls_token"),
        ("^pos_embed$", "embeddings.position_embeddings"),
        (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
        (r"^norm\.", "layernorm."),
        (r"^blocks\.", "layers."),
        (r"\.attn\.proj\.", ".attention.o_proj."),
        (r"\.norm1\.", ".layernorm_before."),
        (r"\.norm2\.", ".layernorm_after."),
    )


def openmmlab(state):
    return renamed(
        state,
        (r"^patch_embed\.proj\.", "patch_embed.projection."),
        (r"^norm\.", "ln1."),
        (r"^blocks\.", "layers."),
        (r"\.norm([12])\.", r".ln\1."),
        (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
        (r"\.mlp\.fc2\.", ".ffn.layers.1."),
    )


def torchvision(state):
    return renamed(
        state,
        ("^cls_token$", "class_token"),
        ("^pos_embed$", "encoder.pos_embedding"),
        (r"^patch_embed\.proj\.", "conv_proj."),
        (r"^norm\.", "encoder.ln."),
        (r"^blocks\.(\d+)\.", r"encoder.layers.encoder_layer_\1."),
        (r"\.norm([12])\.", r".ln_\1."),
        (r"\.attn\.qkv\.(weight|bias)", r".self_attention.in_proj_\1"),
        (r"\.attn\.proj\.", ".self_attention.out_proj."),
        (r"\.mlp\.fc1\.", ".mlp.0."),
        (r"\.mlp\.fc2\.", ".mlp.3."),
    )


@pytest.mark.parametrize("prefix", ["", "vit.", "model.encoder."])
@pytest.mark.parametrize("form", [transformers_4, transformers_5, openmmlab, torchvision])
def test_the_names_of_other_code_are_translated(tmp_path, form, prefix):
    state = body(network().state_dict())
    foreign = {prefix + name: tensor for name, tensor in form(state).items()}
    built = load(tmp_path, foreign | {"classifier.weight": torch.ones(3, 24)})
    same(built, state)
    assert built.family
    assert built.prefix == prefix
    assert "classifier.weight" in built.left_out


def test_dinov2_is_found_in_chunks_and_as_transformers_calls_it(tmp_path):
    state = body(network("vit_small_patch14_dinov2").state_dict())
    mask = {"mask_token": torch.ones(1, 24)}
    chunked = renamed(state, (r"^blocks\.0\.", "blocks.0.0."), (r"^blocks\.1\.(?!\d)", "blocks.1.1."))
    kwargs = {"architecture": "vit_small_patch14_dinov2"}
    same(load(tmp_path, {f"teacher.backbone.{name}": each for name, each in (chunked | mask).items()}, **kwargs), state)
    form = transformers_4(state | mask, layer_norms=())
    form = renamed(
        form,
        (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"(\.\d)\.output\.dense\.", r"\1.mlp.fc2."),
    )
    same(load(tmp_path, form, **kwargs), state)


def test_layer_scale_of_deit_3(tmp_path):
    state = body(network("deit3_small_patch16_224").state_dict())
    foreign = renamed(state, (r"\.ls([12])\.gamma$", r".gamma_\1"))
    same(load(tmp_path, foreign, architecture="deit3_small_patch16_224"), state)


def test_clip_of_transformers(tmp_path):
    architecture = "vit_base_patch16_clip_quickgelu_224"
    state = body(network(architecture).state_dict())
    form = split_attention(state, "{0}.self_attn.{2}_proj.{3}")
    form = renamed(
        form,
        ("^cls_token$", "embeddings.class_embedding"),
        ("^pos_embed$", "embeddings.position_embedding.weight"),
        (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
        (r"^norm_pre\.", "pre_layrnorm."),
        (r"^norm\.", "post_layernorm."),
        (r"^blocks\.", "encoder.layers."),
        (r"\.attn\.proj\.", ".self_attn.out_proj."),
        (r"\.norm([12])\.", r".layer_norm\1."),
    )
    form["embeddings.class_embedding"] = form["embeddings.class_embedding"].flatten()
    form["embeddings.position_embedding.weight"] = form["embeddings.position_embedding.weight"][0]
    foreign = {f"vision_model.{name}": tensor for name, tensor in form.items()}
    foreign |= {"text_model.final_layer_norm.weight": torch.ones(4), "logit_scale": torch.tensor(1.0)}
    built = load(tmp_path, foreign, architecture=architecture)
    same(built, state)
    assert len(built.left_out) == 2


def test_a_refusal_names_the_code_whose_names_the_file_has(tmp_path):
    form = {name: tensor for name, tensor in openmmlab(body(network().state_dict())).items() if ".1." not in name}
    with pytest.raises(WeightsError, match=r"match the architecture .* \(.*by the names of OpenMMLab\): .* is missing"):
        load(tmp_path, form)


def clip_of_open_clip(state):
    form = renamed(
        state,
        ("^cls_token$", "class_embedding"),
        ("^pos_embed$", "positional_embedding"),
        (r"^patch_embed\.proj\.", "conv1."),
        (r"^norm_pre\.", "ln_pre."),
        (r"^norm\.", "ln_post."),
        (r"^blocks\.", "transformer.resblocks."),
        (r"\.attn\.qkv\.(weight|bias)", r".attn.in_proj_\1"),
        (r"\.attn\.proj\.", ".attn.out_proj."),
        (r"\.norm([12])\.", r".ln_\1."),
        (r"\.mlp\.fc1\.", ".mlp.c_fc."),
        (r"\.mlp\.fc2\.", ".mlp.c_proj."),
    )
    form["class_embedding"] = form["class_embedding"].flatten()
    form["positional_embedding"] = form["positional_embedding"][0]
    form["proj"] = torch.ones(24, 8)
    return form


@pytest.mark.parametrize("prefix", ["visual.", "module.visual.", "model.visual.", "net.clip.visual."])
def test_clip_of_open_clip_under_any_prefix(tmp_path, prefix):
    architecture = "vit_base_patch16_clip_quickgelu_224"
    state = body(network(architecture).state_dict())
    start = prefix.removesuffix("visual.")
    foreign = {prefix + name: tensor for name, tensor in clip_of_open_clip(state).items()}
    text = {f"{start}transformer.resblocks.0.ln_1.weight": torch.ones(5), f"{start}logit_scale": torch.tensor(1.0)}
    same(load(tmp_path, foreign | text, architecture=architecture), state)


def test_positions_of_clip_that_are_resampled_are_told(tmp_path):
    architecture = "vit_base_patch16_clip_quickgelu_224"
    form = clip_of_open_clip(body(network(architecture).state_dict()))
    form["positional_embedding"] = torch.randn(37, 24)
    built = load(tmp_path, {f"visual.{name}": tensor for name, tensor in form.items()}, architecture=architecture)
    assert built.made_for == 48


MAE_DECODER = {
    "mask_token": torch.ones(1, 1, 16),
    "decoder_pos_embed": torch.ones(1, 17, 16),
    "decoder_blocks.0.norm1.weight": torch.ones(16),
    "decoder_pred.weight": torch.ones(192, 16),
}


def test_relative_positions_that_are_resampled_are_told(tmp_path):
    state = body(network("beit_base_patch16_224", num_classes=0).state_dict())
    assert load(tmp_path, state, architecture="beit_base_patch16_224").made_for == 0
    larger = timm.create_model("beit_base_patch16_224", num_classes=0, **SMALL | {"img_size": 64}).state_dict()
    tables = {name: tensor for name, tensor in larger.items() if "relative_position" in name}
    assert load(tmp_path, state | body(tables), architecture="beit_base_patch16_224").made_for == 64


@pytest.mark.parametrize(
    "beside",
    [
        MAE_DECODER,
        {"projection_head.0.weight": torch.ones(4, 24)},
        {"dino_head.mlp.0.weight": torch.ones(4, 24)},
        {"fc.weight": torch.ones(4, 24), "queue": torch.ones(4)},
    ],
    ids=["decoder", "projection", "dino", "moco"],
)
def test_what_is_no_part_of_the_network_is_left_out_and_named(tmp_path, beside):
    state = body(network().state_dict())
    built = load(tmp_path, state | beside)
    same(built, state)
    assert built.left_out == tuple(sorted(beside))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"blocks.2.norm1.weight": torch.ones(24)}, "blocks.2.norm1.weight is not part of the network"),
        ({"blocks.0.attn.q_norm.weight": torch.ones(12)}, "blocks.0.attn.q_norm.weight is not part of the network"),
        ({"reg_token": torch.ones(1, 4, 24)}, "reg_token is not part of the network"),
        ({"adapter.0.weight": torch.ones(4, 24)}, "adapter.0.weight is not part of the network"),
        ({"norm_pre.weight": torch.ones(24)}, "norm_pre.weight is not part of the network"),
    ],
)
def test_what_would_change_the_features_is_refused(tmp_path, more, told):
    with pytest.raises(WeightsError, match=re.escape(told)):
        load(tmp_path, network().state_dict() | more)


def dinov3(state):
    """As Meta's code saves it, with biases of queries and values, which its published files have as zeros."""
    form = renamed(state, ("^reg_token$", "storage_tokens"), (r"\.gamma_([12])$", r".ls\1.gamma"))
    for block in range(2):
        form[f"blocks.{block}.attn.qkv.bias"] = torch.zeros(96)
        form[f"blocks.{block}.attn.qkv.bias_mask"] = torch.ones(96)
    return form | {"mask_token": torch.ones(1, 32)}


DINOV3 = {"architecture": "vit_small_patch16_dinov3", "embed_dim": 32}


def dinov3_state():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = timm.create_model("vit_small_patch16_dinov3", **SMALL | {"embed_dim": 32})
        for parameter in net.parameters():
            parameter.data.add_(0.2 * torch.randn_like(parameter))
    return body(net.state_dict())


def test_biases_that_timm_drops_are_seen_unless_they_are_zeros(tmp_path, capsys):
    state = dinov3_state()
    same(load(tmp_path, dinov3(state), **DINOV3), state)
    form = dinov3(state)
    form["blocks.1.attn.qkv.bias"] = torch.randn(96)
    with pytest.raises(
        WeightsError, match=r"blocks.1.attn.qkv.bias has no place in the network.*vit_small_patch16_dinov3_qkvb is the"
    ):
        load(tmp_path, form, **DINOV3)
    assert capsys.readouterr() == ("", "")  # of what timm prints


def test_other_periods_of_rotary_positions_are_used(tmp_path):
    state, images = dinov3_state(), torch.randn(2, 3, 32, 32)
    plain = load(tmp_path, dinov3(state), **DINOV3)
    own = plain.net.rope.periods
    rounded = load(tmp_path, dinov3(state) | {"rope_embed.periods": own.bfloat16()}, **DINOV3)
    assert (rounded.weights_digest, rounded.net.rope.periods.tolist()) == (plain.weights_digest, own.tolist())
    other = load(tmp_path, dinov3(state) | {"rope_embed.periods": 2 * own}, **DINOV3)
    assert other.net.rope.periods.equal(2 * own)
    assert other.weights_digest != plain.weights_digest
    with torch.inference_mode():
        assert not torch.allclose(other.net(images), plain.net(images))


def test_average_pooling_gets_the_argument_that_it_needs(tmp_path):
    state = renamed(network().state_dict(), (r"^norm\.", "fc_norm."))
    with pytest.raises(WeightsError, match=r"kwargs=\{'global_pool': 'avg'\} makes its norm fc_norm$"):
        load(tmp_path, state)
    assert load(tmp_path, state, global_pool="avg").net.fc_norm.weight.equal(state["fc_norm.weight"])


def test_a_part_of_a_checkpoint_says_so(tmp_path):
    state = {name: tensor for name, tensor in network().state_dict().items() if "blocks.1." not in name}
    save_file(state, tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(WeightsError, match=r"is part 1 of 2: name the folder or the index \(\.index\.json\) instead$"):
        build_model(spec(tmp_path, name="model-00001-of-00002.safetensors"))


def test_networks_for_other_channels_are_refused_before_any_image_is_read(tmp_path):
    with pytest.raises(WeightsError, match="built for images of 1 channels; only networks for three"):
        load(tmp_path, network(in_chans=1).state_dict(), in_chans=1)


def test_the_spec_names_an_entry_in_an_entry(tmp_path):
    state = network().state_dict()
    torch.save({"a": {"net": state}, "b": {"net": {n: t + 1 for n, t in state.items()}}}, tmp_path / "w.pt")
    named = replace(spec(tmp_path, name="w.pt"), checkpoint_key="b.net")
    assert build_model(named).net.norm.weight.equal(state["norm.weight"] + 1)
    with pytest.raises(WeightsError, match=r"no tensor of it has a name with the prefix 'c\.', its checkpoint_prefix$"):
        build_model(replace(named, checkpoint_prefix="c."))


def test_a_hash_is_that_of_a_file(tmp_path):
    with pytest.raises(WeightsError, match=r"sha256 is that of a file, and this is a folder; name the file in it$"):
        build_model(replace(spec(tmp_path), checkpoint=str(tmp_path), sha256="0" * 64))
