"""The script reads taps with every pooling, what networks return, and concatenations, as probebench does."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from probebench import ModelSpec, Tap, all_taps
from probebench.catalog.protocols import get_protocol
from probebench.catalog.taps import POOLINGS
from probebench.errors import LayoutError
from probebench.features.hooks import TapReader
from probebench.models.build import build_model
from probebench.models.output import output_of
from probebench.models.timm_spec import complete_spec, create_network
from probebench.probes.linear import Linear
from probebench.recommendation import classify
from probebench.recommendation.export import _cut, export
from probebench.recommendation.hook_recipe import recipe
from probebench.recommendation.program import export_program

OUTPUT, FINAL, PAIR, LAST4 = (Tap(name, name) for name in ("output", "final", "pair", "last4"))
SMALL = {"embed_dim": 24, "num_heads": 2}
NETWORKS = {
    "class token and registers": ("vit_small_patch14_reg4_dinov2", {"img_size": 28}),
    "attention pooling": ("vit_base_patch16_siglip_224", {"img_size": 32}),
    "norm behind the pooling": ("vit_tiny_patch16_224", {"img_size": 32, "global_pool": "avg", "fc_norm": True}),
    "two class tokens": ("deit_tiny_distilled_patch16_224", {"img_size": 32}),
}


def built_from_file(kind, folder, depth=2):
    """A network with weights away from the initialisation, where biases are zero and norms the identity."""
    architecture, kwargs = NETWORKS[kind]
    kwargs |= SMALL | {"depth": depth, "num_classes": 0}
    spec = ModelSpec("mine", architecture, weights="random", seed=1, kwargs=kwargs)
    net, generator = create_network(spec), torch.Generator().manual_seed(2)
    noise = {name: 0.2 * torch.randn(value.shape, generator=generator) for name, value in net.named_parameters()}
    save_file(
        net.state_dict() | {name: net.get_parameter(name) + noise[name] for name in noise}, folder / "w.safetensors"
    )
    spec = ModelSpec("mine", architecture, checkpoint=str(folder / "w.safetensors"), kwargs=kwargs)
    return build_model(complete_spec(spec))


def read(net, taps, pooling, images):
    reader = TapReader(net, taps, pooling)
    with torch.inference_mode(), reader.attached():
        return reader.read(images)


def images_for(built):
    size = built.spec.input_size
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(3))


def poolings_of(built):
    """Those that a network has tokens for."""
    return [each for each in POOLINGS if "cls" not in each or getattr(built.net, "cls_token", None) is not None]


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_script_reads_every_tap_with_every_pooling(tmp_path, kind):
    built = built_from_file(kind, tmp_path)
    images, poolings = images_for(built), poolings_of(built)
    taps = all_taps(2, poolings)
    different = set()
    for tap, value in zip(taps, read(built.net, taps, "mean", images), strict=True):
        plan = json.loads(json.dumps(recipe(built.net, [tap], "mean")))
        found = classify.features(built.net, plan, images)
        torch.testing.assert_close(found, value, rtol=1e-5, atol=1e-5, msg=tap.id)
        different.add(found.sum().item())
    ways = len(poolings) if "cls" in poolings else 1  # without prefix tokens, both means are one
    assert len(different) >= ways * 18, "poolings that agree test nothing"
    found = classify.features(built.net, recipe(built.net, [OUTPUT], "mean"), images)
    torch.testing.assert_close(found, built.net(images))


class Encoder(torch.nn.Module):
    """A network of timm that is no classifier."""

    def __init__(self, class_token):
        super().__init__()
        self.cls_token = class_token

    def forward_head(self, tokens, pre_logits=False):
        raise NotImplementedError


@pytest.mark.parametrize("class_token", [None, torch.zeros(1)])
@pytest.mark.parametrize("shape", [(2, 5), (2, 4, 5), (2, 3, 3, 5)])
def test_of_an_encoder_the_script_takes_the_same_output(class_token, shape):
    net, tokens = Encoder(class_token), torch.randn(shape)
    assert classify.output_of(net, tokens).equal(output_of(net, tokens))


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_written_probe_reads_a_pair_up_to_its_deepest_member(tmp_path, kind):
    built = built_from_file(kind, tmp_path)
    images, pooling = images_for(built), poolings_of(built)[-1]
    protocol = get_protocol(f"default@2+{pooling}")
    for members, blocks in (([Tap(1, "act"), Tap(1, "rc2", "mean")], 1), ([Tap(1, "mha"), OUTPUT], 2)):
        whole = built_from_file(kind, tmp_path)
        expected = torch.cat(read(whole.net, members, pooling, images), dim=1)
        width = expected.shape[1]
        zeros = np.zeros(width, np.float32)
        probe = Linear(np.arange(2), zeros, zeros + 1, np.zeros((2, width), np.float32), np.zeros(2, np.float32))
        written = export(whole, None, PAIR, probe, ["a", "b"], protocol, {}, members=members)
        written.write(tmp_path / f"out{blocks}")
        _, about = classify.load_probe(tmp_path / f"out{blocks}" / "probe.safetensors")
        assert (about["tap"], about["members"]) == ("pair", [member.id for member in members])
        net = classify.build(about, tmp_path / f"out{blocks}" / "network.safetensors")
        assert len(net.blocks) == blocks
        torch.testing.assert_close(classify.features(net, about["features"], images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["class token and registers", "norm behind the pooling"])
def test_the_script_reads_the_last_four_blocks(tmp_path, kind):
    built = built_from_file(kind, tmp_path, depth=5)
    images = images_for(built)
    for pooling in POOLINGS:
        # Of final, too, whose hook is on the norm that the blocks go through.
        (expected, final) = read(built.net, [LAST4, FINAL], pooling, images)
        found = classify.features(built.net, recipe(built.net, [LAST4, FINAL], pooling), images)
        torch.testing.assert_close(found, torch.cat([expected, final], dim=1), rtol=1e-5, atol=1e-5, msg=pooling)
    assert _cut(built, [LAST4], get_protocol("default@2")) == 5


def test_a_pair_has_no_recipe_of_its_own(tmp_path):
    built = built_from_file("attention pooling", tmp_path)
    with pytest.raises(LayoutError, match="pair is made of others"):
        recipe(built.net, [PAIR], "mean")


def test_a_program_has_what_a_network_of_another_library_returns_and_every_pooling(tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    from probebench.models import default_catalog
    from tests.models import test_other_code as other
    from tests.models.libraries.test_huggingface import made, saved

    spec = default_catalog().model(saved(made(other.dinov2_registers, transformers), tmp_path / "folder"))
    built = build_model(spec)
    images = images_for(built)[:1]
    taps = [OUTPUT, FINAL, Tap(1, "act", "mean"), Tap(1, "mha", "cls+patch_mean")]
    expected = torch.cat(read(built.net, taps, "patch_mean", images), dim=1)
    program = torch.export.load(io.BytesIO(export_program(built.net, taps, "patch_mean", spec.input_size))).module()
    torch.testing.assert_close(classify.features(program, {}, images), expected, rtol=1e-5, atol=1e-5)
    with torch.inference_mode():
        assert expected[:, :24].allclose(built.net.net(images).pooler_output)
    assert _cut(built, [Tap(1, "act"), OUTPUT], get_protocol("default@2")) == 2
    assert _cut(built, [Tap(1, "act"), Tap(1, "rc2", "cls")], get_protocol("default@2")) == 1
