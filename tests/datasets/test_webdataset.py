from __future__ import annotations

import hashlib
import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from PIL import ExifTags, Image

from probebench.catalog import DatasetSpec
from probebench.datasets import load
from probebench.errors import DataError
from probebench.fetch.local import NotOnDisk
from tests.datasets.ondisk import encoded

RED, BLUE = encoded((200, 0, 0)), encoded((0, 0, 200), kind="JPEG")


def shard(path, *members):
    """A tar file with members, each a name and bytes or a text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            data = content if isinstance(content, bytes) else content.encode()
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def read(train, test=None, **kwargs):
    given = {"train": str(train)} | ({} if test is None else {"test": str(test)}) | kwargs
    return load(DatasetSpec("d", "probebench.datasets.webdataset:shards", given))


def notes(data):
    return [note.text for note in data.train.notes]


@pytest.fixture
def newts(tmp_path):
    """Two shards of two images to train on, and one shard of one to test on."""
    shard(tmp_path / "train-00.tar", ("a.png", RED), ("a.cls", "10"), ("b.jpg", BLUE), ("b.cls", "9\n"))
    shard(tmp_path / "train-01.tar", ("./c.cls", "9"), ("./c.JPG", BLUE), ("./d.png", RED), ("./d.cls", "10"))
    shard(tmp_path / "test-00.tar", ("x/e.png", RED), ("x/e.cls", "10"))
    return tmp_path


@pytest.mark.parametrize("train", ["train-*.tar", "train-{00..01}.tar", "train-{00,01}.tar", "train-0?.tar"])
def test_shards_of_images_and_labels(newts, train):
    data = read(newts / train, newts / "test-00.tar")
    assert list(data.classes) == ["9", "10"]
    assert data.train.labels.tolist() == [1, 0, 0, 1]
    assert [image[4, 4, 0] > 190 for image in data.train.images] == [True, False, False, True]
    assert data.test.labels.tolist() == [1]
    assert notes(data) == [f"labels of {newts / train} are in its files .cls, guessed"]
    assert pickle.loads(pickle.dumps(data.train.images))[3].shape == (9, 12, 3)


def test_a_folder_of_shards_with_the_names_of_classes(newts):
    (newts / "train").mkdir()
    for number in (0, 1):
        (newts / f"train-0{number}.tar").rename(newts / "train" / f"{number}.tar")
    (newts / "test-00.tar").rename(newts / "test.tar")
    names = [f"class {number}" for number in range(11)]
    (newts / "classnames.txt").write_text("\n".join(names))
    data = read(newts / "train", newts / "test.tar")
    assert list(data.classes) == names
    assert data.train.labels.tolist() == [10, 9, 9, 10]
    assert notes(data)[1] == f"names of classes are those of {newts / 'classnames.txt'}"
    own = read(newts / "train", newts / "test.tar", classes=[str(number) for number in range(12)])
    assert len(own.classes) == 12


def test_labels_in_json_and_in_texts(tmp_path):
    about = [json.dumps({"caption": "an eft", "label": label}) for label in ("01", 1)]
    shard(tmp_path / "t.tar", ("a.png", RED), ("a.json", about[0]), ("b.png", BLUE), ("b.json", about[1]))
    shard(tmp_path / "u.tar", ("a.png", RED), ("a.json", about[0]), ("a.txt", "eft"))
    data = read(tmp_path / "t.tar", tmp_path / "u.tar")
    assert (list(data.classes), data.test.labels.tolist()) == (["01", "1"], [0])
    assert notes(data) == [f"labels of {tmp_path / 't.tar'} are in its files .json:label, guessed"]
    with pytest.raises(DataError, match=r"t\.tar: sample a has no label \.txt, but png, json; add it, or remove"):
        read(tmp_path / "t.tar", tmp_path / "u.tar", label="txt")
    named = read(tmp_path / "t.tar", tmp_path / "u.tar", label="json:caption")
    assert (list(named.classes), notes(named)) == (["an eft"], [])


def test_a_test_part_is_drawn_where_that_is_asked_for(newts):
    with pytest.raises(DataError, match=r"name the test shards with test = '\.\.\.', or set test_share = 0.2"):
        read(newts / "train-*.tar")
    data = read(newts / "train-*.tar", test_share=0.5)
    assert sorted([*data.train.labels.tolist(), *data.test.labels.tolist()]) == [0, 0, 1, 1]
    assert sorted(data.test.labels.tolist()) == [0, 1]
    for split in (data.train, data.test):
        assert [image[4, 4, 0] > 190 for image in split.images] == (split.labels == 1).tolist()
    assert "has no test split: 50% of the images of each class" in notes(data)[1]


def test_photographs_are_turned_and_the_digest_sees_it_and_bytes_labels_and_order(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stream = io.BytesIO()
    Image.new("RGB", (12, 9), "red").save(stream, "JPEG", exif=exif)
    digests = []
    for members in (
        [("a.jpg", stream.getvalue()), ("a.cls", "0"), ("b.png", RED), ("b.cls", "1")],
        [("b.png", RED), ("b.cls", "1"), ("a.jpg", stream.getvalue()), ("a.cls", "0")],
        [("a.jpg", BLUE), ("a.cls", "0"), ("b.png", RED), ("b.cls", "1")],
        [("a.jpg", stream.getvalue()), ("a.cls", "1"), ("b.png", RED), ("b.cls", "0")],
    ):
        path = shard(tmp_path / "t.tar", *members)
        data = read(path, shard(tmp_path / "u.tar", *members))
        digests.append(data.train.digest)
        if not digests[1:]:
            assert data.train.images[0].shape == (12, 9, 3)
            as_stored = read(path, tmp_path / "u.tar", upright=False)
            assert as_stored.train.images[0].shape == (9, 12, 3)
            digests.append(as_stored.train.digest)
    assert len(set(digests)) == 5


def test_bytes_are_compared_without_names_and_turning(newts):
    images = read(newts / "train-*.tar", newts / "test-00.tar").train.images
    first, second, third = images.digests(np.array([0, 3, 1]))
    assert first == second != third
    assert first == hashlib.sha256(RED).digest()


def test_samples_without_an_image_are_counted(tmp_path):
    path = shard(tmp_path / "t.tar", ("a.txt", "no image"), ("b.png", RED), ("b.cls", "0"), ("._b.png", b"of a Mac"))
    data = read(path, shard(tmp_path / "u.tar", ("b.png", BLUE), ("b.cls", "0")))
    assert len(data.train) == 1
    assert f"{path}: 1 sample without an image left out" in notes(data)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.png", RED)], r"sample a has png, but no label \(cls, .*\); name the ending .* label = 'txt' .* unpack"),
        ([("a.png", RED), ("a.json", "{}")], "sample a has png, json, but no label"),
        ([("a.png", RED), ("a.json", "{")], r"the \.json of sample a is not JSON"),
        ([("a.png", RED), ("a.cls", " ")], r"sample a has an empty label \.cls; fill it, or remove"),
        (
            [("a.png", RED), ("a.json", '{"label": [0, 1]}')],
            "sample a has several values under 'label'; a probe needs one",
        ),
        ([("a.png", RED), ("a.cls", "0"), ("b.png", RED)], r"sample b has no label \.cls, but png; add it"),
        (
            [("a.png", RED), ("a.mask.png", RED), ("a.cls", "0")],
            r"sample a has 2 images \(png, mask\.png\); keep one .* at its first dot",
        ),
        ([("a.txt", "0"), ("a.cls", "0")], "has no images"),
        ([("a.png", RED), ("a.cls", "-1")], r"t\.tar has the label -1; remove images without a class"),
    ],
)
def test_what_is_no_shard_of_labelled_images_is_refused(tmp_path, members, message):
    path = shard(tmp_path / "t.tar", *members)
    with pytest.raises(DataError, match=message):
        read(path, shard(tmp_path / "u.tar", ("b.png", BLUE), ("b.cls", "0")))


def test_shards_that_cannot_be_read_are_named(newts):
    test = newts / "test-00.tar"
    with pytest.raises(NotOnDisk, match=r"no shard .*/none-\*\.tar; correct the path"):
        read(newts / "none-*.tar", test)
    with pytest.raises(NotOnDisk, match=r"2 shards of .* missing, the first .*train-02\.tar"):
        read(newts / "train-{00..03}.tar", test)
    with pytest.raises(DataError, match="use other images for testing than for fitting"):
        read(newts / "test-*.tar", test)
    with pytest.raises(DataError, match="neither among the 2 class names nor numbers from 0 to 1: 9, 10"):
        read(newts / "train-*.tar", test, classes=["newt", "eft"])
    with tarfile.open(newts / "packed.tar", "w:gz") as tar:
        tar.add(test, "a.png")
    with pytest.raises(DataError, match=r"packed\.tar cannot be read \(.*\); it may be cut off, or compressed"):
        read(newts / "packed.tar", test)
    data = read(newts / "train-*.tar", test)
    test.write_bytes(test.read_bytes()[:530])
    with pytest.raises(DataError, match=r"image x/e of .*test-00\.tar is cut off; get the shard again"):
        data.test.images[0]
    with pytest.raises(DataError, match=r"test-00\.tar cannot be read \(unexpected end of data\)"):
        read(newts / "train-*.tar", test)
    test.unlink()
    with pytest.raises(DataError, match=r"image x/e of .*test-00\.tar cannot be read \(No such file"):
        data.test.images[0]
