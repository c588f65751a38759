from __future__ import annotations

import pytest

from probebench.errors import DataError
from probebench.fetch.local import NotOnDisk
from tests.datasets.ondisk import jpeg, read

LISTS = {
    "ClassName": ["/a/abbey", "/a/apartment_building/outdoor"],
    "Training_01": ["/a/abbey/sun_a.jpg", "/a/apartment_building/outdoor/sun_b.jpg"],
    "Testing_01": ["/a/apartment_building/outdoor/sun_c.jpg"],
}


@pytest.fixture
def sun(root):
    folder = root / "SUN397"
    for name in LISTS["Training_01"] + LISTS["Testing_01"]:
        jpeg(folder / name.strip("/"), "blue")
    for name, lines in LISTS.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_sun397_by_its_first_official_partition(sun):
    jpeg(sun / "a" / "abbey" / "sun_of_no_list.jpg", "blue")
    data = read("sun397")
    assert list(data.classes) == ["abbey", "apartment building, outdoor"]
    assert data.train.labels.tolist() == [0, 1]
    assert data.test.labels.tolist() == [1]
    assert data.test.images.names == ["a/apartment_building/outdoor/sun_c.jpg"]
    assert data.test.images[0].shape == (16, 20, 3)


def test_images_without_the_partitions_are_not_enough(sun):
    (sun / "Testing_01.txt").unlink()
    with pytest.raises(NotOnDisk, match=r"SUN397 is incomplete: Testing_01\.txt not found.*probebench fetch sun397"):
        read("sun397")


def test_listed_images_of_no_class_or_that_are_missing_are_named(sun):
    (sun / "a" / "abbey" / "sun_a.jpg").unlink()
    with pytest.raises(NotOnDisk, match=r"1 of 2 listed images are missing, the first .*/a/abbey/sun_a\.jpg"):
        read("sun397")
    (sun / "Training_01.txt").write_text("/z/zoo/sun_z.jpg\n")
    with pytest.raises(DataError, match=r"Training_01\.txt lists images in 'z/zoo', which is not a class in ClassName"):
        read("sun397")
    (sun / "Training_01.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"Training_01\.txt cannot be read"):
        read("sun397")
