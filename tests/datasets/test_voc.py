from __future__ import annotations

import numpy as np
import pytest

from probebench.datasets.voc import CLASSES
from probebench.errors import DataError
from probebench.fetch.local import NotOnDisk
from tests.datasets.ondisk import CATALOG, jpeg, read


@pytest.fixture
def voc(root):
    """Four images of trainval and two of test, with all lists; aeroplanes, and a person that is hard to see."""
    folder = root / "VOCdevkit" / "VOC2007"
    for number in range(1, 7):
        jpeg(folder / "JPEGImages" / f"{number:06d}.jpg", (number * 20, 0, 0), (30 + number, 20))
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for part, numbers in (("trainval", (1, 3, 4, 6)), ("test", (2, 5))):
        (lists / f"{part}.txt").write_text("".join(f"{number:06d}\n" for number in numbers))
        for name in CLASSES:
            have = {"aeroplane": {1: " 1", 5: " 1"}, "person": {3: " 0", 2: " 1"}}.get(name, {})
            lines = [f"{number:06d} {have.get(number, '-1')}\n" for number in numbers]
            (lists / f"{name}_{part}.txt").write_text("".join(lines))
    return folder


def test_labels_are_those_of_the_official_lists(voc):
    data = read("voc2007")
    assert (len(data.classes), data.task, CATALOG.dataset("voc2007").metric) == (20, "multilabel", "map")
    assert data.train.labels.dtype == np.int8
    aeroplane, person = data.classes.index("aeroplane"), data.classes.index("person")
    assert data.train.labels[:, aeroplane].tolist() == [1, 0, 0, 0]
    assert data.train.labels[:, person].tolist() == [0, -1, 0, 0]
    assert data.test.labels[:, [aeroplane, person]].tolist() == [[0, 1], [1, 0]]
    assert data.train.images.names == [f"JPEGImages/00000{number}.jpg" for number in (1, 3, 4, 6)]
    assert data.test.images[1].shape == (20, 35, 3)


def test_what_is_missing_or_damaged_is_named(voc):
    path = voc / "ImageSets" / "Main" / "cow_test.txt"
    good = path.read_text()
    path.write_text(good.replace("000005", "000006"))
    with pytest.raises(DataError, match=r"cow_test\.txt lists other images than aeroplane_test\.txt"):
        read("voc2007")
    path.write_text("000002  2\n")
    with pytest.raises(DataError, match=r"cow_test\.txt, line 1: expected the number of an image and 1, 0 or -1"):
        read("voc2007")
    path.write_text(good)
    (voc / "JPEGImages" / "000004.jpg").unlink()
    with pytest.raises(NotOnDisk, match=r"1 of 4 listed images are missing, the first .*000004\.jpg"):
        read("voc2007")
    path.unlink()
    with pytest.raises(NotOnDisk, match=r"cow_test\.txt"):
        read("voc2007")
