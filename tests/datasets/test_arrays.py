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


def test_medmnist_has_names_of_its_own_labels_in_a_column_and_validation_images(tmp_path):
    path = tmp_path / "newtmnist.npz"
    column = NUMBERS.astype(np.uint8)[:, None]
    arrays = {"train": IMAGES, "val": OTHERS[:2], "test": OTHERS}
    images = {f"{split}_images": array for split, array in arrays.items()}
    labels = {f"{split}_labels": column[: len(array)] for split, array in arrays.items()}
    np.savez(path, **images, **labels)
    data = load(spec(path))
    assert list(data.classes) == ["0", "1", "2"]
    assert data.train.labels.tolist() == data.test.labels.tolist() == [0, 1, 2, 1]
    assert np.array_equal(data.test.images, OTHERS)
    assert [note.text for note in data.train.notes] == ["2 images of val_images not used"]


@pytest.mark.parametrize("kind", [np.float64, np.int8, bool])
def test_one_hot_labels_are_classes_and_the_run_says_so(own, kind):
    hot = np.eye(3, dtype=kind)[NUMBERS]
    data = own(y_train=hot, y_test=hot)
    assert data.train.labels.tolist() == [0, 1, 2, 1]
    assert data.train.notes[0].text == "y_train is one-hot: the class of an image is its column with 1"
    assert list(own(y_train=hot, classes=np.array(["a", "b", "c"])).classes) == ["a", "b", "c"]


def test_a_capital_x_is_usual_too(tmp_path):
    np.savez(tmp_path / "x.npz", X_train=IMAGES, y_train=NUMBERS, X_test=OTHERS, y_test=NUMBERS)
    assert np.array_equal(load(spec(tmp_path / "x.npz")).test.images, OTHERS)


def test_strings_stay_as_they_are_written(own):
    names = np.array([b"01", b"1", b"2", b"1"])
    data = own(y_train=names, y_test=names.astype(str))
    assert (list(data.classes), data.test.labels.tolist()) == (["01", "1", "2"], [0, 1, 2, 1])


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
        (
            {"y_test": NUMBERS[:, None] + [0, 5]},
            r"y_test must .* one class per image, got int64 of shape \(4, 2\)$",
        ),
        ({"y_train": NUMBERS / 2}, "y_train must contain integers or strings .*got float64"),
        ({"y_train": NUMBERS / 1}, r"y_train must .*got float64 .*; convert them with y_train\.astype\(int\)"),
        ({"y_train": np.eye(3)[[0, 1, 2, 1]] + [0, 0, 1]}, r"y_train must .* shape \(4, 3\)$"),
        (
            {"y_train": np.maximum(np.eye(3)[[0, 1, 2, 1]], [0, 0, 1])},
            r"y_train must .* got float64 of shape \(4, 3\) in which image 0 has 2 classes",
        ),
        ({"y_train": np.eye(3, 4, dtype=bool)[[0, 1, 2, 1]] * [True, False, True, True]}, "image 1 has 0 classes"),
        (
            {"x_train": np.zeros((4, 3, 6, 5), np.float32)},
            r"got float32 of shape \(4, 3, 6, 5\); move .*transpose\(0, 2, 3, 1\), and store values .* \* 255\)",
        ),
        ({"x_train": np.zeros((4, 6, 5, 7), np.uint8)}, r"take one slice, or three channels, of each image"),
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
        ({"x_train": None, "mine": IMAGES}, r"has no x_train \(it has y_train, x_test, y_test, mine\)"),
        ({"y_train": NAMES.astype(object)}, r"contain Python objects, .*such as labels\.astype\(str\)"),
        ({"y_train": np.array(["01", "1", "01", "1"]), "y_test": np.array(["1", "001", "1", "1"])}, "no train.*: 001"),
        ({"x_train": np.array([IMAGES, None], dtype=object)}, "cannot be read .*contain Python objects, which are"),
        ({"x_test": IMAGES}, "x_test is x_train; use other images for testing"),
        ({"x_test": IMAGES[:0], "y_test": NUMBERS[:0]}, "test split is empty"),
        ({"x_train": IMAGES[:0], "y_train": NUMBERS[:0]}, "y_train has no labels; a probe needs training"),
        (
            {"y_train": NAMES, "y_test": NUMBERS},
            "y_test contains integers but y_train contains names; use names in both",
        ),
        ({"y_train": NUMBERS, "y_test": NAMES}, "y_train contains integers but y_test contains names"),
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
