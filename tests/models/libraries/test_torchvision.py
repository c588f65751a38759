"""Vision transformers of torchvision as models."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import vision_transformer

from probebench import ModelSpec
from probebench.errors import LayoutError, UnknownName, WeightsError
from tests.models.libraries.helpers import Parts, assert_as_by_hand, build
from tests.models.test_other_code import shaken


@pytest.fixture
def tiny(monkeypatch):
    """torchvision's vit_b_16, with two small blocks."""

    def vit(patch_size, num_layers, num_heads, hidden_dim, mlp_dim, weights, progress, **kwargs):
        return vision_transformer.VisionTransformer(kwargs["image_size"], 8, 2, 2, 24, 96)

    monkeypatch.setattr(vision_transformer, "_vision_transformer", vit)


def parts(block):
    attend = lambda tokens: block.self_attention(tokens, tokens, tokens, need_weights=False)[0]  # noqa: E731
    return Parts((block.ln_1, block.ln_2), attend, block.mlp[0], block.mlp[3])


def test_sites_are_those_of_the_block_by_hand(tmp_path, tiny):
    net = shaken(vision_transformer.vit_b_16(image_size=32))
    torch.save(net.state_dict(), tmp_path / "vit.pth")
    built = build(ModelSpec("mine", "torchvision:vit_b_16", checkpoint=str(tmp_path / "vit.pth"), input_size=32))
    net.heads = torch.nn.Identity()
    assert_as_by_hand(built, net, net.encoder.layers, parts, net.encoder.ln)
    assert built.left_out == ("heads.head.bias", "heads.head.weight")
    assert (built.net.num_prefix_tokens, built.net.num_patches) == (1, 16)


def test_published_weights_are_those_of_their_name(monkeypatch, tmp_path, tiny):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    name = "torchvision:vit_b_16.IMAGENET1K_SWAG_E2E_V1"
    with pytest.raises(WeightsError, match=f"run: probebench fetch {name}"):
        build(name)
    net = shaken(vision_transformer.vit_b_16(image_size=384))
    file = vision_transformer.ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1.url.rpartition("/")[2]
    torch.save(net.state_dict(), folder / file)
    spec = build(name).spec
    assert (spec.input_size, spec.interpolation, spec.crop, spec.width) == (384, "bicubic", 1.0, 24)
    assert spec.mean == (0.485, 0.456, 0.406)


def test_other_networks_are_refused():
    with pytest.raises(LayoutError, match=r"no layout describes the network torchvision\.models\.resnet\.ResNet"):
        build("torchvision:resnet18")
    with pytest.raises(UnknownName, match=r"unknown model of torchvision 'vit_b_17'\. Did you mean 'vit_b_16'"):
        build("torchvision:vit_b_17")
    with pytest.raises(UnknownName, match=r"unknown weights of torchvision's vit_b_16 'V1'\. .*IMAGENET1K_V1"):
        build("torchvision:vit_b_16.V1")
