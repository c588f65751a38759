from __future__ import annotations

import pytest

from probebench.catalog import DatasetSpec
from probebench.datasets import load
from probebench.datasets.corruptions import CORRUPTIONS
from probebench.errors import DataError, UnknownName
from probebench.fetch.local import NotOnDisk
from tests.datasets.ondisk import CATALOG, fill, read

SYNSETS = ["n01440764", "n01443537", "n02102040"]


@pytest.fixture
def imagenet(root):
    fill(root / "imagenet", "train", SYNSETS, ending=".JPEG")
    fill(root / "imagenet", "val", SYNSETS, count=1, ending=".JPEG")
    return root / "imagenet"


def test_imagenet_is_named_by_wordnet_and_tested_on_its_validation_set(imagenet):
    data = load(DatasetSpec("small", "probebench.datasets.imagenet:imagenet", {"classes": 3}))
    assert [name.split(",")[0] for name in data.classes] == ["tench", "goldfish", "English springer"]
    assert data.test.images.names[0] == "val/n01440764/0.JPEG"
    assert (len(data.train), len(data.test)) == (6, 3)


def test_a_part_of_imagenet_does_not_pass_for_the_whole(imagenet):
    with pytest.raises(DataError, match=r"'imagenet1k': .*/train has 3 class folders, but ImageNet-1k has 1000"):
        read("imagenet1k")


def test_a_folder_that_is_no_synset_is_named(imagenet):
    for split in ("train", "val"):
        (imagenet / split / SYNSETS[1]).rename(imagenet / split / "goldfish")
    with pytest.raises(DataError, match="'goldfish' is not a synset of ImageNet-1k"):
        load(DatasetSpec("small", "probebench.datasets.imagenet:imagenet", {"classes": 3}))


@pytest.fixture
def imagenet_c(root, imagenet):
    """Fog at its first and last severity: one image a synset, the second one as many."""
    fill(root / "ImageNet-C", "fog/5", SYNSETS, count=1, ending=".JPEG")
    fill(root / "ImageNet-C", "fog/1", SYNSETS, count=2, ending=".JPEG")
    return root / "ImageNet-C"


def fog(**kwargs):
    return load(
        DatasetSpec("fog", "probebench.datasets.imagenet:corrupted", {"corruption": "fog", "classes": 3} | kwargs)
    )


def test_imagenet_c_is_tested_by_a_probe_of_the_clean_images(imagenet_c):
    worst, mild = fog(), fog(severity=1)
    clean = load(DatasetSpec("small", "probebench.datasets.imagenet:imagenet", {"classes": 3}))
    assert worst.train.digest == mild.train.digest == clean.train.digest
    assert list(worst.classes) == list(clean.classes)
    assert worst.test.images.names[0] == "fog/5/n01440764/0.JPEG"
    assert worst.test.labels.tolist() == [0, 1, 2]
    assert mild.test.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_the_catalog_has_every_corruption_at_every_severity():
    for corruption in CORRUPTIONS:
        assert CATALOG.dataset(f"imagenet_c_{corruption}_s2").kwargs == {"corruption": corruption, "severity": 2}
        archives = CATALOG.dataset(f"imagenet_c_{corruption}").archives
        assert [archive.result for archive in archives] == [f"ImageNet-C/{corruption}", "imagenet/train"]


def test_imagenet_c_that_was_unpacked_in_part_is_named(imagenet_c):
    (imagenet_c / "fog" / "5" / SYNSETS[2]).rename(imagenet_c / "elsewhere")
    with pytest.raises(DataError, match=r"ImageNet-C/fog/5 has 2 class folders, not the 3 of .*/train"):
        fog()
    with pytest.raises(NotOnDisk, match=r"folder .*ImageNet-C/fog/4 does not exist"):
        fog(severity=4)


def test_imagenet_c_needs_the_whole_of_imagenet(imagenet_c):
    with pytest.raises(DataError, match="has 3 class folders, but ImageNet-1k has 1000"):
        read("imagenet_c_fog")


def test_an_empty_synset_and_unknown_corruptions_are_named(imagenet_c):
    (imagenet_c / "fog" / "5" / SYNSETS[1] / "0.JPEG").unlink()
    with pytest.raises(DataError, match=r"class folder .*fog/5/n01443537 has no images"):
        fog()
    with pytest.raises(UnknownName, match="unknown corruption 'fig'"):
        fog(corruption="fig")
    with pytest.raises(UnknownName, match="unknown severity 0"):
        fog(severity=0)
