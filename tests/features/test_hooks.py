from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from probebench.catalog.taps import SITES, Tap, all_taps
from probebench.errors import LayoutError
from probebench.features.hooks import TapReader
from probebench.features.pooling import TokenPooling

DEPTH = 3
KWARGS = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": DEPTH, "num_heads": 2, "num_classes": 0}


def make_net(**kwargs):
    torch.manual_seed(0)
    net = VisionTransformer(**(KWARGS | kwargs)).eval().requires_grad_(False)
    for name, parameter in net.named_parameters():
        # Away from the initialisation, where biases are zero and norms are the identity.
        if name.endswith("bias") or "norm" in name or "ls" in name:
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return net


def recompute(net, images):
    """Tokens at every tap, written out from the definition of a pre-norm block, in float64."""
    net = net.double()
    x = net.norm_pre(net.patch_drop(net._pos_embed(net.patch_embed(images.double()))))
    tokens = {Tap("embed", "embed"): x}
    for number, block in enumerate(net.blocks, start=1):
        ln1 = torch.nn.functional.layer_norm(x, x.shape[-1:], block.norm1.weight, block.norm1.bias, block.norm1.eps)
        batch, length, width = ln1.shape
        heads = block.attn.num_heads
        qkv = ln1 @ block.attn.qkv.weight.T + block.attn.qkv.bias
        q, k, v = qkv.view(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-1, -2) / (width // heads) ** 0.5).softmax(-1)
        mixed = (scores @ v).transpose(1, 2).reshape(batch, length, width)
        mha = mixed @ block.attn.proj.weight.T + block.attn.proj.bias
        rc1 = x + mha * getattr(block.ls1, "gamma", 1.0)
        ln2 = torch.nn.functional.layer_norm(rc1, x.shape[-1:], block.norm2.weight, block.norm2.bias, block.norm2.eps)
        fc1 = ln2 @ block.mlp.fc1.weight.T + block.mlp.fc1.bias
        act = 0.5 * fc1 * (1 + torch.erf(fc1 / 2**0.5))
        fc2 = act @ block.mlp.fc2.weight.T + block.mlp.fc2.bias
        x = rc1 + fc2 * getattr(block.ls2, "gamma", 1.0)
        values = (ln1, mha, rc1, ln2, fc1, act, fc2, x)
        tokens |= {Tap(number, site): value for site, value in zip(SITES, values, strict=True)}
    tokens[Tap("final", "final")] = net.norm(x)
    return tokens


def pooled(net, images, taps, pooling):
    reader = TapReader(net, taps, pooling)
    with torch.inference_mode(), reader.attached():
        return dict(zip(reader.taps, reader.read(images), strict=True))


POOLS = {
    "mean": lambda t: t.mean(1),
    "patch_mean": lambda t: t[:, 1:].mean(1),
    "cls": lambda t: t[:, 0],
    "cls+patch_mean": lambda t: torch.cat([t[:, 0], t[:, 1:].mean(1)], dim=1),
}
OUTPUT = Tap("output", "output")


@pytest.mark.parametrize("pooling", POOLS)
@pytest.mark.parametrize("kwargs", [{}, {"init_values": 0.1}, {"qkv_bias": True, "pre_norm": True}], ids=str)
def test_every_tap_is_what_recomputing_the_block_gives(pooling, kwargs):
    images = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    found = pooled(make_net(**kwargs), images, all_taps(DEPTH), pooling)
    expected = recompute(make_net(**kwargs), images)
    assert found.keys() == {*expected, OUTPUT}
    for tap, tokens in expected.items():
        torch.testing.assert_close(found[tap], POOLS[pooling](tokens).float(), rtol=2e-5, atol=2e-6, msg=tap.id)


def test_a_subset_of_taps_gives_the_same_bits_as_all_of_them():
    net, images = make_net(), torch.randn(4, 3, 16, 16)
    everything = pooled(net, images, all_taps(DEPTH), "mean")
    for tap in all_taps(DEPTH):
        assert pooled(net, images, [tap], "mean")[tap].equal(everything[tap]), tap.id


def test_final_is_normalised_after_pooling_where_the_network_does_so():
    net, images = make_net(global_pool="avg", fc_norm=True), torch.randn(4, 3, 16, 16)
    tap = Tap("final", "final")
    tokens = net.double().forward_features(images.double())
    expected = net.fc_norm(tokens[:, 1:].mean(1)).float()
    torch.testing.assert_close(pooled(net.float(), images, [tap], "patch_mean")[tap], expected, rtol=1e-5, atol=1e-6)


def test_a_bfloat16_network_gives_float32_features_close_to_the_exact_ones():
    images = torch.randn(4, 3, 16, 16)
    found = pooled(make_net().bfloat16(), images.bfloat16(), all_taps(DEPTH), "mean")
    for tap, exact in pooled(make_net(), images, all_taps(DEPTH), "mean").items():
        assert found[tap].dtype == torch.float32
        assert (found[tap] - exact).norm() < 0.03 * exact.norm(), tap.id


def test_hooks_are_gone_afterwards_also_after_an_error():
    net = make_net()
    with pytest.raises(RuntimeError, match="stop"), TapReader(net, all_taps(DEPTH), "mean").attached():
        raise RuntimeError("stop")
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize("pooling", ["cls", "cls+patch_mean"])
def test_pooling_the_class_token_needs_one(pooling):
    net = make_net(class_token=False, global_pool="avg")
    with pytest.raises(LayoutError, match="VisionTransformer has no class token"):
        TapReader(net, [Tap(1, "act")], pooling)
    with pytest.raises(LayoutError, match="VisionTransformer has no class token"):
        TapReader(net, [Tap(1, "act", pooling)], "mean")
    TapReader(net, [OUTPUT], pooling)


def test_registers_count_as_prefix_and_are_no_class_token():
    net = make_net(class_token=False, reg_tokens=3, global_pool="avg")
    tokens = torch.randn(2, 7, 24)
    found = TokenPooling(net).pool(tokens, ["patch_mean"])["patch_mean"]
    torch.testing.assert_close(found, tokens[:, 3:].mean(1))
    assert not TokenPooling(net).has_class_token


def test_several_poolings_in_one_pass_are_those_of_a_pass_each():
    net, images = make_net(), torch.randn(4, 3, 16, 16)
    taps = all_taps(DEPTH, ("patch_mean", "cls", "cls+patch_mean"))
    assert len(taps) == 4 * (8 * DEPTH + 2) + 1
    found = pooled(net, images, taps, "mean")
    for tap in taps:
        if tap.pooling:
            alone = pooled(net, images, [tap.plain], tap.pooling)[tap.plain]
            torch.testing.assert_close(found[tap], alone, rtol=1e-6, atol=1e-6, msg=tap.id)


@pytest.mark.parametrize(
    "kwargs", [{"global_pool": pool} for pool in ("token", "avg", "map", "avgmax", "max")], ids=str
)
def test_output_is_what_timm_returns_without_a_classifier(kwargs):
    net, images = make_net(**kwargs), torch.randn(4, 3, 16, 16)
    found = pooled(net, images, [OUTPUT], "mean")[OUTPUT]
    net.reset_classifier(0)
    assert found.equal(net(images))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("fc_norm", [False, True])
def test_last4_is_the_last_four_blocks_behind_the_final_norm(pooling, fc_norm):
    net = make_net(depth=6, global_pool="avg" if fc_norm else "token", fc_norm=fc_norm)
    images, tap = torch.randn(4, 3, 16, 16), Tap("last4", "last4")
    layers = net.forward_intermediates(images, indices=4, norm=True, output_fmt="NLC", return_prefix_tokens=True)[1]
    expected = [net.fc_norm(POOLS[pooling](torch.cat([prefix, patches], dim=1))) for patches, prefix in layers]
    found = pooled(net, images, [tap, Tap("final", "final")], pooling)
    torch.testing.assert_close(found[tap], torch.cat(expected, dim=1), rtol=1e-5, atol=1e-6)
    final = found[Tap("final", "final")]
    assert final.equal(found[tap][:, -final.shape[1] :])


def test_last4_needs_four_layers():
    with pytest.raises(LayoutError, match="last4: VisionTransformer has only 3 layers"):
        TapReader(make_net(), [Tap("last4", "last4")], "mean")


def test_pairs_are_not_read_from_a_network():
    with pytest.raises(LayoutError, match="pair is made of others"):
        TapReader(make_net(), [Tap("pair", "pair")], "mean")


def test_final_needs_a_final_norm():
    net = make_net()
    del net.norm
    with pytest.raises(LayoutError, match="VisionTransformer has no final norm"):
        TapReader(net, [Tap("final", "final")], "mean")


def test_tokens_in_a_grid_are_refused():
    net = make_net()
    net.norm = torch.nn.Unflatten(1, (1, -1))
    with pytest.raises(LayoutError, match=r"shape \(batch, tokens, width\)"):
        pooled(net, torch.zeros(2, 3, 16, 16), [Tap("final", "final")], "mean")


def test_a_network_in_training_mode_is_refused():
    with pytest.raises(LayoutError, match="training mode"):
        TapReader(make_net(patch_drop_rate=0.5).train(), all_taps(DEPTH), "mean")


def test_a_layer_that_the_network_does_not_have_is_refused():
    with pytest.raises(LayoutError, match="L09-act: the network has 3 layers"):
        TapReader(make_net(), [Tap(9, "act")], "mean")


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork and the malloc of Linux")
def test_memory_does_not_grow_with_taps_times_tokens(warm):
    # All taps keep 12 x (6 + 2 x 4) token tensors of 64 x 65 x 64 float32, 180 MB, if tokens are kept.
    command = [sys.executable, "-m", "tests.features.peaks"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    peak = {name: float(size) for name, size in map(str.split, out.stdout.splitlines())}
    assert peak["all"] - peak["one"] < 30, peak
