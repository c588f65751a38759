"""Labels that are no single class: how users give them, what is refused, and which images are held out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from probebench.catalog import DatasetSpec
from probebench.catalog.protocols import DEFAULT
from probebench.datasets import Dataset, Split, load
from probebench.datasets.dataset import training_split_for
from probebench.datasets.splits import held_out_part
from probebench.errors import DataError, ProbebenchError, UnknownName

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 8, 8), dtype=np.uint8)
LABELS = np.array([[1, 0], [0, 1], [1, 1], [0, 0], [1, -1], [0, 1]])
AGES = np.array([21.5, 40, 33, 60, 18, 25])


def dataset(labels, task, names=("cat", "dog"), **changes):
    split = Split(IMAGES, labels)
    return Dataset("mine", names, split, split, task, **changes)


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        LABELS.astype(np.int8),
        np.where(LABELS < 0, np.nan, LABELS),
        np.where(LABELS < 0, -1.0, LABELS).astype(np.float32),
    ],
    ids=["int64", "int8", "nan", "float32"],
)
def test_labels_are_kept_as_small_integers(labels):
    data = dataset(labels, "multilabel")
    assert data.train.labels.dtype == data.test.labels.dtype == np.int8
    assert np.array_equal(data.train.labels, LABELS)
    assert data.train.digest == dataset(LABELS, "multilabel").train.digest
    assert np.array_equal(dataset(LABELS == 1, "multilabel").train.labels, LABELS == 1)


@pytest.mark.parametrize("ages", [AGES, AGES[:, None], AGES.astype(np.float32), AGES.astype(int)])
def test_targets_are_kept_as_float64_columns(ages):
    data = dataset(ages, "regression", ["age"])
    assert data.train.labels.dtype == np.float64
    assert data.train.labels == pytest.approx(np.asarray(ages, float).reshape(6, 1))
    assert data.train.digest != dataset(AGES + 1e-9, "regression", ["age"]).train.digest


@pytest.mark.parametrize(
    ("labels", "task", "names", "message"),
    [
        (LABELS, "classification", ("a", "b"), r"got int64 of shape \(6, 2\); for several labels an image, give .*"),
        (AGES, "classification", ("a", "b"), "got float64 .*; for real-valued targets, give .* task='regression'"),
        (LABELS[:, 0], "multilabel", ("a", "b"), r"wanted shape \(6, 2\) for 2 names, got int64 of shape \(6,\)"),
        (LABELS, "multilabel", ("a", "b", "c"), r"wanted shape \(6, 3\) for 3 names"),
        (LABELS + 1, "multilabel", ("a", "b"), "1 if the image has it, 0 .* -1 .*, got 2"),
        (LABELS.astype(str), "multilabel", ("a", "b"), "any number of labels an image: .* got <U"),
        (LABELS.tolist(), "multilabel", ("a", "b"), "got list"),
        (AGES, "regression", ("age", "size"), r"wanted shape \(6, 2\) for 2 names"),
        (AGES[:5], "regression", ("age",), r"wanted shape \(6, 1\) or \(6,\) for 1 name, got float64 of shape \(5,\)"),
        (np.where(AGES > 50, np.nan, AGES), "regression", ("age",), "the target of image 3 is not finite"),
    ],
)
def test_labels_of_another_kind_are_refused(labels, task, names, message):
    with pytest.raises(DataError, match=f"dataset 'mine', train split: .*{message}"):
        dataset(labels, task, names)


def test_a_spec_has_the_metric_of_its_task():
    assert DatasetSpec("d", "m:f").metric == "top1"
    assert DatasetSpec("d", "m:f", task="multilabel").metric == "map"
    assert DatasetSpec("d", "m:f", task="regression").metric == "r2"
    with pytest.raises(ProbebenchError, match="metric of the task regression must be r2, got 'top1'"):
        DatasetSpec("d", "m:f", task="regression", metric="top1")
    with pytest.raises(UnknownName, match=r"unknown task of dataset .d. .multilabels.. .*multilabel"):
        DatasetSpec("d", "m:f", task="multilabels")


@pytest.mark.parametrize(("task", "labels"), [("multilabel", LABELS), ("regression", AGES)])
def test_an_npz_file_has_labels_of_any_task(tmp_path, task, labels):
    path = tmp_path / "mine.npz"
    arrays = {"x_train": IMAGES, "y_train": labels, "x_test": IMAGES[::-1], "y_test": labels[::-1]}
    np.savez(path, **arrays)
    spec = DatasetSpec("mine", "probebench.datasets.arrays:npz", {"path": path}, task=task)
    data = load(spec)
    assert list(data.classes) == (["0", "1"] if task == "multilabel" else ["0"])
    assert np.array_equal(data.test.labels, labels[::-1].reshape(6, -1))
    names = ["cat", "dog"] if task == "multilabel" else ["age"]
    np.savez(path, **arrays, classes=np.array(names))
    assert list(load(spec).classes) == names


def test_a_probe_of_another_dataset_has_its_labels_by_name():
    shifted = dataset(LABELS, "multilabel")
    clean = dataset(LABELS[:, [1, 0, 1]], "multilabel", ("dog", "cat", "cow"))
    assert np.array_equal(training_split_for(shifted, clean).labels, LABELS)
    with pytest.raises(DataError, match="which has no class 'cat', 'dog'"):
        training_split_for(shifted, dataset(LABELS, "multilabel", ("cow", "eel")))
    with pytest.raises(DataError, match=r"'mine' of task 'multilabel' cannot be tested .* 'mine' of task 'regression'"):
        training_split_for(shifted, dataset(AGES, "regression", ["age"]))


def test_a_share_of_every_label_is_held_out():
    rng = np.random.default_rng(1)
    labels = (rng.random((500, 6)) < [0.02, 0.05, 0.1, 0.3, 0.5, 0.9]).astype(np.int8)
    groups = np.arange(500) // 2
    split = Split(np.zeros((500, 4, 4), np.uint8), labels, groups)
    held = held_out_part(split, np.arange(500), DEFAULT)
    assert np.array_equal(held[::2], held[1::2])  # both views of a source
    share = (labels[held] == 1).sum(axis=0) / (labels == 1).sum(axis=0)
    assert ((share > 0.1) & (share < 0.5)).all()
    assert 0.15 < held.mean() < 0.3
    for part in (held, ~held):
        assert (labels[part] == 1).any(axis=0).all()


def test_a_share_of_the_whole_range_of_targets_is_held_out():
    values = np.random.default_rng(2).exponential(size=(400, 1))
    split = Split(np.zeros((400, 4, 4), np.uint8), values)
    held = held_out_part(split, np.arange(400), DEFAULT)
    assert held.mean() == pytest.approx(0.2, abs=0.01)
    tenths = np.argsort(np.argsort(values[:, 0])) // 40
    assert np.bincount(tenths[held], minlength=10).tolist() == [8] * 10
    assert held_out_part(split, np.arange(400), replace(DEFAULT, held_out=None)) is None
