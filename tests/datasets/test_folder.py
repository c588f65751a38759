from __future__ import annotations

import ast
import os
import re

import pytest
from PIL import ExifTags, Image

from probebench.catalog import DatasetSpec
from probebench.datasets import load
from probebench.errors import DataError
from probebench.fetch.local import NotOnDisk
from tests.datasets.ondisk import fill, jpeg


def own(folder, **kwargs):
    return load(DatasetSpec("mine", "probebench.datasets.folder:image_folder", {"root": str(folder)} | kwargs))


@pytest.fixture
def folder(tmp_path):
    fill(tmp_path, "train", ["cat", "dog", "Emu"], count=3)
    fill(tmp_path, "test", ["cat", "dog", "Emu"])
    return tmp_path


def test_a_folder_of_ones_own(folder):
    data = own(folder)
    assert list(data.classes) == ["Emu", "cat", "dog"]
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert data.test.images.names[:3] == ["test/Emu/0.jpg", "test/Emu/1.jpg", "test/cat/0.jpg"]
    assert data.train.images[8].shape == (16, 20, 3)


def test_a_root_is_relative_to_where_pytest_starts(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert own(folder.name).test.digest == own(folder).test.digest


def test_val_stands_in_for_test_and_can_be_asked_for(folder):
    fill(folder, "val", ["cat"], count=4)
    assert len(own(folder).test) == 6
    assert len(own(folder, test="val").test) == 4
    (folder / "test").rename(folder / "elsewhere")
    assert own(folder).test.labels.tolist() == [1] * 4


def test_endings_in_capitals_and_deeper_folders_count_and_other_files_do_not(folder):
    jpeg(folder / "train" / "cat" / "more" / "IMG.JPG", "red")
    (folder / "train" / "cat" / "notes.txt").write_text("a cat")
    (folder / "train" / "cat" / "._0.jpg").write_bytes(b"left by a Mac")
    (folder / "train" / ".ipynb_checkpoints").mkdir()
    jpeg(folder / "train" / "cat" / ".ipynb_checkpoints" / "0-checkpoint.jpg", "red")
    assert len(own(folder).train) == 10


def sideways(path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (20, 16)).save(path, exif=exif)


def test_photographs_are_turned_unless_the_spec_says_otherwise_or_the_folder_is_published(folder, monkeypatch):
    sideways(folder / "test" / "cat" / "1.jpg")
    assert own(folder).test.images[3].shape == (20, 16, 3)
    assert own(folder, upright=False).test.images[3].shape == (16, 20, 3)
    monkeypatch.setenv("PROBEBENCH_DATA", str(folder.parent))
    published = DatasetSpec("d", "probebench.datasets.folder:published_folder", {"folder": folder.name})
    assert load(published).test.images[3].shape == (16, 20, 3)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_split_folder_is_named(folder, split):
    (folder / split).rename(folder / "other")
    with pytest.raises(NotOnDisk, match=rf"dataset 'mine' is not on this machine: folder .*/{split} does not exist;"):
        own(folder)


@pytest.mark.parametrize("there", ["", "train"])
def test_a_folder_of_classes_is_told_how_it_is_split(folder, there):
    if there:
        (folder / "test").rename(folder.with_name("elsewhere"))
    where = folder / "train"
    with pytest.raises(NotOnDisk, match=rf"If the folders in {where} are classes, split them with") as caught:
        own(folder if there else where)
    reader, kwargs = re.search(r"reader '(.*?)' and kwargs ({.*?})", str(caught.value)).groups()
    data = load(DatasetSpec("d", reader, ast.literal_eval(kwargs) | {"test_every": 3}))
    assert (list(data.classes), len(data.train), len(data.test)) == (["Emu", "cat", "dog"], 6, 3)


def test_a_root_that_is_not_there_or_empty_is_told_so(tmp_path):
    with pytest.raises(NotOnDisk, match=r"folder .*/none/train does not exist;.* Correct `root`"):
        own(tmp_path / "none")
    with pytest.raises(NotOnDisk, match=r"folder .*/train does not exist;.* Create a folder for each split there"):
        own(tmp_path)


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_empty_class_folder_is_named(folder, split):
    for path in (folder / split / "dog").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=rf"class folder .*/{split}/dog has no images .*fill it or remove it"):
        own(folder)


def test_photographs_of_a_kind_that_is_not_read_are_named_not_passed_over(folder):
    (folder / "train" / "dog" / "0.jpg").rename(folder / "train" / "dog" / "0.jfif")
    assert len(own(folder).train) == 9
    (folder / "train" / "dog" / "IMG_1.HEIC").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"folder .*/dog has 1 image in an unsupported format, such as IMG_1.HEIC; convert to .bmp, "
    ):
        own(folder)


def test_splits_of_other_names_are_told_and_never_taken_for_classes(folder):
    (folder / "test").rename(folder / "valid")
    with pytest.raises(NotOnDisk, match=r"It has train and valid: set the one .* {'root': ..., 'test': 'valid'}$"):
        own(folder)
    assert len(own(folder, test="valid").test) == 6
    (folder / "train").rename(folder / "Training")
    with pytest.raises(NotOnDisk, match=r"It has Training and valid: rename them$"):
        own(folder)
    spec = DatasetSpec("d", "probebench.datasets.unsplit:unsplit_folder", {"folder": str(folder), "test_every": 2})
    with pytest.raises(DataError, match=r"the folders in .* have names of splits, .*: Training, valid; name them"):
        load(spec)
    (folder / "cat").mkdir()  # a class beside others may have any name
    jpeg(folder / "cat" / "0.jpg", "red")
    jpeg(folder / "cat" / "1.jpg", "red")
    assert list(load(spec).classes) == ["Training", "cat", "valid"]


def test_images_that_are_not_sorted_into_classes_are_named(folder):
    for path in list((folder / "test").glob("*/*.jpg")):
        path.rename(folder / "test" / f"{path.parent.name}_{path.name}")
    for path in (folder / "test").glob("*/"):
        path.rmdir()
    with pytest.raises(DataError, match=r"/test has no class folders; sort its images"):
        own(folder)


def test_a_class_to_test_that_nothing_trains_is_named(folder):
    (folder / "test" / "cat").rename(folder / "test" / "cats")
    with pytest.raises(DataError, match=r"/test has class folders that .*/train does not have: cats; names must match"):
        own(folder)


def test_a_linked_folder_is_followed(folder, tmp_path_factory):
    link = tmp_path_factory.mktemp("link") / "data"
    os.symlink(folder, link)
    assert len(own(link).train) == 9


def test_a_split_is_not_tested_on_itself(folder):
    with pytest.raises(DataError, match=r"/train is .*/train; use other images for testing"):
        own(folder, test="train")
    (folder / "test").rename(folder / "elsewhere")
    os.symlink(folder / "train", folder / "test")
    with pytest.raises(DataError, match=r"/test is .*/train; use other images for testing"):
        own(folder)


def test_a_published_folder_lies_in_the_data_root(root):
    fill(root / "beans", "train", ["healthy", "rust"])
    fill(root / "beans", "validation", ["healthy", "rust"], count=1)
    kwargs = {"folder": "beans", "test": "validation"}
    data = load(DatasetSpec("beans", "probebench.datasets.folder:published_folder", kwargs))
    assert list(data.classes) == ["healthy", "rust"]
    assert data.test.images.names[0] == "validation/healthy/0.jpg"
