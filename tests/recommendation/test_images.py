"""Which reader a folder gets."""

from __future__ import annotations

import os

import pytest

from probebench.catalog import Catalog
from probebench.datasets import load
from probebench.errors import DataError
from probebench.recommendation.images import find_images
from tests.datasets.ondisk import fill


def found(folder):
    """Class names, numbers of training and of test images, and whether a split was drawn."""
    images = find_images(folder, Catalog.default())
    data = load(images.spec)
    return list(data.classes), len(data.train), len(data.test), bool(images.note)


def test_splits_one_step_off_are_those_of_the_user(tmp_path):
    fill(tmp_path / "nested" / "flowers", "Training", ["cat", "dog"], count=3)
    fill(tmp_path / "nested" / "flowers", "valid", ["cat", "dog"], count=1)
    assert found(tmp_path / "nested") == (["cat", "dog"], 6, 2, False)
    for name in ("cat", "dog"):
        fill(tmp_path / "inside", name, ["train"], count=4)
        fill(tmp_path / "inside", name, ["test"], count=1)
    assert found(tmp_path / "inside") == (["cat", "dog"], 8, 2, False)


def test_classes_one_step_off_are_split(tmp_path):
    fill(tmp_path, "flowers/flowers", ["cat", "dog"], count=5)
    (tmp_path / "flowers" / "README.md").write_text("two animals")
    assert found(tmp_path / "flowers") == (["cat", "dog"], 8, 2, True)
    fill(tmp_path / "train_only", "Train", ["cat", "dog"], count=5)
    assert found(tmp_path / "train_only") == (["cat", "dog"], 8, 2, True)
    # A folder beside files that describe images has the images of all classes.
    (tmp_path / "flowers" / "annotations.xml").write_text("<images/>")
    with pytest.raises(DataError, match="has only one class, flowers"):
        found(tmp_path / "flowers")


def test_a_class_may_be_called_train(tmp_path):
    fill(tmp_path, "vehicles", ["car", "train"], count=5)
    assert found(tmp_path / "vehicles") == (["car", "train"], 8, 2, True)


def test_a_folder_whose_name_is_not_utf8_is_read_and_split(tmp_path):
    fill(tmp_path, "x", ["cat", "dog"], count=5)
    os.rename(tmp_path / "x" / "cat", os.fsencode(tmp_path) + b"/x/k\xe4tze")
    assert found(tmp_path / "x") == (["dog", "k\\xe4tze"], 8, 2, True)


def test_labels_of_a_table_are_of_the_task_that_is_asked_for(tmp_path):
    fill(tmp_path, "images", ["a"], count=10)
    rows = [
        f"images/a/{path.name},{i % 2},{i // 5},{i}.5"
        for i, path in enumerate(sorted((tmp_path / "images/a").iterdir()))
    ]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["image,red,wet,y", *rows]))
    images = find_images(table, Catalog.default(), "multilabel")
    assert (images.spec.task, list(load(images.spec).classes)) == ("multilabel", ["red", "wet"])
    assert list(load(find_images(table, Catalog.default(), "regression").spec).classes) == ["y"]
    fill(tmp_path / "flowers", "", ["cat", "dog"], count=5)
    with pytest.raises(DataError, match="class folders have one class an image; for task multilabel, pass a table"):
        find_images(tmp_path / "flowers", Catalog.default(), "multilabel")
    with pytest.raises(DataError, match="digits is a dataset of the catalog, which has a task of its own"):
        find_images("digits", Catalog.default(), "multilabel")
