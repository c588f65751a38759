from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from probebench.catalog import DatasetSpec
from probebench.datasets import Dataset, Split, load
from probebench.datasets.dataset import training_split_for
from probebench.errors import DataError, ProbebenchError


def split(n=4, shape=(8, 8), dtype=np.uint8, labels=None):
    labels = np.arange(n, dtype=np.int64) % 2 if labels is None else labels
    return Split(np.zeros((n, *shape), dtype), labels)


GOOD = split()


def test_grey_and_colour_images_are_fine():
    Dataset("d", ["a", "b"], GOOD, split(shape=(8, 8, 3)))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (split(dtype=np.float32), "images must be uint8 .* got float32"),
        (split(shape=(8,)), r"got uint8 of shape \(4, 8\)"),
        (split(shape=(8, 8, 4)), "need 3 channels"),
        (split(labels=np.zeros(3, np.int64)), r"labels must be int64 of shape \(4,\)"),
        (split(labels=np.zeros(4, np.int32)), "labels must be int64"),
        (split(labels=[0, 1, 0, 1]), "labels must be int64 .*, got list"),
        (replace(GOOD, groups=np.zeros(3, np.int64)), r"groups must be an array of shape \(4,\), got int64 .* \(3,\)"),
        (replace(GOOD, groups=[0, 0, 1, 1]), r"groups must be an array of shape \(4,\), got list"),
        (replace(GOOD, images=iter(GOOD.images)), r"images must be an array or support len\(\) and \[index\], got "),
        (split(shape=(0, 8)), r"images have no pixels, got uint8 of shape \(4, 0, 8\)"),
        ((GOOD.images, GOOD.labels), r"must be a Split\(images, labels\), got tuple"),
        (split(n=0), "is empty"),
        (split(labels=np.array([0, 1, 2, 0])), "labels run from 0 to 2, outside 0 to 1"),
        (split(labels=np.array([0, -1, 1, 0])), "labels run from -1"),
    ],
)
@pytest.mark.parametrize("where", ["train", "test"])
def test_anything_else_is_refused_by_name_and_split(bad, message, where):
    with pytest.raises(DataError, match=f"dataset 'd', {where} split.*{message}"):
        Dataset("d", ["a", "b"], **({"train": GOOD, "test": GOOD} | {where: bad}))


def test_classes_are_a_list():
    with pytest.raises(DataError, match="dataset 'd': classes must be a list of names, got int"):
        Dataset("d", 2, GOOD, GOOD)


@pytest.mark.parametrize(("returned", "found"), [(None, "NoneType"), ((GOOD, GOOD), "tuple of 2")])
def test_a_reader_that_returns_something_else_is_named(monkeypatch, returned, found):
    monkeypatch.setitem(globals(), "reader", lambda: returned)
    with pytest.raises(DataError, match=rf"'.*:reader' must return class names, train and test, got {found}$"):
        load(DatasetSpec("d", f"{__name__}:reader"))


def test_the_digest_sees_pixels_labels_and_shape():
    others = [split(n=5), split(shape=(4, 16)), split(labels=np.array([1, 0, 1, 0]))]
    others.append(Split(GOOD.images + np.uint8(1), GOOD.labels))
    assert split().digest == GOOD.digest
    assert len({s.digest for s in [GOOD, *others]}) == 5


@pytest.mark.parametrize("reader", ["no.such.module:f", "probebench.datasets.embedded:nothing", "probebench"])
def test_a_reader_that_does_not_exist_is_named(reader):
    with pytest.raises(ProbebenchError, match=f"dataset 'd': reader '{reader}' cannot be loaded"):
        load(DatasetSpec("d", reader))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({}, "missing a required argument: 'root'"), ({"root": ".", "tset": "val"}, "unexpected keyword argument 'tset'")],
)
def test_arguments_that_a_reader_does_not_take_are_named(kwargs, message):
    with pytest.raises(ProbebenchError, match=f"dataset 'd': reader .*image_folder' cannot be called .*{message}"):
        load(DatasetSpec("d", "probebench.datasets.folder:image_folder", kwargs))


def numbered(labels, first=0):
    """Images that tell by their value which they are."""
    images = np.arange(first, first + len(labels), dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)
    return Split(images, np.array(labels, np.int64))


CLEAN = Dataset("clean", ["cat", "dog", "owl"], replace(numbered([0, 1, 2, 1]), groups=np.arange(4)), GOOD)


def test_a_clean_train_split_gets_the_labels_of_the_shifted_test_split():
    shifted = Dataset("shifted", ["owl", "cat", "dog"], GOOD, numbered([0, 1, 2]))
    train = training_split_for(shifted, CLEAN)
    assert train.labels.tolist() == [1, 2, 0, 2]
    assert train.images is CLEAN.train.images


def test_classes_that_are_not_tested_are_left_out_of_the_clean_train_split():
    shifted = Dataset("shifted", ["owl", "cat"], numbered([0, 1]), numbered([0, 1, 1]))
    train = training_split_for(shifted, CLEAN)
    assert train.labels.tolist() == [1, 0]
    assert [int(train.images[i][0, 0]) for i in range(len(train))] == [0, 2]
    assert train.groups.tolist() == [0, 2]


def test_equal_lists_of_classes_need_no_distinct_names():
    train = numbered([0, 1, 2])
    cranes = [Dataset(name, ["crane", "owl", "crane"], train, numbered([2, 0])) for name in ("clean", "shifted")]
    assert training_split_for(cranes[1], cranes[0]).labels.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["eel", "ant", "cat"], "'clean', which has no class 'eel', 'ant'"),
        (["cat", "owl", "cat"], "'shifted' has two classes 'cat'"),
    ],
)
def test_classes_that_cannot_be_matched_are_named(classes, message):
    shifted = Dataset("shifted", classes, numbered([0, 1, 2]), numbered([0, 1, 2]))
    with pytest.raises(DataError, match=f"dataset 'shifted' cannot be tested with a probe trained on.*{message}"):
        training_split_for(shifted, CLEAN)
