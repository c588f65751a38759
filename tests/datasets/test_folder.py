from __future__ import annotations

import ast
import os
import re
import shutil
import unicodedata

import pytest
from PIL import ExifTags, Image

from probebench.catalog import DatasetSpec
from probebench.datasets import load
from probebench.errors import DataError
from probebench.fetch.local import NotOnDisk
from tests.datasets.ondisk import fill, jpeg


def own(folder, **kwargs):
    return load(DatasetSpec("mine", "probebench.datasets.folder:image_folder", {"root": str(folder)} | kwargs))


def notes(data):
    return [note.text.removeprefix(f"images of {data.name}: ") for note in data.notes]


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
    assert notes(own(folder)) == [
        "left out 1 other file (train/cat/notes.txt); 3 hidden items (train/.ipynb_checkpoints, ...)"
    ]


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
    with pytest.raises(DataError, match=rf"class folder .*/{split}/dog has no images; fill it or remove it"):
        own(folder)


def test_photographs_of_a_kind_that_is_not_read_are_named_not_passed_over(folder):
    (folder / "train" / "dog" / "0.jpg").rename(folder / "train" / "dog" / "0.jfif")
    assert len(own(folder).train) == 9
    (folder / "train" / "dog" / "IMG_1.HEIC").write_bytes(b"")
    with pytest.raises(
        DataError,
        match=r"has 1 image in an unsupported format, such as train/dog/IMG_1\.HEIC; convert it to .png or .jpg",
    ):
        own(folder)


def test_splits_of_other_names_are_read_and_said_and_never_taken_for_classes(folder):
    (folder / "test").rename(folder / "valid")
    data = own(folder)
    assert (len(data.train), len(data.test), notes(data)) == (9, 6, ["trained on train/ and tested on valid/"])
    assert notes(own(folder, test="valid")) == []
    (folder / "train").rename(folder / "Training")
    assert notes(own(folder)) == ["trained on Training/ and tested on valid/"]
    (folder / "extra").mkdir()
    (folder / "valid").rename(folder / "Testing")
    fill(folder, "val", ["cat"])
    assert notes(own(folder)) == ["trained on Training/ and tested on Testing/; not read: extra/, val/"]
    fill(folder, "dev", ["cat"])
    assert notes(own(folder))[0].endswith("not read: dev/, extra/, val/")
    (folder / "Testing").rename(folder / "elsewhere")
    assert notes(own(folder))[0].startswith("trained on Training/ and tested on val/")
    (folder / "elsewhere").rename(folder / "Testing")
    (folder / "Test").mkdir()
    with pytest.raises(DataError, match=r"has Test and Testing; rename the one to use to test$"):
        own(folder)
    for name in ("Test", "extra", "val", "dev"):
        shutil.rmtree(folder / name)
    (folder / "Testing").rename(folder / "valid")
    spec = DatasetSpec("d", "probebench.datasets.unsplit:unsplit_folder", {"folder": str(folder), "test_every": 2})
    with pytest.raises(DataError, match=r"the folders in .* have names of splits, .*: Training, valid; name them"):
        load(spec)
    (folder / "cat").mkdir()  # a class beside others may have any name
    jpeg(folder / "cat" / "0.jpg", "red")
    jpeg(folder / "cat" / "1.jpg", "red")
    assert list(load(spec).classes) == ["Training", "cat", "valid"]
    with pytest.raises(NotOnDisk, match=r"/tests does not exist; .* set the one .* {'root': ..., 'test': 'valid'}$"):
        own(folder, test="tests")


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


def test_splits_in_the_class_folders_are_read_as_they_are(tmp_path):
    for name in ("cat", "dog"):
        fill(tmp_path, name, ["train"], count=3)
        fill(tmp_path, name, ["test", "val"])
    shutil.rmtree(tmp_path / "dog" / "test")
    data = own(tmp_path)
    assert data.train.images.names[2:4] == ["cat/train/2.jpg", "dog/train/0.jpg"]
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 0, 0, 1, 1, 1], [0, 0])
    assert notes(data) == [
        "trained on train/ and tested on test/ of each class folder; without test images: dog; "
        "not read: cat/val/, dog/val/"
    ]
    unsplit = {"folder": str(tmp_path), "test_every": 2}
    with pytest.raises(DataError, match=r"have splits in them, train/ and test/; the reader '.*:image_folder' reads"):
        load(DatasetSpec("d", "probebench.datasets.unsplit:unsplit_folder", unsplit))


def test_class_folders_that_do_not_all_have_splits_are_classes(tmp_path):
    fill(tmp_path, "cat", ["train", "test"])
    fill(tmp_path, "dog", ["more"], count=4)
    spec = DatasetSpec(
        "d", "probebench.datasets.unsplit:unsplit_folder", {"folder": str(tmp_path), "test_every": 2, "upright": False}
    )
    assert list(load(spec).classes) == ["cat", "dog"]


def test_a_folder_in_a_folder_of_its_own_name_is_read_and_said(folder):
    nested = folder.parent / "nested"
    (nested / "flowers").mkdir(parents=True)
    (nested / "__MACOSX").mkdir()
    for split in ("train", "test"):
        (folder / split).rename(nested / "flowers" / split)
    data = own(nested)
    assert data.test.images.names[0] == "test/Emu/0.jpg"
    assert notes(data) == [f"read from {nested / 'flowers'}"]
    spec = DatasetSpec("d", "probebench.datasets.unsplit:unsplit_folder", {"folder": str(nested), "test_every": 2})
    for split in ("test", "train"):
        shutil.move(nested / "flowers" / split, folder / split)
    for name in ("cat", "dog"):
        (folder / "train" / name).rename(nested / "flowers" / name)
    assert list(load(spec).classes) == ["cat", "dog"]


def test_a_folder_that_links_to_itself_ends(tmp_path):
    os.symlink(tmp_path, tmp_path / "again")
    with pytest.raises(NotOnDisk, match="/train does not exist"):
        own(tmp_path)


@pytest.mark.parametrize(("train", "test"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_in_other_bytes_are_the_same_class(tmp_path, train, test):
    fill(tmp_path, "train", [unicodedata.normalize(train, name) for name in ("Gänse", "Möwe")])
    fill(tmp_path, "test", [unicodedata.normalize(test, name) for name in ("Möwe", "Gänse")])
    data = own(tmp_path)
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 0, 1, 1], [0, 0, 1, 1])
    assert [unicodedata.normalize("NFC", name) for name in data.classes] == ["Gänse", "Möwe"]
    fill(tmp_path, "train", [unicodedata.normalize(test, "Möwe")])
    with pytest.raises(DataError, match=r"has two class folders named M.+we, written in different bytes; merge them"):
        own(tmp_path)


def test_a_class_in_another_spelling_is_named(tmp_path):
    fill(tmp_path, "train", ["sun_flower", "rose", "tulip"])
    fill(tmp_path, "test", ["Sun flower", "Rose", "oak"])
    with pytest.raises(
        DataError,
        match=r"does not have: Rose \(there it is rose\), Sun flower \(there it is sun_flower\), oak; names must match",
    ):
        own(tmp_path)


@pytest.mark.parametrize("unsplit", [False, True])
def test_names_that_are_not_utf8_are_read(tmp_path, unsplit):
    root = os.fsencode(tmp_path)
    for split in (b"train", b"test"):
        for name in (b"g\xe4nse", b"rose"):
            os.makedirs(root + b"/" + split + b"/" + name)
            for number in (b"1", b"\xfc"):
                jpeg(tmp_path / "a.jpg", (len(name), ord(number), len(split)))
                os.rename(root + b"/a.jpg", root + b"/" + split + b"/" + name + b"/" + number + b".jpg")
    if unsplit:
        kwargs = {"folder": str(tmp_path / "train"), "test_every": 2}
        data = load(DatasetSpec("d", "probebench.datasets.unsplit:unsplit_folder", kwargs))
    else:
        data = own(tmp_path)
    assert list(data.classes) == ["g\\xe4nse", "rose"]
    assert data.test.digest
    assert data.train.images[1].shape == (16, 20, 3)
    data.test.images.names[0] += "gone"
    with pytest.raises(DataError, match=r"image .*/g\\xe4nse/.* is missing"):
        data.test.images[0]


def test_all_empty_class_folders_are_in_one_message(folder):
    for name in ("cat", "dog"):
        for path in list((folder / "train" / name).iterdir()):
            path.unlink()
            path.with_suffix(".npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match=r"2 class folders have no images: .*/cat \(only 3 \.npy\), .*/dog .*; fill"):
        own(folder)


def test_archives_are_to_be_unpacked(tmp_path):
    (tmp_path / "train").mkdir()
    fill(tmp_path, "test", ["newt", "eft"])
    (tmp_path / "train" / "images.ZIP").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"train has no class folders; unpack images\.ZIP"):
        load(DatasetSpec("d", "probebench.datasets.folder:image_folder", {"root": tmp_path}))
