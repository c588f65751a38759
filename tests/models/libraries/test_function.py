"""Networks that a function of the user builds: found in them, checked, read, and refused."""

from __future__ import annotations

import pytest
import torch

from probebench import ModelSpec
from probebench.errors import LayoutError, ProbebenchError, WeightsError
from probebench.models.adapter import Adapter
from probebench.models.layouts import NetworkLayout, _networks, register_layout
from tests.models.libraries.helpers import IMAGES, Parts, assert_as_by_hand, build, read
from tests.models.libraries.networks import Network, around, fixed

PIXELS = {"input_size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}


def spec(function, name="mine", **kwargs):
    return ModelSpec(name, f"tests.models.libraries.networks:{function}", **PIXELS | kwargs)


def parts(block):
    return Parts((block.norm1, block.norm2), block.attn, block.mlp.fc1, block.mlp.fc2, scales=(block.scale, 1))


def test_blocks_with_timms_names_are_read_after_a_check():
    built, net = build(spec("fixed")), fixed().eval()
    assert_as_by_hand(built, net, net.blocks, parts, net.norm)
    assert (built.net.num_prefix_tokens, built.net.num_patches, built.spec.depth, built.spec.width) == (3, 16, 2, 24)
    with torch.inference_mode():
        torch.testing.assert_close(read(built, "cls")["final"], net(IMAGES))


def test_blocks_that_compute_something_else_are_refused():
    with pytest.raises(LayoutError, match=r"networks\.Block have the names .* but its stream is not the sum"):
        build(spec("own", kwargs={"post": True}))


def test_tokens_that_are_not_known_are_not_taken_for_patches():
    with pytest.raises(LayoutError, match=r"of its 19 tokens, 1 are in front .* but 18 patches are no square"):
        build(spec("own", kwargs={"registers": "memory"}))
    layout = NetworkLayout(
        "mine",
        ("tests.models.libraries.networks.Network",),
        "blocks",
        "norm",
        class_token="cls_token",
        other_tokens=("memory",),
    )
    try:
        register_layout(layout)
        register_layout(layout)  # every import of a module does
        assert build(spec("own", kwargs={"registers": "memory"})).net.num_prefix_tokens == 3
        with pytest.raises(ProbebenchError, match="layout 'mine' is registered twice"):
            register_layout(NetworkLayout("mine", ("other.Network",), "blocks", "norm"))
    finally:
        _networks.clear()


def test_a_network_inside_another_module_is_read_as_that_module_runs_it():
    torch.manual_seed(0)
    net = around().eval()
    built = build(spec("around"))
    assert isinstance(built.net, Adapter)
    built.net.net.load_state_dict(net.state_dict())
    with torch.inference_mode():
        expected = net.backbone.forward_features(2 * IMAGES).mean(dim=1)
    torch.testing.assert_close(read(built)["final"], expected, rtol=1e-5, atol=1e-5)


def test_weights_in_a_file_of_their_own(tmp_path):
    torch.save({"model": fixed().state_dict()}, tmp_path / "own.pth")
    built = build(spec("own", checkpoint=str(tmp_path / "own.pth")))
    assert built.entry == "model"
    assert built.weights_digest == build(spec("fixed")).weights_digest
    torch.save(Network(width=32).state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="do not match the architecture"):
        build(spec("own", checkpoint=str(tmp_path / "other.pth")))


def test_a_control_is_untrained():
    trained, control = build(spec("trained")), build(spec("trained", weights="random", seed=0))
    assert trained.weights_digest == build(spec("fixed")).weights_digest != control.weights_digest
    build(spec("own", weights="random", seed=0))  # loads no weights by itself
    with pytest.raises(ProbebenchError, match="returns the same weights whatever the seed, so it is no control"):
        build(spec("fixed", weights="random", seed=0))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (spec("missing"), "cannot be imported .*; architecture is package.module:function"),
        (ModelSpec("mine", "no.such.module:build", **PIXELS), "cannot be imported"),
        (spec("no_network"), r"must return a torch\.nn\.Module, got int"),
        (spec("broken"), r"failed with kwargs \{\} \(RuntimeError: the file of weights is not there\)"),
        (spec("own", kwargs={"depth": 3}), "failed with kwargs .*unexpected keyword argument 'depth'"),
        (spec("own", mean=(), std=()), "does not declare mean, std; set them in its ModelSpec"),
        (spec("around", input_size=40), "the network cannot take images of 40 pixels .*; set input_size"),
    ],
)
def test_what_cannot_be_used_is_refused(given, said):
    with pytest.raises(ProbebenchError, match=said):
        build(given)
