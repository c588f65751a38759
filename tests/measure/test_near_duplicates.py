"""Test images that are nearly training images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probebench import DatasetSpec, recommend, run_sweep
from probebench.datasets import Split
from probebench.errors import ProbebenchError
from probebench.measure import near_duplicates
from tests.measure.test_duplicates import MODEL, pixels


def close(count=30):
    """Two test images are training images with one pixel changed; one is a training image."""
    labels = np.arange(count, dtype=np.int64) % 2
    train, test = (np.stack([pixels(first + n) for n in range(count)]) for first in (0, 500))
    for row in (3, 8):
        test[row] = train[row + 1]
        test[row, 0, 0, 0] ^= 32
    test[5] = train[20]
    return ["a", "b"], Split(train, labels), Split(test, labels)


SPEC = DatasetSpec("close", f"{__name__}:close", near_duplicates=0.995)


def test_they_are_counted_and_the_nearest_is_named():
    result = run_sweep(MODEL, SPEC, taps=["L01-act", "final"], jobs=1, device="cpu")
    found = result.near_duplicates
    assert (found.test_near_train, found.tap.id, found.n_test) == (3, "final", 30)
    assert found.example in {("train image 4", "test image 3"), ("train image 9", "test image 8")}
    assert 0.995 <= found.highest < 1
    text = next(str(note) for note in result.notes if "close to" in note.text)
    assert text == (
        "WARNING: images of close: 3 of 30 test images are close to a training image (cosine of 0.995 or more at "
        f"final, features less their mean), such as {' ~ '.join(found.example)} ({found.highest:.3f})"
    )


def test_they_are_the_highest_cosines_however_many_rows_are_compared_at_a_time(monkeypatch):
    rng = np.random.default_rng(0)
    train, test = (rng.standard_normal((count, 6)).astype(np.float32) + 3 for count in (50, 23))
    left, right = (part - train.mean(axis=0) for part in (test, train))
    cosines = (left @ right.T) / np.linalg.norm(left, axis=1)[:, None] / np.linalg.norm(right, axis=1)
    for rows in (7, 1000):
        monkeypatch.setattr(near_duplicates, "_TRAIN_ROWS", rows)
        monkeypatch.setattr(near_duplicates, "_TEST_ROWS", rows)
        for kind in (np.asarray, torch.from_numpy):
            best, where = near_duplicates._nearest(kind(train), kind(test))
            assert np.allclose(best, cosines.max(axis=1), atol=1e-5)
            assert where.tolist() == cosines.argmax(axis=1).tolist()


def test_none_are_looked_for_unless_they_are_asked_for():
    spec = DatasetSpec("close", f"{__name__}:close")
    assert run_sweep(MODEL, spec, taps=["final"], jobs=1, device="cpu").near_duplicates is None
    with pytest.raises(ProbebenchError, match=r"near_duplicates must be a cosine from 0 to 1, got 95"):
        DatasetSpec("d", "a:b", near_duplicates=95)


def test_recommend_says_so_in_its_first_lines():
    spec = DatasetSpec("close", f"{__name__}:close")
    lines = recommend(MODEL, spec, near_duplicates=0.995, jobs=1, device="cpu").lines()
    assert lines[1].startswith("warning   images of close: 1 of 30 test images is also among the training images")
    assert lines[2].startswith("warning   images of close: 3 of 30 test images are close to a training image (cosine")
    kept = recommend(MODEL, spec, duplicates="keep", jobs=1, device="cpu")
    assert kept.warnings == ()
    assert kept.note.startswith("images of close: 1 of 30 test images is also among the training images")
