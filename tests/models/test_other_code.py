"""Weights of networks of other libraries, by their own names: features are those of their own forward pass."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from probebench.catalog import ModelSpec
from probebench.errors import WeightsError
from probebench.models.build import build_model

SIZE = {"depth": 2, "embed_dim": 24, "num_heads": 2, "patch_size": 8, "img_size": 32}
CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 96,
    "patch_size": 8,
    "image_size": 32,
}
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def shaken(net: nn.Module) -> nn.Module:
    """No tensor is as it was initialised: many are zeros or ones, of which one is as good as another."""
    generator = torch.Generator().manual_seed(1)
    for parameter in net.parameters():
        parameter.data.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return net.eval()


def features(net, tmp_path, architecture, **kwargs):
    """The tokens behind the last norm, by timm, of the weights as their own code saves them."""
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, tmp_path / "w.safetensors")
    more = {"depth": 2, "input_size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3, "kwargs": SIZE | kwargs}
    built = build_model(ModelSpec("mine", architecture, checkpoint=str(tmp_path / "w.safetensors"), **more))
    with torch.inference_mode():
        return built.net.forward_features(IMAGES)


def test_torchvision(tmp_path):
    from torchvision.models import VisionTransformer

    net = shaken(VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=24, mlp_dim=96, num_classes=5))
    with torch.inference_mode():
        patches = net._process_input(IMAGES)
        expected = net.encoder(torch.cat([net.class_token.expand(2, -1, -1), patches], dim=1))
    torch.testing.assert_close(features(net, tmp_path, "vit_tiny_patch16_224"), expected, rtol=1e-5, atol=1e-5)


def vit(transformers):
    net = transformers.ViTForImageClassification(transformers.ViTConfig(**CONFIG, layer_norm_eps=1e-6))
    return net, lambda: net.vit(IMAGES).last_hidden_state


def mae(transformers):
    config = transformers.ViTMAEConfig(
        **CONFIG,
        layer_norm_eps=1e-6,
        mask_ratio=0.0,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
    )
    net = transformers.ViTMAEForPreTraining(config)
    in_order = torch.arange(16.0).repeat(2, 1)
    return net, lambda: net.vit(IMAGES, noise=in_order).last_hidden_state


def dinov2(transformers):
    net = transformers.Dinov2Model(transformers.Dinov2Config(**CONFIG, mlp_ratio=4))
    return net, lambda: net(IMAGES).last_hidden_state


def dinov2_registers(transformers):
    config = transformers.Dinov2WithRegistersConfig(**CONFIG, mlp_ratio=4, num_register_tokens=4)
    net = transformers.Dinov2WithRegistersModel(config)
    return net, lambda: net(IMAGES).last_hidden_state


def dinov3(transformers):
    config = transformers.DINOv3ViTConfig(
        **CONFIG | {"hidden_size": 32, "intermediate_size": 128}, num_register_tokens=4
    )
    net = transformers.DINOv3ViTModel(config)
    return net, lambda: net(IMAGES).last_hidden_state


def clip(transformers):
    net = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**CONFIG))
    tower = getattr(net, "vision_model", net)
    return net, lambda: tower.post_layernorm(net(IMAGES).last_hidden_state)


def deit(transformers):
    net = transformers.DeiTModel(transformers.DeiTConfig(**CONFIG, layer_norm_eps=1e-6))
    return net, lambda: net(IMAGES).last_hidden_state


def ijepa(transformers):
    net = transformers.IJepaModel(transformers.IJepaConfig(**CONFIG, layer_norm_eps=1e-6))
    return net, lambda: net(IMAGES).last_hidden_state


def siglip(transformers):
    net = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**CONFIG))
    return net, lambda: net(IMAGES).last_hidden_state


def beit(transformers):
    more = {"use_relative_position_bias": True, "layer_scale_init_value": 0.1, "layer_norm_eps": 1e-6}
    net = transformers.BeitModel(transformers.BeitConfig(**CONFIG, **more))
    return net, lambda: net(IMAGES).last_hidden_state  # the norm is behind the pooling


@pytest.mark.parametrize(
    ("make", "architecture", "kwargs"),
    [
        (beit, "beit_base_patch16_224", {}),
        (deit, "deit_tiny_distilled_patch16_224", {}),
        (ijepa, "vit_huge_patch14_gap_224", {}),
        (siglip, "vit_base_patch16_siglip_224", {"act_layer": "gelu_tanh"}),
        (vit, "vit_tiny_patch16_224", {}),
        (mae, "vit_tiny_patch16_224", {}),
        (dinov2, "vit_small_patch14_dinov2", {}),
        (dinov2_registers, "vit_small_patch14_reg4_dinov2", {}),
        (dinov3, "vit_small_patch16_dinov3_qkvb", {"embed_dim": 32}),
        (clip, "vit_base_patch16_clip_quickgelu_224", {}),
    ],
    ids=["beit", "deit", "ijepa", "siglip", "vit", "mae", "dinov2", "dinov2_registers", "dinov3", "clip"],
)
def test_transformers(tmp_path, make, architecture, kwargs):
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, forward = make(transformers)
    shaken(net)
    with torch.inference_mode():
        expected = forward()
    torch.testing.assert_close(features(net, tmp_path, architecture, **kwargs), expected, rtol=1e-5, atol=1e-5)


def arrays_of(net, *, stacked):
    """The weights of a network of timm by the names and in the shapes of the JAX code, as its files have them.

    Args:
        stacked: whether all blocks are in one array, as big_vision has them; else one by one
    """

    def turned(linear, *shape):
        return linear.weight.T.reshape(shape or linear.weight.T.shape), linear.bias

    def block(part, attention, second, mlp):
        width, heads = 24, 2
        found = {"LayerNorm_0": (part.norm1.weight, part.norm1.bias), second: (part.norm2.weight, part.norm2.bias)}
        for name, weight, bias in zip(
            ("query", "key", "value"), part.attn.qkv.weight.chunk(3), part.attn.qkv.bias.chunk(3), strict=True
        ):
            found[f"{attention}/{name}"] = weight.T.reshape(width, heads, -1), bias.reshape(heads, -1)
        found[f"{attention}/out"] = turned(part.attn.proj, heads, width // heads, width)
        found |= {f"{mlp}/Dense_0": turned(part.mlp.fc1), f"{mlp}/Dense_1": turned(part.mlp.fc2)}
        names = {name: ("scale", "bias") if "Norm" in name else ("kernel", "bias") for name in found}
        return {f"{name}/{end}": value for name in found for end, value in zip(names[name], found[name], strict=True)}

    start = "params/" if stacked else ""
    names = ("MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0")
    blocks = [
        block(each, *names if stacked else ("MultiHeadDotProductAttention_1", "LayerNorm_2", "MlpBlock_3"))
        for each in net.blocks
    ]
    if stacked:
        found = {f"Transformer/encoderblock/{key}": torch.stack([each[key] for each in blocks]) for key in blocks[0]}
        found["pos_embedding"] = net.pos_embed
    else:
        found = {f"Transformer/encoderblock_{i}/{key}": b[key] for i, b in enumerate(blocks) for key in b}
        found["Transformer/posembed_input/pos_embedding"] = net.pos_embed
    found |= {
        "cls": net.cls_token,
        "embedding/kernel": net.patch_embed.proj.weight.permute(2, 3, 1, 0),
        "embedding/bias": net.patch_embed.proj.bias,
        "Transformer/encoder_norm/scale": net.norm.weight,
        "Transformer/encoder_norm/bias": net.norm.bias,
        "head/kernel": torch.randn(24, 7),
        "head/bias": torch.randn(7),
    }
    return {start + name: value.detach().numpy() for name, value in found.items()}


def from_npz(path, size=32, depth=2):
    more = {
        "depth": depth,
        "input_size": size,
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
        "kwargs": SIZE | {"img_size": size},
    }
    more["kwargs"] |= {"depth": depth}
    return build_model(ModelSpec("mine", "vit_tiny_patch16_224", checkpoint=str(path), **more))


@pytest.mark.parametrize("stacked", [False, True])
def test_jax(tmp_path, stacked):
    net = shaken(timm.create_model("vit_tiny_patch16_224", num_classes=0, **SIZE))
    arrays = arrays_of(net, stacked=stacked)
    np.savez(tmp_path / "vit.npz", **arrays)
    built = from_npz(tmp_path / "vit.npz")
    with torch.inference_mode():
        torch.testing.assert_close(built.net.forward_features(IMAGES), net.forward_features(IMAGES))
    assert from_npz(tmp_path / "vit.npz", size=48).made_for == 32
    np.savez(tmp_path / "more.npz", **arrays, **{"params/Transformer/extra/kernel": np.ones(3, np.float32)})
    np.savez(tmp_path / "images.npz", x_train=np.zeros(3))
    for file, depth in (("more", 2), ("vit", 1), ("vit", 3), ("images", 2)):
        with pytest.raises(WeightsError, match=rf"{file}\.npz\): (timm cannot load it|.*of another network)"):
            from_npz(tmp_path / f"{file}.npz", depth=depth)
