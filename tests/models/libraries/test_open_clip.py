"""Image towers of open_clip as models: sites by hand, published weights, and files of the user."""

from __future__ import annotations

import json

import pytest
import torch

from probebench import ModelSpec
from probebench.errors import LayoutError, UnknownName, WeightsError
from tests.models.libraries.helpers import IMAGES, Parts, assert_as_by_hand, build, read
from tests.models.test_other_code import shaken

open_clip = pytest.importorskip("open_clip", reason="needs open_clip_torch")

VISION = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
# The text tower has as many blocks of the same width: only the names tell the two apart.
TEXT = {"context_length": 8, "vocab_size": 50, "width": 64, "heads": 2, "layers": 2}


@pytest.fixture(autouse=True)
def tiny(tmp_path):
    """Models that open_clip knows in this test: of plain blocks, and with pooling by attention as in CoCa."""
    known = dict(open_clip.factory._MODEL_CONFIGS)
    for name, more in (("ViT-tiny", {}), ("ViT-tiny-coca", {"attentional_pool": True})):
        config = {"embed_dim": 16, "vision_cfg": VISION | more, "text_cfg": TEXT}
        (tmp_path / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    yield
    open_clip.factory._MODEL_CONFIGS.clear()
    open_clip.factory._MODEL_CONFIGS.update(known)


def made():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return shaken(open_clip.create_model("ViT-tiny", load_weights=False))


def parts(block):
    attend = lambda tokens: block.attn(tokens, tokens, tokens, need_weights=False)[0]  # noqa: E731
    return Parts((block.ln_1, block.ln_2), attend, block.mlp.c_fc, block.mlp.c_proj)


@pytest.mark.parametrize("entries", [lambda state: state, lambda state: {"epoch": 3, "state_dict": state}])
def test_sites_are_those_of_the_block_by_hand(tmp_path, entries):
    model = made()
    torch.save(entries(model.state_dict()), tmp_path / "clip.pt")
    built = build(f"open_clip:ViT-tiny/{tmp_path / 'clip.pt'}")
    visual = model.visual
    assert_as_by_hand(built, visual, visual.transformer.resblocks, parts, visual.ln_post)
    assert built.prefix == "visual."
    assert "token_embedding.weight" in built.left_out
    assert (built.spec.input_size, built.spec.depth, built.spec.width) == (32, 2, 64)
    assert (built.spec.mean, built.spec.interpolation) == (open_clip.OPENAI_DATASET_MEAN, "bicubic")
    assert built.net.num_prefix_tokens == 1


def test_the_class_token_is_the_one_that_open_clip_projects(tmp_path):
    model = made()
    torch.save(model.visual.state_dict(), tmp_path / "visual.pt")
    built = build(f"open_clip:ViT-tiny/{tmp_path / 'visual.pt'}")
    with torch.inference_mode():
        expected = model.visual(IMAGES)
        torch.testing.assert_close(read(built, "cls")["final"] @ model.visual.proj, expected, rtol=1e-4, atol=1e-4)


def test_published_weights_are_named_by_their_tag():
    with pytest.raises(WeightsError, match="run: probebench fetch open_clip:ViT-B-32/laion2b_s34b_b79k"):
        build("open_clip:ViT-B-32/laion2b_s34b_b79k")
    with pytest.raises(UnknownName, match=r"unknown tag of open_clip's ViT-B-32 'laion2b'\. Did you mean"):
        build("open_clip:ViT-B-32/laion2b")
    with pytest.raises(UnknownName, match=r"unknown model of open_clip 'ViT-B-33'\. Did you mean 'ViT-B-32'"):
        build("open_clip:ViT-B-33/openai")


def test_other_networks_are_refused(tmp_path):
    torch.save(made().state_dict(), tmp_path / "clip.pt")
    with pytest.raises(LayoutError, match="it has attn_pool, which the layout 'open_clip' rules out"):
        build(f"open_clip:ViT-tiny-coca/{tmp_path / 'clip.pt'}")
    with pytest.raises(WeightsError, match="no such file"):
        build(f"open_clip:ViT-tiny/{tmp_path / 'none.pt'}")


def test_a_control():
    control = ModelSpec("control", "open_clip:ViT-tiny", weights="random", seed=0)
    assert build(control).weights_digest == build(control).weights_digest
