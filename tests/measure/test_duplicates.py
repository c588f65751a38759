"""Images of equal pixels in different files, found by their features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from probebench import DatasetSpec, run_sweep
from probebench.datasets import Split
from probebench.measure import duplicates
from tests.datasets.ondisk import Decoded
from tests.tiny import tiny_model

MODEL = tiny_model(16, patch_size=8, embed_dim=8)


def pixels(number):
    return np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two classes; test has two training images in other formats."""
    for split, first, count in (("train", 0, 12), ("test", 50, 6)):
        for number in range(first, first + count):
            path = tmp_path / split / str(number % 2) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels(number)).save(path)
    Image.fromarray(pixels(4)).save(tmp_path / "test" / "0" / "four.bmp")
    Image.fromarray(pixels(7)).save(tmp_path / "test" / "1" / "seven.webp", lossless=True)
    return tmp_path


def spec(root, **more):
    return DatasetSpec("mine", "probebench.datasets.folder:image_folder", {"root": root}, **more)


def measure(dataset, **more):
    return run_sweep(MODEL, dataset, jobs=1, device="cpu", **more)


@pytest.mark.parametrize("taps", [["final"], ["embed"], ["L02-act"]])
def test_they_are_found_at_any_tap(folder, taps):
    found = measure(spec(folder), taps=taps).duplicates
    assert (found.test_in_train, found.within_train, found.two_labels, found.at_least) == (2, 0, 0, False)
    assert found.examples == {"test_in_train": ("train/0/4.png", "test/0/four.bmp")}


def test_files_of_equal_bytes_count_once(folder):
    (folder / "test" / "0" / "five.png").write_bytes((folder / "train" / "1" / "5.png").read_bytes())
    found = measure(spec(folder), taps=["final"]).duplicates
    assert (found.test_in_train, found.two_labels) == (3, 1)


def test_features_that_agree_are_no_proof(folder, monkeypatch):
    monkeypatch.setattr(duplicates, "ROUNDING", {"fp32": 1e6})
    assert measure(spec(folder), taps=["final"]).duplicates.test_in_train == 2


def test_few_images_are_decoded_again_and_others_may_be_duplicates_too(folder, monkeypatch):
    monkeypatch.setattr(duplicates, "LEAST", 2)
    result = measure(spec(folder), taps=["final"])
    assert (result.duplicates.test_in_train, result.duplicates.at_least) == (1, True)
    assert "images of mine: at least 1 of 8 test images is also" in result.notes[0].text


def test_dropped_images_are_not_trained_on(folder):
    result = measure(spec(folder, duplicates="drop-train"), taps=["final"])
    assert (result.n_train, result.duplicates.test_in_train, result.duplicates.dropped) == (10, 0, 2)
    assert [str(note) for note in result.notes] == ["images of mine: 2 duplicate training images were left out"]


def test_random_crops_are_not_compared(folder):
    found = measure(spec(folder), taps=["final"], protocol="paper@1").duplicates
    assert not found


def decoded():
    """Images that can only be decoded."""
    labels = np.array([0, 1] * 6, dtype=np.int64)
    return ["a", "b"], Split(Decoded(map(pixels, range(12))), labels), Split(Decoded(map(pixels, range(8, 20))), labels)


def test_images_without_bytes_of_their_own_are_compared_by_pixels():
    found = measure(DatasetSpec("lazy", f"{__name__}:decoded"), taps=["final"]).duplicates
    assert (found.test_in_train, found.examples["test_in_train"]) == (4, ("train image 8", "test image 0"))
    kept = replace(DatasetSpec("lazy", f"{__name__}:decoded"), duplicates="drop-train")
    assert measure(kept, taps=["final"]).n_train == 8
