"""ImageNet's validation images as they are published: a single folder, and their classes in a key."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import savemat

from probebench.catalog import DatasetSpec
from probebench.datasets import load
from probebench.errors import DataError
from probebench.fetch.local import NotOnDisk
from tests.datasets.ondisk import fill, jpeg

SYNSETS = ["n01440764", "n01443537", "n01484850"]
NAMES = [f"ILSVRC2012_val_{number:08d}" for number in (1, 2, 3, 4)]
CLASSES = [2, 0, 1, 2]


@pytest.fixture
def imagenet(tmp_path):
    """Three synsets to train on, and four images to test on; image n is 10 + n pixels wide."""
    fill(tmp_path, "train", SYNSETS, ending=".JPEG")
    for number, name in enumerate(NAMES):
        jpeg(tmp_path / "val" / f"{name}.JPEG", "white", (10 + number, 12))
    return tmp_path


def read(root, **kwargs):
    return load(DatasetSpec("d", "probebench.datasets.flat:flat_folder", {"root": root} | kwargs))


SYNSET = [SYNSETS[label] for label in CLASSES]
KEYS = {
    "imagenet_2012_validation_synset_labels.txt": SYNSET,
    "val_labels.txt": [str(label) for label in CLASSES],
    "val.txt": [f"{name}.JPEG {label}" for name, label in zip(NAMES, CLASSES, strict=True)][::-1],
    "val_map.txt": [f"{name} {synset}" for name, synset in zip(NAMES, SYNSET, strict=True)],
    "LOC_val_solution.csv": [
        "ImageId,PredictionString",
        *(f"{name},{synset} 1 2 30 40 {synset} 5 6 7 8 " for name, synset in zip(NAMES, SYNSET, strict=True)),
    ],
    "validation_key.csv": [
        "image,class",
        *(f"{name}.JPEG,{synset}" for name, synset in zip(NAMES, SYNSET, strict=True)),
    ],
}


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("place", [".", "val"])
def test_keys_as_they_are_published(imagenet, name, place):
    (imagenet / place / name).write_text("\n".join(KEYS[name]) + "\n")
    data = read(imagenet)
    assert list(data.classes) == SYNSETS
    assert data.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    order = [image.shape[1] - 10 for image in data.test.images]
    assert sorted(order) == [0, 1, 2, 3]
    assert data.test.labels.tolist() == [CLASSES[number] for number in order]
    key = imagenet / name if place == "." else imagenet / place / name
    assert [note.text for note in data.train.notes] == [
        f"classes of the images in {imagenet / 'val'} are those of {key}"
    ]


def test_numbers_of_the_development_kit_need_its_table(imagenet):
    key = imagenet / "ILSVRC2012_validation_ground_truth.txt"
    key.write_text("2\n1\n3\n2\n")
    with pytest.raises(
        DataError, match=r"truth\.txt has numbers from 1: .* have another order; put its file meta\.mat into"
    ):
        read(imagenet)
    kind = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object)]
    order = [(1, SYNSETS[1], "b"), (2, SYNSETS[2], "c"), (3, SYNSETS[0], "a"), (4, "n00000000", "above all")]
    savemat(imagenet / "meta.mat", {"synsets": np.array(order, dtype=kind)})
    assert read(imagenet).test.labels.tolist() == [2, 1, 0, 2]
    kit = imagenet / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    for name in (key.name, "meta.mat"):
        (imagenet / name).rename(kit / name)
    assert read(imagenet).test.labels.tolist() == [2, 1, 0, 2]
    (kit / "meta.mat").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"meta\.mat is not the one of ImageNet's development kit"):
        read(imagenet)


def test_the_catalog_reads_it(imagenet):
    (imagenet / "imagenet_2012_validation_synset_labels.txt").write_text("\n".join(SYNSET))
    kwargs = {"root": str(imagenet), "classes": 3}
    data = load(DatasetSpec("d", "probebench.datasets.imagenet:imagenet", kwargs))
    assert data.classes[0].startswith("tench")
    assert data.test.labels.tolist() == CLASSES
    assert not data.test.images.upright


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (SYNSET[:3], r"val_labels\.txt has 3 lines, but .*val 4 images; they need one line for each image"),
        ([*SYNSET[:3], "n2"], "labels that are neither among the 3 class names nor numbers from 0 to 2: n2"),
        (["0", "1", "2", "7"], "numbers from 0 to 2: 7"),
        (["none.JPEG 0", "x.JPEG 1"], r"lists none\.JPEG, which is not in .*val; correct the folder or the list"),
    ],
)
def test_keys_that_do_not_fit_are_refused(imagenet, lines, message):
    (imagenet / "val_labels.txt").write_text("\n".join(lines))
    with pytest.raises(DataError, match=message):
        read(imagenet)


def test_what_is_missing_is_named(imagenet):
    with pytest.raises(NotOnDisk, match=r"val is a flat folder, and .* no single file .* name it with key = '\.\.\.'"):
        read(imagenet)
    with pytest.raises(NotOnDisk, match=r"file .*none\.txt does not exist"):
        read(imagenet, key=imagenet / "none.txt")
    with pytest.raises(NotOnDisk, match=r"folder .*/valid does not exist; it should contain images"):
        read(imagenet, test="valid")
    key = imagenet / "key.txt"
    key.write_text("\n".join(f"{name} 0" for name in NAMES[:3]))
    (note,) = read(imagenet, key=key).train.notes
    assert note.text.endswith("key.txt; 1 image that it does not list left out")
