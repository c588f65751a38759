"""What a layout must be, what it refuses, and blocks that timm can build but lists no architecture of."""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import pytest
import torch
from timm.layers import GluMlp, Mlp, SwiGLU
from timm.models.eva import Eva
from timm.models.vision_transformer import (
    Block,
    DiffParallelScalingBlock,
    ParallelScalingBlock,
    ParallelThingsBlock,
    ResPostBlock,
    VisionTransformer,
)
from torch import nn

from probebench.catalog.taps import SITES, all_taps
from probebench.errors import LayoutError
from probebench.features.hooks import TapReader
from probebench.models.layouts import LAYOUTS, blocks_of, find_layout
from tests.models.by_hand import recompute


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_layout_gives_all_eight_sites(layout):
    assert tuple(layout.sites) == SITES


def test_names_of_layouts_differ():
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)


def built(cls, **kwargs):
    """A network of one block with weights away from their initialisation."""
    torch.manual_seed(0)
    net = cls(img_size=16, patch_size=8, embed_dim=24, depth=1, num_heads=2, num_classes=0, **kwargs)
    for name, parameter in net.named_parameters():
        noise = torch.randn_like(parameter)
        if name.endswith("bias"):
            parameter.data = 0.3 * noise
        elif parameter.ndim == 1 and "lambda" not in name:
            parameter.data = 1 + 0.3 * noise
        elif parameter.ndim == 2:
            parameter.data = noise / parameter.shape[1] ** 0.5
    return net.eval().requires_grad_(False)


def read(net, images, pooling="mean"):
    """Features at the sites of the only block, and the tokens that enter it."""
    entered = []
    handle = net.blocks[0].register_forward_pre_hook(lambda _, args: entered.append(args[0]))
    reader = TapReader(net, all_taps(1)[1:9], pooling)
    with torch.inference_mode(), reader.attached():
        net.forward_features(images)
        features = dict(zip(SITES, reader.collect(), strict=True))
    handle.remove()
    return features, entered[0]


UNLISTED = {
    "a gate in the second half": (VisionTransformer, {"mlp_layer": GluMlp, "init_values": 0.1}),
    "norms inside attention and feed-forward network": (
        VisionTransformer,
        {"mlp_layer": SwiGLU, "scale_attn_norm": True, "scale_mlp_norm": True, "reg_tokens": 3},
    ),
    "post-norm, split gate": (VisionTransformer, {"block_fn": ResPostBlock, "mlp_layer": SwiGLU}),
    "EVA post-norm, split gate": (Eva, {"use_post_norm": True, "swiglu_mlp": True, "scale_mlp": True}),
    "parallel, fused projection, layer scale": (
        VisionTransformer,
        {"block_fn": partial(ParallelScalingBlock, fuse_out_proj=True), "init_values": 0.1},
    ),
    "parallel, biases apart": (VisionTransformer, {"block_fn": ParallelScalingBlock, "qkv_bias": False}),
    "differential, two lambdas": (
        VisionTransformer,
        {"block_fn": partial(DiffParallelScalingBlock, dual_lambda=True), "init_values": 0.1},
    ),
    "paired, layer scale, gates": (
        VisionTransformer,
        {"block_fn": ParallelThingsBlock, "init_values": 0.1, "mlp_layer": GluMlp},
    ),
}


@pytest.mark.parametrize(("cls", "kwargs"), UNLISTED.values(), ids=UNLISTED)
def test_blocks_that_no_architecture_uses_are_read_right_too(cls, kwargs):
    net, images = built(cls, **kwargs), torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    features, tokens = read(net, images)
    for site, expected in recompute(deepcopy(net.blocks[0]).double(), tokens.double(), {}).items():
        torch.testing.assert_close(features[site], expected.mean(1).float(), rtol=1e-4, atol=1e-5, msg=site)


@pytest.mark.parametrize("block_fn", [ParallelScalingBlock, DiffParallelScalingBlock, ParallelThingsBlock])
def test_sums_and_scales_are_float32_in_a_bfloat16_network(block_fn):
    net, images = built(VisionTransformer, block_fn=block_fn, init_values=0.1), torch.randn(3, 3, 16, 16)
    exact, _ = read(net, images)
    rounded, _ = read(net.bfloat16(), images.bfloat16())
    for site, value in rounded.items():
        assert value.dtype == torch.float32
        assert (value - exact[site]).norm() < 0.05 * exact[site].norm(), site


def test_the_stream_adds_up_in_a_parallel_block_with_one_projection():
    net = built(VisionTransformer, block_fn=DiffParallelScalingBlock, init_values=0.1)
    features, _ = read(net, torch.randn(3, 3, 16, 16))
    expected = features["rc1"] + net.blocks[0].ls(features["fc2"])
    torch.testing.assert_close(features["rc2"], expected, rtol=1e-4, atol=1e-5)


def test_an_unknown_block_is_refused_by_class_name_with_what_to_do():
    class OddBlock(nn.Module):
        pass

    with pytest.raises(LayoutError, match=r"no layout describes .*OddBlock: write a Layout.*adding-a-model"):
        find_layout(OddBlock())


class OddMlp(Mlp):
    pass


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (partial(Block, mlp_layer=OddMlp), "'pre-norm' does not fit: mlp is OddMlp, not Mlp or GluMlp"),
        (partial(Block, mlp_layer=partial(Mlp, use_conv=True)), "mlp.fc1 is Conv2d, not Linear"),
        (partial(ParallelThingsBlock, num_parallel=3), "attns.2 exists; ffns.2 exists"),
        (partial(ParallelThingsBlock, num_parallel=1), "attns.1.attn.proj is missing"),
        (partial(ParallelThingsBlock, mlp_layer=SwiGLU), "ffns.0.mlp is SwiGLU"),
    ],
)
def test_a_block_that_does_not_fit_says_where(block, reason):
    with pytest.raises(LayoutError, match=reason):
        find_layout(block(8, 2))


def test_a_network_without_a_flat_list_of_blocks_is_refused():
    net = nn.Module()
    with pytest.raises(LayoutError, match=r"Module has no list of transformer blocks named 'blocks'$"):
        blocks_of(net)
    net.encoder = nn.Module()
    net.encoder.blocks = nn.Sequential(Block(8, 2))
    with pytest.raises(LayoutError, match=r"there are some at 'encoder\.blocks'"):
        blocks_of(net)
    net.blocks = nn.Sequential(nn.Sequential(Block(8, 2)))
    with pytest.raises(LayoutError, match="grouped in stages"):
        blocks_of(net)


def test_blocks_whose_tokens_cannot_be_pooled_are_refused_for_the_reference_taps_too():
    from timm.models.vision_transformer_sam import VisionTransformerSAM

    net = VisionTransformerSAM(img_size=32, patch_size=8, embed_dim=16, depth=1, num_heads=2, num_classes=0).eval()
    for tap in all_taps(1):
        with pytest.raises(LayoutError, match=r"vision_transformer_sam\.Block\): tokens lie in a grid"):
            TapReader(net, [tap], "mean")
