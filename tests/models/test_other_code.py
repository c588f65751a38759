"""Weights of networks of other libraries, by their own names: features are those of their own forward pass."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from probebench.catalog import ModelSpec
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


@pytest.mark.parametrize(
    ("make", "architecture", "kwargs"),
    [
        (vit, "vit_tiny_patch16_224", {}),
        (mae, "vit_tiny_patch16_224", {}),
        (dinov2, "vit_small_patch14_dinov2", {}),
        (dinov2_registers, "vit_small_patch14_reg4_dinov2", {}),
        (dinov3, "vit_small_patch16_dinov3_qkvb", {"embed_dim": 32}),
        (clip, "vit_base_patch16_clip_quickgelu_224", {}),
    ],
    ids=["vit", "mae", "dinov2", "dinov2_registers", "dinov3", "clip"],
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
