"""Datasets on disk, measured from end to end."""

from __future__ import annotations

import numpy as np
import pytest

from probebench import DatasetSpec, Tap, run_sweep
from probebench.errors import DataError
from tests.datasets.ondisk import jpeg

TAPS = [Tap(1, "act"), Tap("final", "final")]


def test_a_tiny_cifar10_runs_under_its_name(cifar10):
    result = run_sweep("glyphvit", "cifar10", taps=TAPS, jobs=1, device="cpu")
    assert (result.n_train, result.n_test) == (50, 20)
    assert list(result.taps) == TAPS


@pytest.fixture
def folder(tmp_path):
    for split, count in (("train", 6), ("test", 3)):
        for name, colour in (("dark", 40), ("light", 200)):
            for i in range(count):
                jpeg(tmp_path / split / name / f"{i}.jpg", (colour + 5 * i,) * 3, (30 + i, 40))
    return tmp_path


def test_a_folder_of_images_of_many_sizes_is_told_apart(folder):
    spec = DatasetSpec("mine", "probebench.datasets.folder:image_folder", {"root": str(folder)})
    result = run_sweep("glyphvit_random", spec, taps=TAPS, jobs=1, device="cpu")
    assert all(tap.accuracy == 1 for tap in result.taps.values())
    assert np.array_equal(result.taps[TAPS[0]].correct, [True] * 6)


def test_a_damaged_image_stops_the_sweep_with_its_name(folder):
    path = folder / "test" / "dark" / "1.jpg"
    path.write_bytes(path.read_bytes()[:200])
    spec = DatasetSpec("mine", "probebench.datasets.folder:image_folder", {"root": str(folder)})
    with pytest.raises(DataError, match=r"image .*test/dark/1\.jpg cannot be decoded"):
        run_sweep("glyphvit_random", spec, taps=TAPS, jobs=1, device="cpu")
