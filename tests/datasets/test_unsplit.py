from __future__ import annotations

import pytest

from probebench.catalog import DatasetSpec
from probebench.datasets import load
from probebench.errors import DataError
from probebench.fetch.local import NotOnDisk
from tests.datasets.ondisk import CATALOG, fill, jpeg, read
from tests.datasets.test_folder import sideways


def test_eurosat_is_tested_on_every_fifth_image_of_each_class(root):
    fill(root / "eurosat", "2750", ["AnnualCrop", "Forest"], count=11)
    data = read("eurosat")
    assert list(data.classes) == ["AnnualCrop", "Forest"]
    # In the order of names as text: 0 1 10 2 3 | 4 5 6 7 8 | 9.
    assert data.test.images.names == [f"{name}/{i}.jpg" for name in ("AnnualCrop", "Forest") for i in (3, 8)]
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert len(data.train) == 18
    assert not set(data.train.images.names) & set(data.test.images.names)


def test_caltech101_is_trained_on_thirty_images_a_class(root):
    folder = root / "caltech101" / "101_ObjectCategories"
    for name, count in (("BACKGROUND_Google", 3), ("Faces_easy", 61), ("accordion", 31)):
        for i in range(count):
            jpeg(folder / name / f"image_{i + 1:04d}.jpg", "grey", (8, 8))
    data = read("caltech101")
    assert list(data.classes) == ["Faces easy", "accordion"]
    assert data.train.labels.tolist() == [0] * 30 + [1] * 30
    assert data.test.labels.tolist() == [0] * 31 + [1]
    assert data.train.images.names[:3] == [f"Faces_easy/image_000{i}.jpg" for i in (1, 3, 5)]
    assert CATALOG.dataset("caltech101").metric == "mean_per_class"


def test_photographs_are_turned_in_folders_of_ones_own_and_not_in_published_ones(root):
    for folder in ("mine", "eurosat/2750"):
        fill(root, folder, ["cat", "dog"], count=5)
        sideways(root / folder / "cat" / "4.jpg")
    own = load(DatasetSpec("d", "probebench.datasets.unsplit:unsplit_folder", {"folder": "mine", "test_every": 5}))
    assert [image.shape[:2] for image in own.test.images] == [(20, 16), (16, 20)]
    assert [image.shape[:2] for image in read("eurosat").test.images] == [(16, 20), (16, 20)]
    assert not CATALOG.dataset("caltech101").kwargs["upright"]


def unsplit(**kwargs):
    return load(DatasetSpec("d", "probebench.datasets.unsplit:unsplit_folder", {"folder": "mine"} | kwargs))


def test_folders_that_cannot_be_split_are_named(root):
    with pytest.raises(NotOnDisk, match=r"folder .*/mine does not exist; it should contain one folder"):
        unsplit(test_every=5)
    with pytest.raises(NotOnDisk, match=r"data root; use an absolute path .* Path\(__file__\).parent / 'mine' next to"):
        unsplit(test_every=5)
    with pytest.raises(NotOnDisk, match=r"/elsewhere does not exist; it should contain .* per class\.$"):
        unsplit(folder=root / "elsewhere", test_every=5)
    fill(root, "mine", ["cat", "dog"], count=4)
    assert len(unsplit(folder=root / "mine", test_every=2).test) == 4
    with pytest.raises(DataError, match=r"class folder .*/mine/cat has 4 images, too few .* with test_every = 5"):
        unsplit(test_every=5)
    with pytest.raises(DataError, match=r"/mine/cat has 4 images, too few .* with train_each = 30"):
        unsplit(train_each=30)
    with pytest.raises(DataError, match="set either test_every or train_each"):
        unsplit()
    with pytest.raises(DataError, match="set either test_every or train_each"):
        unsplit(test_every=2, train_each=2)
    for path in (root / "mine" / "dog").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"class folder .*/mine/dog has no images"):
        unsplit(test_every=2)


def test_a_damaged_image_is_named(root):
    fill(root, "mine", ["cat", "dog"], count=2)
    (root / "mine" / "dog" / "1.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(DataError, match=r"image .*mine/dog/1\.jpg cannot be decoded"):
        unsplit(test_every=2).test.images[1]
