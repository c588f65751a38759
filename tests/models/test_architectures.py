"""Every tap of every covered architecture that timm lists, against the block written out by hand.

Networks are shrunk in width, depth and image, and keep every switch that decides what a block looks like. Weights are
drawn so that no norm is an identity, no bias zero and no layer scale small: a site read in the wrong place differs.
"""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path

import pytest
import timm
import torch
from timm.models.vitamin import VitCfg, VitConvCfg

from probebench.catalog.taps import Tap, all_taps
from probebench.features.hooks import TapReader
from tests.models.by_hand import recompute
from tools.count_architectures import MODULES, architectures, report, survey

DEPTH = 2
EMBED, FINAL, OUTPUT = (Tap(name, name) for name in ("embed", "final", "output"))
INNER = [tap for tap in all_taps(DEPTH) if tap != OUTPUT]
REFUSED = {
    "cait": "Cait .*class token joins behind",
    "convit": "ConVit .*class token joins between",
    "crossvit": "CrossVit .*two streams",
    "gemma4_vit": "Gemma4VitEncoder has no final norm|Gemma4VitClassifier has no list .* at 'encoder.blocks'",
    "qwen3_vit": "Qwen3VitEncoder has no final norm|Qwen3VitClassifier has no list .* at 'encoder.blocks'",
    "tnt": "TNT .*two streams",
    "vision_transformer_sam": "VisionTransformerSAM .*windows",
    "volo": "VOLO has no list of transformer blocks",
    "xcit": "Xcit .*class token joins behind",
}
REFUSED_TOO = {"deepseek_vit_412m", "deepseek_vit_412m_align"}
COVERED = [
    (module, name)
    for module in MODULES
    if module not in REFUSED
    for name in architectures(module)
    if name not in REFUSED_TOO
]


def shrunken(module, name):
    small = {"depth": DEPTH, "embed_dim": 48, "num_heads": 4, "img_size": 64}
    if module == "vitamin":
        convolutions = VitConvCfg(norm_layer="layernorm2d", norm_eps=1e-6)
        small["embed_cfg"] = VitCfg((8, 16, 48), (1, 1, 1), stem_width=8, conv_cfg=convolutions, head_type="1d")
    elif module != "vision_transformer_hybrid":
        small |= {"img_size": 12, "patch_size": 4}
    if name == "vit_base_mci_224":  # its stem fixes the width
        del small["embed_dim"]
    if "sapiens2" in name:
        small["num_kv_heads"] = (4, 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = timm.create_model(name, num_classes=5, **small).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for path, parameter in net.named_parameters():
        if path.startswith(("patch_embed.", "rope.")):
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        if path.endswith("bias") or "lambda" in path:
            parameter.copy_(0.3 * noise)
        elif parameter.ndim == 1:
            parameter.copy_(1 + 0.3 * noise)
        elif parameter.ndim == 2 and path.endswith("weight"):
            parameter.copy_(noise / parameter.shape[1] ** 0.5)
        else:
            parameter.copy_(0.5 * noise)
    return net


def run(net, images, pooling):
    """Features at all taps, what forward_features gave, and for each block what it was called with."""
    calls = []
    handles = [
        block.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
        for block in net.blocks
    ]
    reader = TapReader(net, INNER, pooling)
    with torch.inference_mode(), reader.attached():
        tokens = net.forward_features(images)
        features = dict(zip(reader.taps, reader.collect(), strict=True))
    for handle in handles:
        handle.remove()
    return features, tokens, calls


def close(found, expected, tap):
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=2e-5, msg=lambda text: f"{tap.id}: {text}")


@pytest.mark.parametrize(("module", "name"), COVERED, ids=[name for _, name in COVERED])
def test_every_tap_is_what_recomputing_the_block_gives(module, name):
    net = shrunken(module, name)
    side = 64 if module in ("vitamin", "vision_transformer_hybrid") else 12
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(2))
    features, tokens, calls = run(net, images, "patch_mean")
    prefix = net.num_prefix_tokens
    assert len(calls) == DEPTH
    close(features[EMBED], calls[0][0][0][:, prefix:].mean(1), EMBED)
    for number, ((x, *more), given) in enumerate(calls, start=1):
        assert not more
        block = deepcopy(net.blocks[number - 1]).double()
        for site, expected in recompute(block, x.double(), given).items():
            tap = Tap(number, site)
            close(features[tap], expected[:, prefix:].mean(dim=1), tap)
    after = getattr(net, "fc_norm", torch.nn.Identity())
    close(features[FINAL], after(tokens.flatten(1, -2)[:, prefix:].mean(1)), FINAL)
    reader = TapReader(net, [OUTPUT], "mean")
    with torch.inference_mode(), reader.attached():
        found = reader.read(images)[0]
    if hasattr(net, "reset_classifier"):
        net.reset_classifier(0)
    close(found, net(images) if hasattr(net, "reset_classifier") else tokens.mean(dim=(1, 2)), OUTPUT)
    # Heads that pool by attention, by a projector or over two tokens read more than one pooled vector.
    if getattr(net, "global_pool", "") in ("avg", "token") and not hasattr(net, "head_dist"):
        everything = getattr(net, "pool_include_prefix", False)
        pooling = "cls" if net.global_pool == "token" else "mean" if everything else "patch_mean"
        features, tokens, _ = run(net, images, pooling)
        close(features[FINAL], net.forward_head(tokens, pre_logits=True), FINAL)


@pytest.fixture(scope="module")
def findings():
    return survey()


def test_what_is_covered_is_what_the_test_above_checks(findings):
    assert {(f.module, f.architecture) for f in findings if f.layout} == set(COVERED)


def test_the_others_are_refused_with_a_reason(findings):
    refused = [f for f in findings if f.reason]
    assert {f.module for f in refused} == {*REFUSED, "deepseek_vit"}
    for finding in refused:
        pattern = REFUSED.get(finding.module, "DeepseekVitClassifier has no list .* at 'encoder.blocks'")
        assert re.match(pattern, finding.reason), finding


def test_the_documented_numbers_are_the_counted_ones(findings):
    text = (Path(__file__).parents[2] / "docs" / "architectures.md").read_text(encoding="utf-8")
    if f"\n    timm {timm.__version__}\n" not in text:
        pytest.skip(f"docs/architectures.md counts another timm than {timm.__version__}, which is installed")
    assert report(findings) in text
