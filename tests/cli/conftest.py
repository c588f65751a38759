from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from probebench.catalog import Archive, Catalog, DatasetSpec, ModelSpec
from tests.fetch.helpers import KINDS, tar_of

VIT = ModelSpec(
    "vit_x16",
    "vit_tiny_patch16_224.augreg",
    depth=12,
    input_size=224,
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    width=192,
    parameters=5_500_000,
    download_size=22_000_000,
    pretraining="supervised on a set of photographs",
    licence="Apache-2.0",
)


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("PROBEBENCH_DATA", str(folder))
    return folder


@pytest.fixture
def catalog(server, root, monkeypatch) -> Catalog:
    """The real one, a model to download, and three datasets on a server of this machine that share archives."""

    def archive(name, content, makes):
        md5 = hashlib.md5(content).hexdigest()
        return Archive(server.add(name, content), md5, len(content), "set", f"set/{makes}" if makes else "")

    shared = archive("shared.tar.gz", KINDS["a.tar.gz"], "top")
    own = archive("own.tar.gz", tar_of({"own/1": b"1"}, compress=gzip.compress), "own")
    labels = archive("labels.mat", b"labels", "")
    by_hand = Archive("http://127.0.0.1:1/secret.tar", manual="needs an account", makes="secret")
    datasets = [
        DatasetSpec("photos", "m:f", archives=(shared, labels), licence="CC0", note="pictures; 7 train, 5 test"),
        DatasetSpec("drawings", "m:f", archives=(shared, own)),
        DatasetSpec("secret", "m:f", archives=(by_hand,)),
    ]
    base = Catalog.default()
    made = Catalog(base.models, base.datasets, {**base.suites, "both": ("photos", "drawings")}).extend([VIT], datasets)
    monkeypatch.setattr(Catalog, "default", classmethod(lambda cls, **kwargs: made))
    return made
