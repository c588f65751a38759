from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import timm
import torch

from probebench.catalog.taps import Tap
from probebench.datasets import Split
from probebench.errors import ProbebenchError
from probebench.features.cache import key as keys
from probebench.features.cache.key import Key, addresses, key_of
from probebench.models.build import Model, build_model
from tests.features.conftest import KWARGS, SPEC, TAPS, noise


def key(asked):
    return key_of(asked.model, asked.views, asked.settings)


def with_net(asked, **changes):
    return asked.but(model=dataclasses.replace(asked.model, **changes))


def moved(split):
    images = split.images.copy()
    images[7, 3, 3] ^= 1
    return Split(images, split.labels)


def half_precision(asked):
    return asked.but(model=build_model(SPEC, precision="float16"))


# One change for each field of the key, made where a user makes it.
CHANGES = {
    "weights": lambda asked: asked.but(model=build_model(dataclasses.replace(SPEC, seed=1))),
    "architecture": lambda asked: with_net(asked, spec=dataclasses.replace(SPEC, architecture="vit_tiny")),
    "arguments": lambda asked: asked.but(
        model=build_model(dataclasses.replace(SPEC, kwargs=KWARGS | {"num_heads": 4}))
    ),
    "network": lambda asked: with_net(asked, net=torch.nn.Sequential(asked.model.net)),
    "images": lambda asked: asked.but(split=moved(asked.split)),
    "indices": lambda asked: asked.but(indices=np.arange(len(asked.split))[::-1].copy()),
    "view": lambda asked: asked.but(kind="random_resized_crop_flip"),
    "size": lambda asked: asked.but(size=24),
    "interpolation": lambda asked: asked.but(interpolation="bicubic"),
    "pixel_mean": lambda asked: asked.but(mean=0.4),
    "pixel_std": lambda asked: asked.but(std=0.4),
    "pooling": lambda asked: asked.but(pooling="cls"),
    "precision": half_precision,
}


@pytest.mark.parametrize("field", CHANGES)
def test_what_matters_changes_the_key(asked, field):
    before, after = key(asked), key(CHANGES[field](asked))
    assert getattr(before, field) != getattr(after, field)
    assert before.name != after.name


def test_the_seed_counts_for_random_views_only(asked):
    assert key(asked.but(seed=1)) == key(asked)
    drawn = asked.but(kind="random_resized_crop_flip")
    assert key(drawn.but(seed=1)).name != key(drawn).name


def test_versions_of_libraries_change_the_key(asked, monkeypatch):
    before = key(asked)
    monkeypatch.setattr(timm, "__version__", "0.0.1")
    assert key(asked).name != before.name
    assert {"torch", "timm", "torchvision", "pillow", "libjpeg"} <= before.versions.keys()


def test_the_code_that_reads_changes_the_key(asked, monkeypatch):
    before = key(asked)
    monkeypatch.setattr(keys, "EXTRACTION", keys.EXTRACTION + 1)
    assert key(asked).name != before.name
    monkeypatch.undo()
    monkeypatch.setattr(keys, "FORMAT", keys.FORMAT + 1)
    assert key(asked).name != before.name


def test_every_field_counts_and_was_walked_through(asked):
    """A field that is added later is found missing here."""
    elsewhere = {"seed", "versions", "extraction", "format", "device"}
    assert {field.name for field in dataclasses.fields(Key)} == CHANGES.keys() | elsewhere
    before = key(asked)
    for field in dataclasses.fields(Key):
        assert dataclasses.replace(before, **{field.name: "another"}).name != before.name, field.name


def test_what_does_not_matter_does_not_change_the_key(asked):
    same_images = Split(asked.split.images.copy(), asked.split.labels[::-1].copy())
    assert key(asked.but(split=same_images, batch_size=3)) == key(asked)
    assert key(with_net(asked, spec=dataclasses.replace(SPEC, name="renamed"))) == key(asked)
    assert key(asked.but(split=noise(seed=1))) != key(asked)


def test_an_argument_that_says_nothing_of_itself_is_refused(asked):
    spec = dataclasses.replace(SPEC, kwargs=KWARGS | {"norm_layer": lambda width: torch.nn.LayerNorm(width)})
    with pytest.raises(ProbebenchError, match="lambda"):
        key(asked.but(model=Model(spec, asked.model.net, "")))


def test_a_tap_is_known_by_what_is_read_there(asked):
    found = addresses(asked.model, TAPS, "mean")
    assert len(set(found.values())) == len(TAPS)
    assert found[Tap(1, "act")].startswith("L01-act.")
    behind = build_model(dataclasses.replace(SPEC, kwargs=KWARGS | {"global_pool": "avg", "fc_norm": True}))
    changed = addresses(behind, TAPS, "mean")
    assert [tap.id for tap in TAPS if found[tap] != changed[tap]] == ["final", "output"]
