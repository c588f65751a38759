from __future__ import annotations

import numpy as np
import pytest

from probebench.catalog import DatasetSpec
from probebench.datasets import load
from probebench.errors import DataError
from probebench.fetch.local import NotOnDisk

IMAGES = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5)
OTHERS = IMAGES + np.uint8(1)
NUMBERS = np.array([0, 1, 2, 1])
NAMES = np.array(["newt", "eft", "newt", "eft"])


@pytest.fixture
def own(tmp_path):
    def save_and_load(**changes):
        arrays = {"x_train": IMAGES, "y_train": NUMBERS, "x_test": OTHERS, "y_test": NUMBERS} | changes
        path = tmp_path / "mine.npz"
        np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
        return load(spec(path))

    return save_and_load


def spec(path):
    return DatasetSpec("mine", "probebench.datasets.arrays:npz", {"path": str(path)})


def test_integers_are_class_numbers(own):
    data = own(y_train=NUMBERS.astype(np.uint8))
    assert list(data.classes) == ["0", "1", "2"]
    assert data.train.labels.tolist() == [0, 1, 2, 1]
    assert np.array_equal(data.test.images, OTHERS)


def test_integers_may_begin_anywhere_and_have_gaps(own):
    data = own(y_train=np.array([1, 2, 10, 2]), y_test=np.array([10, 1, 1, 2]))
    assert list(data.classes) == ["1", "2", "10"]
    assert data.train.labels.tolist() == [0, 1, 2, 1]
    assert data.test.labels.tolist() == [2, 0, 0, 1]


def test_strings_are_class_names(own):
    data = own(y_train=NAMES, y_test=NAMES[:1], x_test=IMAGES[:1])
    assert list(data.classes) == ["eft", "newt"]
    assert data.train.labels.tolist() == [1, 0, 1, 0]
    assert data.test.labels.tolist() == [1]


def test_integers_can_be_named(own):
    data = own(classes=np.array(["a", "b", "c", "d"]))
    assert list(data.classes) == ["a", "b", "c", "d"]
    assert list(own(y_train=NAMES, y_test=NAMES, classes=np.array(["newt", "eft"])).classes) == ["newt", "eft"]


@pytest.mark.parametrize("shape", [(4, 6, 5, 1), (4, 2, 5, 3)])
def test_a_last_axis_of_one_or_three_channels(own, shape):
    data = own(x_train=IMAGES.reshape(shape))
    assert data.train.images.shape == (shape if shape[3] == 3 else shape[:3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": IMAGES / 255}, r"x_train must be uint8 .*got float64 of shape \(4, 6, 5\); store values from 0"),
        ({"x_test": IMAGES.reshape(4, 3, 2, 5)}, r"x_test must .*channels last: x_test.transpose\(0, 2, 3, 1\)"),
        ({"x_test": IMAGES.reshape(4, 30)}, r"x_test must .*got uint8 of shape \(4, 30\); convert them"),
        ({"x_train": IMAGES.astype(int)}, "got int64"),
        (
            {"y_train": NUMBERS[:3]},
            r"y_train must contain integers or strings of shape \(4,\), .*got int64 of shape \(3,\)",
        ),
        ({"y_test": NUMBERS[:, None]}, r"y_test must .*got int64 of shape \(4, 1\)"),
        ({"y_train": NUMBERS / 2}, "y_train must contain integers or strings, .*got float64"),
        ({"y_test": NUMBERS / 2}, "y_test must contain integers or strings .*got float64"),
        ({"y_test": NUMBERS + 1}, "'mine': .*y_test has labels that no training image has: 3; add"),
        ({"y_train": NUMBERS - 1}, "y_train has the label -1; remove images without a class, or use class names"),
        (
            {"y_train": NUMBERS + 1, "classes": np.array(["a", "b", "c"])},
            "'mine', train split: labels run from 1 to 3, outside 0 to 2 for 3 classes; a label is an index .*, from 0",
        ),
        (
            {"y_train": NAMES, "y_test": NAMES[::-1] + np.array("s")},
            "y_test has labels that no training image has: efts, newts",
        ),
        ({"y_test": None}, r"mine\.npz has no y_test \(it has x_train, y_train, x_test\); save it with np\.savez"),
        ({"x_train": None, "train_images": IMAGES}, r"has no x_train \(it has y_train, x_test, y_test, train_images\)"),
        ({"x_train": np.array([IMAGES, None], dtype=object)}, "cannot be read .*contain Python objects, which are"),
        ({"x_test": IMAGES}, "x_test is x_train; use other images for testing"),
        ({"x_test": IMAGES[:0], "y_test": NUMBERS[:0]}, "test split is empty"),
        ({"x_train": IMAGES[:0], "y_train": NUMBERS[:0]}, r"y_train must contain .*got int64 of shape \(0,\)"),
    ],
)
def test_what_is_no_dataset_is_refused_by_name(own, changes, message):
    with pytest.raises(DataError, match=message):
        own(**changes)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_file_that_is_cut_off_is_named(own, tmp_path, share):
    own()
    path = tmp_path / "mine.npz"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=r"dataset 'mine': .*mine\.npz cannot be read .*may be truncated"):
        load(spec(path))


def test_a_missing_file_and_a_single_array_are_named(tmp_path):
    with pytest.raises(NotOnDisk, match=r"file .*none\.npz does not exist; save it with np\.savez"):
        load(spec(tmp_path / "none.npz"))
    np.save(tmp_path / "one.npy", IMAGES)
    with pytest.raises(DataError, match=r"one\.npy contains a single array"):
        load(spec(tmp_path / "one.npy"))
