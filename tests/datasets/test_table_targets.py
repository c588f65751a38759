"""Several labels an image, and real-valued targets, in the columns of a table."""

from __future__ import annotations

import pytest

from probebench.catalog import DatasetSpec
from probebench.datasets import load
from probebench.errors import DataError
from tests.datasets.test_tables import flowers, notes, table, widths

__all__ = ["flowers"]


def read(task, train, test=None, **kwargs):
    given = {"train": train} | ({} if test is None else {"test": test}) | kwargs
    return load(DatasetSpec("d", "probebench.datasets.tables:image_table", given, task=task))


@pytest.mark.parametrize(
    ("lines", "kwargs", "note"),
    [
        (
            ["image,split,red,wet,width", "3,train,1,0,23", "0,train,0,0,20", "4,test,1,1,24", "1,train,1,,21"],
            {},
            "labels are its columns of 0 and 1, red, wet",
        ),
        (["image,split,a,red,wet", "3,train,7,1,0", "0,train,7,0,0", "4,test,7,1,1", "1,train,1,1,-1"],
         {"label": ["red", "wet"]}, None),
    ],
)  # fmt: skip
def test_labels_are_columns(flowers, lines, kwargs, note):
    data = read("multilabel", table(flowers / "t.csv", *lines), **kwargs)
    assert list(data.classes) == ["red", "wet"]
    assert data.train.labels.tolist() == [[1, 0], [0, 0], [1, -1]]
    assert (data.test.labels.tolist(), widths(data.train), widths(data.test)) == ([[1, 1]], [3, 0, 1], [4])
    assert any(note in text for text in notes(data)) if note else not any("labels are" in text for text in notes(data))


def test_labels_are_names_in_one_column(flowers):
    lines = ["image,split,labels", "0,train,wet red", "1,train,red", "2,test,red;wet", "3,train,", "4,test,wet|red"]
    data = read("multilabel", table(flowers / "t.csv", *lines))
    assert list(data.classes) == ["red", "wet"]
    assert data.train.labels.tolist() == [[1, 1], [1, 0], [0, 0]]
    assert data.test.labels.tolist() == [[1, 1], [1, 1]]


def test_targets_are_columns_of_numbers(flowers):
    lines = ["image,split,age,y", "0,train,1.5,4", "1,train,-2,5", "2,test,3e1,6"]
    data = read("regression", table(flowers / "t.csv", *lines), label=["age", "y"])
    assert (list(data.classes), data.train.labels.tolist()) == (["age", "y"], [[1.5, 4.0], [-2.0, 5.0]])
    guessed = read("regression", table(flowers / "t.csv", *lines))
    assert (list(guessed.classes), guessed.test.labels.tolist()) == (["y"], [[6.0]])


def test_json_lines_and_a_drawn_split(flowers):
    lines = [f'{{"image": "{n}", "age": {n}.5}}' for n in range(9)]
    data = read("regression", table(flowers / "t.jsonl", *lines), label="age", test_share=0.3)
    assert (len(data.train), len(data.test)) == (6, 3)
    assert widths(data.test) == [int(age) for (age,) in data.test.labels.tolist()]


@pytest.mark.parametrize(
    ("task", "lines", "kwargs", "said"),
    [
        ("multilabel", ["image,age", "0,3", "1,4"], {}, "no columns of 0 and 1, and none that is named like labels"),
        (
            "multilabel",
            ["image,a,b", "0,1,2", "1,0,1"],
            {"label": ["a", "b"]},
            "line 2: column 'b' holds '2', not 0, 1",
        ),
        ("multilabel", ["image,labels", "0,red", "1,red"], {}, "column 'labels' holds 1 label; two are needed"),
        (
            "regression",
            ["image,age", "0,3", "1,old"],
            {"label": "age"},
            "line 3: column 'age' holds 'old', not a number",
        ),
        ("regression", ["image,age", "0,3", "1,4"], {"label": "aeg"}, "has no column 'aeg'. Did you mean 'age'"),
        (
            "classification",
            ["image,a,b", "0,1,2", "1,0,1"],
            {"label": ["a", "b"]},
            "label names 2 columns; for several",
        ),
    ],
)
def test_what_cannot_be_read_is_said(flowers, task, lines, kwargs, said):
    with pytest.raises(DataError) as caught:
        read(task, table(flowers / "t.csv", *lines), test_share=0.5, **kwargs)
    assert said in str(caught.value)


def test_labels_that_only_test_images_have(flowers):
    train = table(flowers / "train.csv", "image,tags,labels", "0,x,red", "1,x,wet")
    test = table(flowers / "test.csv", "image,labels", "2,blue")
    with pytest.raises(DataError, match="test images have the labels blue, which no training image has"):
        read("multilabel", train, test)
    with pytest.raises(DataError, match=r"test\.csv has no column 'tags'"):
        read("multilabel", train, test, label="tags")
