"""Networks of transformers as models: every tap equals timm's for the same weights, or the block by hand."""

from __future__ import annotations

import json

import pytest
import torch

from probebench import ModelSpec
from probebench.errors import LayoutError, ProbebenchError, WeightsError
from tests.models import test_other_code as other
from tests.models.libraries.helpers import IMAGES, Parts, assert_as_by_hand, assert_close, build, read

transformers = pytest.importorskip("transformers", reason="needs transformers")

PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "do_normalize": True,
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.25, 0.3],
    "resample": 2,
    "size": {"height": 32, "width": 32},
}


def made(make, *args):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make(*args)
    return other.shaken(net[0] if isinstance(net, tuple) else net)


def saved(net, folder, processor=PROCESSOR):
    """The folder that a user has, under the name that a user types."""
    net.save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return f"hf:{folder}"


@pytest.mark.parametrize(
    ("make", "architecture", "kwargs"),
    [
        (other.vit, "vit_tiny_patch16_224", {}),
        (other.mae, "vit_tiny_patch16_224", {}),
        (other.dinov2, "vit_small_patch14_dinov2", {}),
        (other.dinov2_registers, "vit_small_patch14_reg4_dinov2", {}),
        (other.dinov3, "vit_small_patch16_dinov3_qkvb", {"embed_dim": 32}),
        (other.clip, "vit_base_patch16_clip_quickgelu_224", {}),
    ],
    ids=["vit", "mae", "dinov2", "dinov2_registers", "dinov3", "clip"],
)
def test_the_same_weights_give_the_same_features_by_timm(tmp_path, make, architecture, kwargs):
    net = made(make, transformers)
    name = saved(net, tmp_path / "folder")
    more = {"input_size": 32, "depth": 2, "mean": (0.5,) * 3, "std": (0.5,) * 3, "kwargs": other.SIZE | kwargs}
    by_timm = build(ModelSpec("mine", architecture, checkpoint=str(tmp_path / "folder"), **more))
    here = build(name)
    assert here.net.num_prefix_tokens == by_timm.net.num_prefix_tokens
    for pooling in ("mean", "patch_mean", "cls"):
        expected = read(by_timm, pooling)
        if make is other.dinov3:  # timm averages the patches, transformers returns the class token
            expected["output"] = read(by_timm, "cls")["final"]
        assert_close(read(here, pooling), expected)


def first(returned):
    """What attention returns: in some versions beside its weights."""
    return returned[0] if isinstance(returned, tuple) else returned


def vit_parts(block, *scales):
    new = hasattr(block, "mlp")  # transformers 5
    return Parts(
        (block.layernorm_before, block.layernorm_after),
        lambda tokens: first(block.attention(tokens)),
        block.mlp.fc1 if new else block.intermediate.dense,
        block.mlp.fc2 if new else block.output.dense,
        scales=scales or (1, 1),
    )


def beit_parts(block):
    return vit_parts(block, block.lambda_1, block.lambda_2)


def siglip_parts(block):
    attend = lambda tokens: first(block.self_attn(tokens))  # noqa: E731
    return Parts((block.layer_norm1, block.layer_norm2), attend, block.mlp.fc1, block.mlp.fc2, block.mlp.activation_fn)


def gated_parts(block):
    mlp, attend = block.mlp, lambda tokens: first(block.attention(tokens))
    scales = block.layer_scale1.lambda1, block.layer_scale2.lambda1
    if hasattr(mlp, "weights_in"):  # transformers 4: gate and value in one matrix
        half = mlp.weights_in.out_features // 2
        activation = lambda fc1: torch.nn.functional.silu(fc1[..., :half]) * fc1[..., half:]  # noqa: E731
        return Parts((block.norm1, block.norm2), attend, mlp.weights_in, mlp.weights_out, activation, scales)
    silu = torch.nn.functional.silu
    return Parts((block.norm1, block.norm2), attend, mlp.up_proj, mlp.down_proj, silu, scales, mlp.gate_proj)


def class_token(returned):
    return returned.last_hidden_state[:, 0]


def pooler(returned):
    return returned.pooler_output


def blocks_of(net):
    encoder = getattr(getattr(net, "vision_model", net), "encoder", net)
    return list(getattr(encoder, "layers", None) or encoder.layer)


@pytest.mark.parametrize(
    ("kind", "kwargs", "parts", "prefix", "output"),
    [
        ("DeiT", {}, vit_parts, 2, class_token),  # its pooler is not trained in most checkpoints
        ("IJepa", {}, vit_parts, 0, lambda returned: returned.last_hidden_state.mean(dim=1)),
        ("ViTMSN", {}, vit_parts, 1, class_token),
        ("Beit", {"use_mean_pooling": False, "layer_scale_init_value": 0.1}, beit_parts, 1, pooler),
        ("SiglipVision", {}, siglip_parts, 0, pooler),
        ("Dinov2", {"use_swiglu_ffn": True, "mlp_ratio": 2}, gated_parts, 1, pooler),
    ],
)
def test_sites_are_those_of_the_block_by_hand(tmp_path, kind, kwargs, parts, prefix, output):
    config = getattr(transformers, f"{kind}Config")(**other.CONFIG | kwargs)
    net = made(getattr(transformers, f"{kind}Model"), config)
    built = build(saved(net, tmp_path / "folder"))
    tower = getattr(net, "vision_model", net)
    norm = tower.post_layernorm if kind == "SiglipVision" else tower.layernorm
    assert_as_by_hand(built, net, blocks_of(net), parts, norm, output)
    assert (built.net.num_prefix_tokens, built.net.num_patches, built.spec.width) == (prefix, 16, 24)


def test_a_norm_behind_the_pooling_is_applied_to_the_pooled_tokens(tmp_path):
    net = made(transformers.BeitModel, transformers.BeitConfig(**other.CONFIG, use_mean_pooling=True))
    built = build(saved(net, tmp_path / "folder"))
    with torch.inference_mode():
        expected = net(IMAGES).pooler_output  # the mean over patches
    for tap in ("final", "output"):
        torch.testing.assert_close(read(built, "patch_mean")[tap], expected, rtol=1e-5, atol=1e-5)


def test_the_image_processor_says_how_images_are_prepared(tmp_path):
    net = made(transformers.ViTModel, transformers.ViTConfig(**other.CONFIG))
    spec = build(saved(net, tmp_path / "a")).spec
    assert (spec.input_size, spec.mean, spec.std) == (32, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    assert (spec.interpolation, spec.crop, spec.depth, spec.width) == ("bilinear", 1.0, 2, 24)
    crops = PROCESSOR | {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}, "resample": 3}
    crops |= {"image_processor_type": "BitImageProcessor", "do_center_crop": True}
    spec = build(saved(net, tmp_path / "b", crops)).spec
    assert (spec.input_size, spec.interpolation, spec.crop) == (32, "bicubic", 0.8)
    with pytest.raises(ProbebenchError, match="does not declare input_size, mean, std; set them in its ModelSpec"):
        build(saved(net, tmp_path / "c", None))
    mine = ModelSpec("mine", f"hf:{tmp_path / 'c'}", input_size=48, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert build(mine).net.num_patches == 36  # its positions are resampled, as transformers does


def test_a_checkpoint_of_ones_own_and_a_control(tmp_path):
    net = made(transformers.ViTModel, transformers.ViTConfig(**other.CONFIG))
    name = saved(net, tmp_path / "folder")
    tuned = made(transformers.ViTForImageClassification, transformers.ViTConfig(**other.CONFIG, num_labels=5))
    torch.save({"state_dict": tuned.state_dict()}, tmp_path / "tuned.pth")
    spec = ModelSpec("tuned", name, checkpoint=str(tmp_path / "tuned.pth"))
    built = build(spec)
    with torch.inference_mode():
        expected = tuned.vit(IMAGES).last_hidden_state.mean(dim=1)
    torch.testing.assert_close(read(built)["final"], expected, rtol=1e-5, atol=1e-5)
    assert built.left_out == ("classifier.bias", "classifier.weight")
    control = ModelSpec("random", name, weights="random", seed=0)
    assert build(control).weights_digest == build(control).weights_digest != built.weights_digest


def test_other_networks_and_folders_are_refused(tmp_path):
    net = made(transformers.ViTModel, transformers.ViTConfig(**other.CONFIG))
    name = saved(net, tmp_path / "folder")
    config = tmp_path / "folder" / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(WeightsError, match=r"lacks .*2\..*and .* more; the configuration .* is of another network"):
        build(name)
    bert = transformers.BertModel(transformers.BertConfig(**{k: v for k, v in other.CONFIG.items() if "i" in k[:2]}))
    with pytest.raises(LayoutError, match=r"no layout describes the network .*BertModel"):
        build(saved(bert, tmp_path / "bert"))
    with pytest.raises(WeightsError, match="no such folder"):
        build("hf:./missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"has no config\.json"):
        build(f"hf:{tmp_path / 'empty'}")
    (tmp_path / "empty" / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"has no model\.safetensors; only safetensors are read"):
        build(f"hf:{tmp_path / 'empty'}")


def test_code_in_a_folder_is_never_run(tmp_path):
    net = made(transformers.ViTModel, transformers.ViTConfig(**other.CONFIG))
    name = saved(net, tmp_path / "folder")
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}
    (tmp_path / "folder" / "config.json").write_text(json.dumps(config))
    (tmp_path / "folder" / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ProbebenchError, match="transformers does not know the network"):
        build(name)
    assert not (tmp_path / "ran").exists()
