"""What a path holds is found from its files."""

from __future__ import annotations

import numpy as np
import pytest

from probebench.catalog import DatasetSpec
from probebench.datasets import load
from probebench.datasets.recognise import explain_tables, recognise
from probebench.errors import DataError
from tests.datasets.ondisk import encoded, fill, jpeg
from tests.datasets.test_tables import table
from tests.datasets.test_webdataset import shard

SHARE = 0.25


def read(path):
    """The reader's name, its arguments without their folder, the note, and the dataset."""
    found = recognise(path, SHARE)
    assert found is not None
    root = path if path.is_dir() else path.parent
    kwargs = {name: str(value).removeprefix(f"{root}/") for name, value in found.kwargs.items()}
    assert kwargs.pop("test_share", str(SHARE)) == str(SHARE)
    return found.reader.rpartition(".")[2], kwargs, found.note, load(DatasetSpec("d", found.reader, found.kwargs))


@pytest.fixture
def images(tmp_path):
    """images/0.jpg to images/11.jpg."""
    for number in range(12):
        jpeg(tmp_path / "images" / f"{number}.jpg", (20 * number, 100, 100), (10, 8))
    return tmp_path


def rows(first, count, ending=".jpg", separator=","):
    return [f"{number}{ending}{separator}{'ab'[number % 2]}" for number in range(first, first + count)]


def test_a_table_and_a_folder_of_images(images):
    table(images / "train.csv", "image_id,label", *rows(0, 8, ending=""))
    table(images / "test.csv", "image_id", "8", "9")  # as Kaggle has them
    table(images / "sample_submission.csv", "image_id,label", "8,a", "9,a")
    for path in (images, images / "train.csv"):
        reader, kwargs, note, data = read(path)
        assert (reader, kwargs, note) == ("tables:image_table", {"train": "train.csv"}, "")
        assert (len(data.train), len(data.test)) == (6, 2)
    table(images / "Test.csv", "image_id,label", *rows(8, 4, ending=""))
    for path in (images, images / "train.csv"):
        reader, kwargs, note, data = read(path)
        assert kwargs == {"train": "train.csv", "test": "Test.csv"}
        assert note == "trained on train.csv, tested on Test.csv"
        assert (len(data.train), len(data.test)) == (8, 4)


def test_lists_of_vtab(images):
    def write(name, first, count):
        table(images / f"{name}.txt", *(f"images/{row}" for row in rows(first, count, separator=" ")))

    write("train800", 0, 6)
    write("val200", 6, 2)
    assert read(images)[1] == {"train": "train800.txt", "test": "val200.txt"}
    write("train800val200", 0, 8)
    assert read(images)[1] == {"train": "train800val200.txt"}  # val200 is a part of it
    write("test", 8, 4)
    table(images / "README.txt", "Lists of images and their labels.")
    assert read(images)[:3] == (
        "tables:image_table",
        {"train": "train800val200.txt", "test": "test.txt"},
        "trained on train800val200.txt, tested on test.txt",
    )


def test_folders_of_splits_that_hold_images_of_all_classes(images):
    (images / "images").rename(images / "train_images")
    jpeg(images / "test_images" / "x.jpg", "white")
    table(images / "labels.csv", "file,class", *rows(0, 4))
    assert read(images)[1] == {"train": "labels.csv"}


def test_class_folders_are_no_table_although_one_lies_beside_them(tmp_path):
    fill(tmp_path / "one", ".", ["cat", "dog"], count=3)
    fill(tmp_path / "two", "train", ["cat", "dog"], count=3)
    for root in (tmp_path / "one", tmp_path / "two"):
        table(root / "labels.csv", "file,class", "cat/0.jpg,a", "dog/0.jpg,b")
        table(root / "metadata.csv", "owner", "me")
        assert recognise(root, SHARE) is None


def test_hugging_face_metadata(images):
    (images / "images").rename(images / "train")
    table(images / "train" / "metadata.csv", "file_name,label", *rows(0, 8))
    assert read(images)[:3] == ("tables:image_table", {"train": "train/metadata.csv"}, "")
    jpeg(images / "test" / "x.jpg", "white")
    table(images / "test" / "metadata.jsonl", '{"file_name": "x.jpg", "label": "a"}')
    assert read(images)[1] == {"train": "train/metadata.csv", "test": "test/metadata.jsonl"}
    # In the root, also beside folders of classes.
    (images / "train").rename(images / "cat")
    (images / "test").rename(images / "dog")
    table(images / "metadata.csv", "file_name,label", *(f"cat/{row}" for row in rows(0, 8)))
    assert read(images)[1] == {"train": "metadata.csv"}


@pytest.mark.parametrize("place", [".", "data", "default/train"])
def test_parquet_and_what_save_to_disk_writes(tmp_path, place):
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / "train.parquet").touch()
    found = recognise(tmp_path, SHARE)
    assert (found.reader, found.kwargs["repo"]) == ("probebench.datasets.huggingface:dataset", str(tmp_path))
    path = tmp_path / place / "train.parquet"
    assert recognise(path, SHARE).kwargs == {"repo": str(path), "test_share": SHARE}
    path.rename(tmp_path / "dataset_dict.json")
    assert recognise(tmp_path, SHARE) == found


def test_shards(tmp_path):
    members = [
        (f"{n}.{end}", content) for n in range(6) for end, content in (("png", encoded("red")), ("cls", "ab"[n % 2]))
    ]
    shard(tmp_path / "all.tar", *members)
    assert read(tmp_path)[:3] == ("webdataset:shards", {"train": "*.tar"}, "")
    assert read(tmp_path / "all.tar")[1] == {"train": "all.tar"}
    (tmp_path / "all.tar").rename(tmp_path / "train-000.tar")
    shard(tmp_path / "val-000.tar", *members[:4])
    both = (
        "webdataset:shards",
        {"train": "train*.tar", "test": "val*.tar"},
        "trained on train*.tar, tested on val*.tar",
    )
    assert read(tmp_path)[:3] == both
    assert read(tmp_path / "train-{000..000}.tar")[1] == {"train": "train-{000..000}.tar", "test": "val*.tar"}
    for name in ("train", "val"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}-000.tar").rename(tmp_path / name / "0.tar")
    assert read(tmp_path)[:3] == (
        "webdataset:shards",
        {"train": "train", "test": "val"},
        "trained on train, tested on val",
    )


def test_an_archive_that_was_unpacked_is_no_shard(images):
    members = [(f"images/{number}.jpg", (images / "images" / f"{number}.jpg").read_bytes()) for number in range(12)]
    shard(images / "images.tar", *members)
    assert recognise(images, SHARE) is None
    table(images / "labels.csv", "file,class", *rows(0, 12))
    assert read(images)[1] == {"train": "labels.csv"}
    (images / "labels.csv").unlink()
    (images / "cut.tar").write_bytes((images / "images.tar").read_bytes()[:700])
    assert recognise(images, SHARE).kwargs["train"] == str(images / "*.tar")


def test_arrays_and_flat_folders(tmp_path):
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    path = tmp_path / "a" / "newt.npz"
    path.parent.mkdir()
    np.savez(path, x_train=pixels, y_train=[0, 1, 0, 1], x_test=pixels[::-1], y_test=[0, 1, 0, 1])
    assert read(path)[:2] == read(path.parent)[:2] == ("arrays:npz", {"path": "newt.npz"})
    fill(tmp_path / "b", "train", ["cat", "dog"])
    assert recognise(tmp_path / "b", SHARE) is None
    jpeg(tmp_path / "b" / "val" / "x.jpg", "white")
    table(tmp_path / "b" / "val_labels.txt", "dog")
    kwargs = {"root": str(tmp_path / "b"), "key": "val_labels.txt", "test": "val"}
    assert read(tmp_path / "b")[:2] == ("flat:flat_folder", kwargs)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("flowers.zip", r"flowers\.zip is an archive; unpack it, and pass the folder"),
        ("flowers.tar.gz", "is an archive; unpack it"),
        (
            "flowers.h5",
            r"flowers\.h5 is a file of a kind that is not read; pass a folder of images, or one of \.csv, \.tsv",
        ),
    ],
)
def test_files_of_other_kinds_are_refused(tmp_path, name, message):
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=message):
        recognise(tmp_path / name, SHARE)


def test_tables_that_cannot_be_used_say_why(images):
    assert explain_tables(images) is None
    table(images / "labels.csv", "image,edema,mass", "0,1,1", "1,0,1")
    assert recognise(images, SHARE) is None
    assert "labels.csv has 2 columns of 0 and 1, and 1 image with several" in str(explain_tables(images))
    table(images / "labels.csv", "colour", "red")
    assert recognise(images, SHARE) is None
    assert "labels.csv has no column that is named like images are; it has colour" in str(explain_tables(images))
    table(images / "notes.txt", "0.jpg a", "1.jpg b")
    with pytest.raises(DataError, match=r"notes\.txt has no class with two images, so none can be drawn for testing"):
        read(images)
    table(images / "notes.txt", *rows(0, 4, separator=" "))
    assert read(images)[1] == {"train": "notes.txt"}
    table(images / "more.txt", "0.jpg a")
    assert recognise(images, SHARE) is None
    assert "has several tables (more.txt, notes.txt); pass the one to train on, as --data" in str(
        explain_tables(images)
    )
    fill(images, ".", ["cat", "dog"])
    assert explain_tables(images) is None
