"""Datasets on disk, measured from end to end."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from probebench import DatasetSpec, Tap, run_sweep
from probebench.datasets import load
from probebench.datasets.dataset import explain_broken
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


def test_all_images_that_cannot_be_read_are_in_one_message(folder):
    spec = DatasetSpec("mine", "probebench.datasets.folder:image_folder", {"root": str(folder)})
    (folder / "train" / "light" / "5.jpg").write_bytes(b"<html>not found</html>")
    Image.new("I;16", (8, 8)).save(folder / "train" / "light" / "deep.png")
    cut = folder / "test" / "dark" / "1.jpg"
    cut.write_bytes(cut.read_bytes()[:200])
    with pytest.raises(DataError) as caught:
        run_sweep("glyphvit_random", spec, taps=TAPS, jobs=1, device="cpu")
    first, *lines = str(caught.value).splitlines()
    assert first == ("3 of 19 images cannot be read; replace them with intact copies, or remove them from the dataset:")
    assert [line.split()[1].removeprefix(str(folder)) for line in lines] == [
        "/train/light/5.jpg",
        "/train/light/deep.png",
        "/test/dark/1.jpg",
    ]
    assert lines[1].endswith("has pixels of mode 'I;16'; convert it to 8 bits per channel")
    # The first image of a split is read before the others.
    (folder / "test" / "dark" / "0.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="4 of 19 images cannot be read"):
        load(spec)


def test_the_search_for_other_images_that_cannot_be_read_ends(folder):
    for path in (folder / "train" / "light").iterdir():
        path.write_bytes(b"")
    data = load(DatasetSpec("mine", "probebench.datasets.folder:image_folder", {"root": str(folder)}))
    first = DataError("the first")
    assert explain_broken([data.train, data.test], first, seconds=-1) is first
    assert str(explain_broken([data.train, data.test], first)).startswith("6 of 18 images cannot be read")
