from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from probebench.catalog.protocols import DEFAULT, FEW_SHOT_4, PAPER, PROTOCOLS, get_protocol
from probebench.errors import ProbebenchError, UnknownName


def test_published_protocols_never_change():
    # Baselines everywhere are tied to these: a change of meaning needs a new version, not a new hash here.
    assert {name: protocol.fingerprint for name, protocol in PROTOCOLS.items()} == {
        "default@2": "74dc88ba92293ed3",
        "few_shot_4@2": "5d0f6adb019f3664",
        "few_shot_16@2": "4918202e820d7931",
        "transfer@2": "65af8408c5c45fc4",
        "attentive@1": "4614b57289c370ae",
        "default@1": "6b0d699d0a9cf28e",
        "paper@1": "c00866c85570afbe",
        "few_shot_4@1": "d63652ef76326aeb",
        "few_shot_16@1": "714e6380d9344460",
        "transfer@1": "70357b0b26931e75",
    }


OTHER = {
    "name": ["other"],
    "train_view": ["random_resized_crop_flip", "resize_center_crop"],
    "test_view": ["random_resized_crop_flip"],
    "pixel_mean": [(0.5, 0.5, 0.5)],
    "pixel_std": [(0.5, 0.5, 0.5)],
    "train_fraction": [0.5],
    "train_multiple": [7],
    "pooling": ["cls"],
    "feature_norm": ["l2", "none"],
    "standardize": [False],
    "probe": ["knn"],
    "C": [2.0],
    "max_iter": [7],
    "precision": ["bfloat16"],
    "selection": ["test", "held_out"],
    "seed": [7],
    "path": [(1.0,)],
    "choice": ["smoothed", None],
    "patience": [2],
    "path_least": [3],
    "path_gap": [1e-3],
    "held_out": [0.5],
    "interpolation": ["model", None],
    "shots": [7],
    "draws": [7],
    "train_on": ["clean"],
    "queries": [7],
    "epochs": [7],
    "epoch_patience": [7],
    "batch": [7],
    "rates": [(0.1,)],
    "weight_decay": [0.7],
}
"""Of each field a value that a protocol may have, and another."""


@pytest.mark.parametrize("protocol", [DEFAULT, PAPER, FEW_SHOT_4], ids=lambda protocol: protocol.name)
@pytest.mark.parametrize("name", [field.name for field in fields(PAPER)])
def test_every_field_changes_the_fingerprint(name, protocol):
    changes = {name: next(value for value in OTHER[name] if value != getattr(protocol, name))}
    if name in ("shots", "draws") and protocol.shots is None:
        changes = {"shots": 7, "draws": 7}  # the two go together
    if name == "queries":
        protocol = replace(protocol, feature_norm="none")  # tokens are not scaled
    assert replace(protocol, **changes).fingerprint != protocol.fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shots": 4}, "shots and draws go together"),
        ({"draws": 5}, "shots and draws go together"),
        ({"shots": 0, "draws": 5}, "shots must be at least 1, got 0"),
        ({"shots": 2, "draws": 0}, "draws must be at least 1, got 0"),
        ({"shots": 1, "draws": 5}, "with one training image per class, none can be held out"),
    ],
)
def test_a_few_shot_protocol_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ProbebenchError, match=f"protocol 'mine': {message}"):
        replace(DEFAULT, name="mine", **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pooling": "max"}, "unknown pooling of protocol 'mine' 'max'. Known: cls, cls[+]patch_mean, mean"),
        ({"pooling": "patch-mean"}, "Did you mean 'patch_mean'"),
        ({"precision": "bf16"}, "unknown precision of protocol 'mine' 'bf16'.*bfloat16"),
        ({"train_view": None}, "unknown train_view of protocol 'mine' None"),
        ({"train_on": "dirty"}, "unknown train_on of protocol 'mine' 'dirty'"),
        ({"held_out": 1.5}, r"'mine': held_out must be between 0 and 1, got 1\.5"),
        ({"held_out": 0}, "'mine': held_out must be between 0 and 1, got 0"),
        ({"path": (1.0, 0.1)}, "'mine': path must be rising values above 0"),
        ({"path": ()}, "'mine': path must be rising values above 0"),
        ({"queries": 0}, "'mine': queries must be at least 1, got 0"),
        ({"rates": (0.1, 0.01)}, "'mine': rates must be rising values above 0"),
        ({"weight_decay": -1.0}, "'mine': weight_decay must not be below 0, got -1"),
        ({"queries": 4, "pooling": "cls"}, "'mine': attention pools .* pooling must be mean or patch_mean, got cls"),
        ({"queries": 4, "feature_norm": "l2"}, "'mine': tokens are not scaled; feature_norm must be none"),
        ({"train_fraction": 80}, "'mine': train_fraction must be above 0 and at most 1, got 80"),
    ],
)
def test_what_no_protocol_can_say_is_refused(changes, message):
    with pytest.raises(ProbebenchError, match=message):
        replace(DEFAULT, name="mine", **changes)


def test_the_paths_of_default_rise_evenly_and_the_second_goes_on_where_the_first_ends():
    first = get_protocol("default@1").path
    assert DEFAULT.path is not None
    assert np.allclose(first, np.logspace(-4, 2, 10), rtol=1e-12)
    assert DEFAULT.path[: len(first)] == first
    assert np.allclose(DEFAULT.path[len(first) :], [10 ** (8 / 3)], rtol=1e-12)


def test_unknown_protocols_get_the_nearest_name():
    with pytest.raises(UnknownName, match="Did you mean 'paper@1'"):
        get_protocol("paper")


@pytest.mark.parametrize("pooling", ["cls", "patch_mean", "cls+patch_mean"])
@pytest.mark.parametrize("name", ["default@2", "paper@1"])
def test_a_pooling_makes_a_protocol_of_its_own(name, pooling):
    found = get_protocol(f"{name}+{pooling}")
    assert found == replace(get_protocol(name), name=f"{name}+{pooling}", pooling=pooling)
    assert found.fingerprint != get_protocol(name).fingerprint
    both = get_protocol(f"{name}+bf16+{pooling}")
    assert both == replace(found, name=f"{name}+bf16+{pooling}", precision="bfloat16")


@pytest.mark.parametrize("name", ["default@2+mean", "default@2+clz", "default@2+cls+bf16", "default@2+bf16+cls+bf16"])
def test_an_unknown_pooling_of_a_protocol_is_refused(name):
    with pytest.raises(UnknownName, match="precision or pooling of protocol default@2"):
        get_protocol(name)
