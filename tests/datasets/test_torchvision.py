"""Tiny files in the formats that torchvision's classes read."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json

import numpy as np
import pytest
import torchvision
from PIL import Image
from scipy.io import savemat

from probebench.catalog import DatasetSpec
from probebench.datasets import load
from probebench.errors import DataError, ProbebenchError
from probebench.fetch.local import NotOnDisk
from tests.datasets.ondisk import CATALOG, jpeg, read


def write_food101(root, counts=(("apple_pie", 3, 2), ("waffles", 2, 1))):
    folder = root / "food-101"
    lists = {"train": {}, "test": {}}
    for name, train, test in counts:
        ids = [f"{name}/{1000 + i}" for i in range(train + test)]
        lists["train"][name], lists["test"][name] = ids[:train], ids[train:]
        for each in ids:
            jpeg(folder / "images" / f"{each}.jpg", "orange")
    (folder / "meta").mkdir(parents=True, exist_ok=True)
    for split, names in lists.items():
        (folder / "meta" / f"{split}.json").write_text(json.dumps(names))
    return folder


def test_food101(root):
    write_food101(root)
    data = read("food101")
    assert list(data.classes) == ["apple pie", "waffles"]
    assert data.train.images.names[0] == "food-101/images/apple_pie/1000.jpg"
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert data.test.labels.tolist() == [0, 0, 1]
    assert data.test.images[2].shape == (16, 20, 3)


def test_stanford_cars(root):
    folder = root / "stanford_cars"
    kind = np.dtype([(name, object) for name in ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")])
    for split, labels, path in (
        ("train", [2, 1, 2], folder / "devkit" / "cars_train_annos.mat"),
        ("test", [1, 2], folder / "cars_test_annos_withlabels.mat"),
    ):
        rows = np.empty((1, len(labels)), dtype=kind)
        for i, label in enumerate(labels):
            rows[0, i] = (1, 1, 9, 9, np.uint8(label), f"{i + 1:05d}.jpg")
            jpeg(folder / f"cars_{split}" / f"{i + 1:05d}.jpg", "red")
        path.parent.mkdir(exist_ok=True)
        savemat(path, {"annotations": rows})
    names = np.array([["AM General Hummer SUV 2000", "Acura RL Sedan 2012"]], dtype=object)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})
    data = read("stanford_cars")
    assert list(data.classes) == ["AM General Hummer SUV 2000", "Acura RL Sedan 2012"]
    assert data.train.labels.tolist() == [1, 0, 1]
    assert data.train.images.names == [f"stanford_cars/cars_train/0000{i}.jpg" for i in (1, 2, 3)]
    assert data.test.labels.tolist() == [0, 1]


def test_fgvc_aircraft_reads_variants_of_trainval(root):
    folder = root / "fgvc-aircraft-2013b" / "data"
    lines = {"trainval": ["0034309 707-320", "1025794 A310"], "test": ["2236289 A310"]}
    for split, each in lines.items():
        for line in each:
            jpeg(folder / "images" / f"{line.split()[0]}.jpg", "white")
        (folder / f"images_variant_{split}.txt").write_text("\n".join(each) + "\n")
    (folder / "variants.txt").write_text("707-320\nA310\n")
    data = read("fgvc_aircraft")
    assert list(data.classes) == ["707-320", "A310"]
    assert data.train.labels.tolist() == [0, 1]
    assert data.test.images.names == ["fgvc-aircraft-2013b/data/images/2236289.jpg"]
    assert CATALOG.dataset("fgvc_aircraft").metric == "mean_per_class"


def write_dtd(root, **lists):
    folder = root / "dtd" / "dtd"
    (folder / "labels").mkdir(parents=True)
    for split, names in lists.items():
        (folder / "labels" / f"{split}1.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            jpeg(folder / "images" / name, "grey")


def test_dtd_joins_train_and_validation_of_its_first_split(root):
    each = {split: [f"{name}/{name}_{i}.jpg" for name in ("banded", "zigzagged")] for i, split in enumerate("abc")}
    write_dtd(root, train=each["a"], val=each["b"], test=each["c"])
    data = read("dtd")
    assert list(data.classes) == ["banded", "zigzagged"]
    assert data.train.images.names[2] == "dtd/dtd/images/banded/banded_1.jpg"
    assert data.train.labels.tolist() == [0, 1, 0, 1]
    assert data.test.labels.tolist() == [0, 1]


def test_parts_whose_labels_mean_other_classes_are_refused(root):
    write_dtd(root, train=["banded/1.jpg", "dotted/1.jpg"], val=["dotted/2.jpg"], test=["banded/3.jpg", "dotted/3.jpg"])
    with pytest.raises(DataError, match=r"dataset 'dtd': the parts of DTD in .* have different classes"):
        read("dtd")


def idx(path, array):
    """The format of MNIST: big-endian sizes after a number for the type and the number of axes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = (8 * 256 + array.ndim).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


@pytest.fixture
def mnist(root):
    folder = root / "MNIST" / "raw"
    for split, count in (("train", 20), ("t10k", 10)):
        images = np.arange(count)[:, None, None] * np.ones((1, 28, 28))
        idx(folder / f"{split}-images-idx3-ubyte", images)
        idx(folder / f"{split}-labels-idx1-ubyte", np.arange(count) % 10)
    return folder


def test_mnist(mnist):
    data = read("mnist")
    assert data.classes[3] == "3 - three"
    assert data.train.images.shape == (20, 28, 28)
    assert data.train.images.dtype == np.uint8
    assert (data.train.images[7] == 7).all()
    assert data.test.labels.tolist() == list(range(10))


def test_an_archive_that_is_still_packed_is_not_there(mnist):
    path = mnist / "t10k-labels-idx1-ubyte"
    (mnist / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    with pytest.raises(NotOnDisk, match=r"torchvision finds no MNIST in .*t10k-labels-idx1-ubyte\.gz is damaged"):
        read("mnist")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train-images-idx3-ubyte", np.zeros((20, 28)), "ValueError: x should have 3 dimension"),
        ("train-labels-idx1-ubyte", np.zeros(19), r"train split: labels must be int64 of shape \(20,\)|no training"),
        ("t10k-labels-idx1-ubyte", np.arange(10) + 3, "test split: labels run from 3 to 12, outside 0 to 9"),
        ("train-labels-idx1-ubyte", np.arange(20) % 9, "no training images for 1 of 10 classes, the first '9 - nine'"),
    ],
)
def test_arrays_of_another_shape_and_labels_that_are_none_are_named(mnist, name, array, message):
    idx(mnist / name, array)
    with pytest.raises(DataError, match=f"dataset 'mnist'.*{message}"):
        read("mnist")


@pytest.mark.parametrize("keep", [0, 3, 100])
def test_arrays_that_are_cut_off_are_named(mnist, keep):
    path = mnist / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"dataset 'mnist': MNIST in .* has a file that is damaged .*unpack"):
        read("mnist")


def write_fer2013(root, monkeypatch, rows, name="fer2013.csv", key="fer"):
    path = root / "fer2013" / name
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(torchvision.datasets.FER2013._RESOURCES, key, (name, digest))


HEAD = ("emotion", "pixels", "Usage")


def face(emotion, usage, pixel=0, count=48 * 48):
    return (emotion, " ".join([str(pixel)] * count), usage)


def test_fer2013(root, monkeypatch):
    rows = [HEAD, *(face(i, "Training", i) for i in range(7)), face(3, "PublicTest", 9), face(6, "PrivateTest", 8)]
    write_fer2013(root, monkeypatch, rows)
    data = read("fer2013")
    assert list(data.classes) == ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    assert data.train.images.shape == (7, 48, 48)
    assert (data.train.images[5] == 5).all()
    assert data.test.labels.tolist() == [3, 6]


def test_fer2013_of_other_content_is_named(root, monkeypatch):
    train = [face(i, "Training") for i in range(7)]
    write_fer2013(root, monkeypatch, [HEAD, *train, face(0, "PublicTest", count=47 * 48)])
    with pytest.raises(DataError, match=r"FER2013 in .* has a file that is damaged or in another format"):
        read("fer2013")
    write_fer2013(root, monkeypatch, [HEAD, *train, face(7, "PublicTest")])
    with pytest.raises(DataError, match="'fer2013', test split: labels run from 7 to 7, outside 0 to 6"):
        read("fer2013")
    monkeypatch.undo()
    monkeypatch.setenv("PROBEBENCH_DATA", str(root))
    with pytest.raises(NotOnDisk, match=r"finds no FER2013 in .*, or it is damaged\. Download https.*kaggle\.com"):
        read("fer2013")


def test_fer2013_without_labels_to_test_is_named(root, monkeypatch):
    write_fer2013(root, monkeypatch, [HEAD[:2], *(face(i, "")[:2] for i in range(7))], "train.csv", "train")
    write_fer2013(root, monkeypatch, [("pixels",), face(0, "")[1:2]], "test.csv", "test")
    with pytest.raises(DataError, match=r"FER2013 in .*labels are object, not integers"):
        read("fer2013")


def write_stl10(root, monkeypatch, labels):
    """Images are planes column by column, labels count from 1."""
    folder = root / "stl10_binary"
    folder.mkdir(exist_ok=True)
    (folder / "class_names.txt").write_text("".join(f"{name}\n" for name in "abcdefghij"))
    lists = {"train": [], "test": []}
    for split, numbers in (("train", range(1, 11)), ("test", labels)):
        images = np.zeros((len(numbers), 3, 96, 96), np.uint8)
        images[:, 0, 5, 2] = 200  # red, column 5, row 2
        images.tofile(folder / f"{split}_X.bin")
        np.array(numbers, np.uint8).tofile(folder / f"{split}_y.bin")
        lists[split] = [f"{split}_X.bin", f"{split}_y.bin"]
    np.zeros((1, 3, 96, 96), np.uint8).tofile(folder / "unlabeled_X.bin")
    lists["train"].append("unlabeled_X.bin")
    for split, names in lists.items():
        sums = [[name, hashlib.md5((folder / name).read_bytes()).hexdigest()] for name in names]
        monkeypatch.setattr(torchvision.datasets.STL10, f"{split}_list", sums)
    return folder


def test_stl10(root, monkeypatch):
    write_stl10(root, monkeypatch, [10, 1])
    data = read("stl10")
    assert list(data.classes) == list("abcdefghij")
    assert data.train.images.shape == (10, 96, 96, 3)
    assert data.train.images[4, 2, 5].tolist() == [200, 0, 0]
    assert data.test.labels.tolist() == [9, 0]


def test_stl10_of_other_content_is_named(root, monkeypatch):
    folder = write_stl10(root, monkeypatch, [0, 11])
    with pytest.raises(DataError, match="'stl10', test split: labels run from 10 to 255, outside 0 to 9"):
        read("stl10")
    (folder / "train_X.bin").write_bytes(b"cut off")
    with pytest.raises(NotOnDisk, match=r"torchvision finds no STL10 in .*, or it is damaged\. Run: probebench fetch"):
        read("stl10")


def ppm(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (15, 15), "red").save(path)


@pytest.fixture
def gtsrb(root):
    """Two tracks of two pictures for each of the 43 signs."""
    folder = root / "gtsrb"
    for sign in range(43):
        for track in range(2):
            for i in range(2):
                ppm(folder / "GTSRB" / "Training" / f"{sign:05d}" / f"{track:05d}_{i:05d}.ppm")
    rows = [["Filename", "Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId"]]
    for i, sign in enumerate([16, 1, 42]):
        ppm(folder / "GTSRB" / "Final_Test" / "Images" / f"{i:05d}.ppm")
        rows.append([f"{i:05d}.ppm", "15", "15", "5", "5", "10", "10", str(sign)])
    (folder / "GT-final_test.csv").write_text("".join(";".join(row) + "\n" for row in rows))
    return folder


def test_gtsrb_keeps_the_pictures_of_one_sign_together(gtsrb):
    data = read("gtsrb")
    assert [data.classes[i] for i in (1, 14, 40)] == ["speed limit 30", "stop", "roundabout"]
    assert data.train.images.names[3] == "gtsrb/GTSRB/Training/00000/00001_00001.ppm"
    assert data.train.labels[:5].tolist() == [0, 0, 0, 0, 1]
    assert data.train.groups[:5].tolist() == [0, 0, 1, 1, 2]
    assert len(set(data.train.groups)) == 86
    assert data.test.labels.tolist() == [16, 1, 42]
    assert data.test.groups is None


def test_a_sign_that_is_missing_does_not_shift_the_labels_of_the_others(gtsrb):
    (gtsrb / "GTSRB" / "Training" / "00007").rename(gtsrb / "elsewhere")
    with pytest.raises(DataError, match=r"GTSRB in .* has no training images for 1 of 43 classes"):
        read("gtsrb")


def test_a_class_folder_without_images_is_named(gtsrb):
    for path in (gtsrb / "GTSRB" / "Training" / "00007").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"dataset 'gtsrb': GTSRB in .*Found no valid file for the classes 00007"):
        read("gtsrb")


def test_country211_joins_train_and_validation(root):
    for split, count in (("train", 2), ("valid", 1), ("test", 1)):
        for name in ("AD", "ZW"):
            for i in range(count):
                jpeg(root / "country211" / split / name / f"{i}.jpg", "blue")
    data = read("country211")
    assert list(data.classes) == ["AD", "ZW"]
    assert data.train.labels.tolist() == [0, 0, 1, 1, 0, 1]
    assert data.test.images.names == ["country211/test/AD/0.jpg", "country211/test/ZW/0.jpg"]


def test_rendered_sst2_joins_train_and_validation(root):
    for split, count in (("train", 2), ("valid", 1), ("test", 1)):
        for name in ("negative", "positive"):
            (root / "rendered-sst2" / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (44, 44), "white").save(root / "rendered-sst2" / split / name / f"{i}.png")
    data = read("rendered_sst2")
    assert list(data.classes) == ["negative", "positive"]
    assert data.train.labels.tolist() == [0, 0, 1, 1, 0, 1]
    assert data.test.images.names[1] == "rendered-sst2/test/positive/0.png"


def write_clevr(root, train, test):
    folder = root / "clevr" / "CLEVR_v1.0"
    (folder / "scenes").mkdir(parents=True)
    for split, counts in (("train", train), ("val", test)):
        (folder / "images" / split).mkdir(parents=True)
        scenes = []
        for i, count in enumerate(counts):
            name = f"CLEVR_{split}_{i:06d}.png"
            Image.new("RGBA", (48, 32), "grey").save(folder / "images" / split / name)
            scenes.append({"image_filename": name, "objects": [{}] * count})
        (folder / "scenes" / f"CLEVR_{split}_scenes.json").write_text(json.dumps({"scenes": scenes}))


def test_clevr_counts_objects(root):
    write_clevr(root, [*range(3, 11)], [4, 10])
    data = read("clevr_counts")
    assert list(data.classes) == ["3", "4", "5", "6", "7", "8", "9", "10"]
    assert data.train.labels.tolist() == list(range(8))
    assert data.test.labels.tolist() == [1, 7]
    assert data.test.images[0].shape == (32, 48, 3)


def test_a_scene_with_another_number_of_objects_is_named(root):
    write_clevr(root, [*range(3, 11)], [2])
    with pytest.raises(DataError, match="'clevr_counts', test split: labels run from -1 to -1, outside 0 to 7"):
        read("clevr_counts")


def test_listed_images_that_are_missing_or_damaged_are_named(root):
    folder = write_food101(root)
    path = folder / "images" / "waffles" / "1002.jpg"
    path.write_bytes(path.read_bytes()[:100])
    data = read("food101")
    with pytest.raises(DataError, match=r"image .*waffles/1002\.jpg cannot be decoded"):
        data.test.images[2]
    path.unlink()
    with pytest.raises(NotOnDisk, match=r"1 of 3 listed images are missing, the first .*waffles/1002\.jpg"):
        read("food101")


def test_lists_that_are_missing_or_damaged_are_named(root):
    folder = write_food101(root)
    (folder / "meta" / "test.json").write_text('{"apple_pie": [')
    with pytest.raises(DataError, match=r"Food101 in .* has a file that is damaged .*\(JSONDecodeError: .*unpack"):
        read("food101")
    (folder / "meta" / "test.json").unlink()
    with pytest.raises(NotOnDisk, match=r"file .*meta/test\.json does not exist\. Run: probebench fetch food101"):
        read("food101")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"of": "Food1O1"}, "has no Food1O1 that takes"),
        ({"of": "Food101", "train": [{"year": 1}]}, "has no Food101 that takes .*'year'"),
    ],
)
def test_what_torchvision_does_not_have_is_named(root, kwargs, message):
    kwargs = {"train": [{}], "test": [{}]} | kwargs
    with pytest.raises(ProbebenchError, match=f"torchvision .* {message}"):
        load(DatasetSpec("d", "probebench.datasets.torchvision:dataset", kwargs))


def test_nothing_is_left_in_the_data_root_by_looking(root):
    for name in CATALOG.dataset_names("clip"):
        with pytest.raises(NotOnDisk):
            read(name)
    assert not list(root.iterdir())
