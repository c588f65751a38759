"""A data root of each test's own, and a tiny CIFAR in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.datasets.ondisk import CIFAR10, batch, python2_pickle


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """The data root, empty."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("PROBEBENCH_DATA", str(folder))
    return folder


@pytest.fixture
def cifar10(root) -> Path:
    """Five batches of 10 images, 20 test images."""
    folder = root / "cifar-10-batches-py"
    for i in range(1, 6):
        python2_pickle(folder / f"data_batch_{i}", batch(range(10), "labels", seed=i))
    python2_pickle(folder / "test_batch", batch(list(range(10)) * 2, "labels", seed=9))
    python2_pickle(folder / "batches.meta", {"num_cases_per_batch": 10, "label_names": CIFAR10, "num_vis": 3072})
    return folder


@pytest.fixture
def cifar100(root) -> Path:
    folder = root / "cifar-100-python"
    for seed, (name, count) in enumerate([("train", 200), ("test", 100)]):
        record = batch([i % 100 for i in range(count)], "fine_labels", seed)
        python2_pickle(folder / name, record | {"coarse_labels": [i % 20 for i in range(count)]})
    meta = {"fine_label_names": [f"fine_{i}" for i in range(100)], "coarse_label_names": ["coarse"] * 20}
    python2_pickle(folder / "meta", meta)
    return folder
