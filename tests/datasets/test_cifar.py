from __future__ import annotations

import pickle

import numpy as np
import pytest

from probebench.catalog import DatasetSpec
from probebench.datasets import load
from probebench.datasets.corruptions import CORRUPTIONS
from probebench.errors import DataError, UnknownName
from probebench.fetch.local import NotOnDisk
from tests.datasets.ondisk import CATALOG, CIFAR10, batch, python2_pickle, read


def test_cifar10_as_python_2_pickled_it(cifar10):
    data = read("cifar10")
    assert list(data.classes) == CIFAR10
    assert data.train.images.shape == (50, 32, 32, 3)
    assert data.test.images.shape == (20, 32, 32, 3)
    assert np.array_equal(data.train.labels, np.tile(np.arange(10), 5))
    # Pixel (row 3, column 4) of image 2 of the second batch; planes are red, green, blue.
    row = batch(range(10), "labels", seed=2)["data"][2]
    assert data.train.images[12, 3, 4].tolist() == [row[c * 1024 + 3 * 32 + 4] for c in range(3)]


def test_cifar100_reads_the_fine_labels(cifar100):
    data = read("cifar100")
    assert data.classes[99] == "fine_99"
    assert (len(data.train), len(data.test)) == (200, 100)
    assert data.train.labels.max() == 99


@pytest.mark.parametrize("protocol", [2, 4])
def test_batches_pickled_again_by_python_3_read_the_same(cifar10, protocol):
    before = read("cifar10").test.digest
    (cifar10 / "test_batch").write_bytes(pickle.dumps(batch(list(range(10)) * 2, "labels", seed=9), protocol))
    assert read("cifar10").test.digest == before


class Evil:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_other_objects_in_a_pickle_are_refused_and_not_run(cifar10, protocol, capsys):
    path = cifar10 / "data_batch_3"
    path.write_bytes(pickle.dumps({"data": Evil(), "labels": []}, protocol))
    with pytest.raises(DataError, match=r"'cifar10': .*data_batch_3 refers to \w+\.print.*nothing was executed"):
        read("cifar10")
    assert "run" not in capsys.readouterr().out.split()


def test_a_pickle_that_is_cut_off_is_named(cifar10):
    path = cifar10 / "test_batch"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"test_batch is not a valid pickle .*unpack its archive again"):
        read("cifar10")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": np.zeros((10, 3071), np.uint8)}, r"data must be uint8 of shape \(n, 3072\).*\(10, 3071\)"),
        ({"data": np.zeros((10, 3072), np.float32)}, "got float32"),
        ({"data": [1, 2]}, "got list"),
        ({"labels": [0] * 9}, r"labels must be 10 integers, got int64 of shape \(9,\)"),
        ({"labels": [0.5] * 10}, "got float64"),
        ({"labels": [10] * 10}, "labels run from 0 to 10, outside 0 to 9"),
    ],
)
def test_batches_of_another_shape_are_named(cifar10, change, message):
    python2_pickle(cifar10 / "data_batch_1", batch(range(10), "labels") | change)
    with pytest.raises(DataError, match=message):
        read("cifar10")


def test_batches_without_labels_and_names_that_are_none(cifar10):
    python2_pickle(cifar10 / "data_batch_1", {"data": np.zeros((1, 3072), np.uint8)})
    with pytest.raises(DataError, match="data_batch_1 has no labels"):
        read("cifar10")
    python2_pickle(cifar10 / "data_batch_1", [1])
    with pytest.raises(DataError, match="contains a list instead of a dictionary"):
        read("cifar10")
    python2_pickle(cifar10 / "batches.meta", {"names": []})
    with pytest.raises(DataError, match=r"batches\.meta has no list of class names under 'label_names'"):
        read("cifar10")


@pytest.fixture
def cifar10_c(root, cifar10):
    """Fog at five severities: image i at severity s is s everywhere but for i in its first pixel."""
    folder = root / "CIFAR-10-C"
    folder.mkdir()
    images = np.repeat(np.arange(1, 6, dtype=np.uint8), 20)[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8)
    images[:, 0, 0, 0] = np.tile(np.arange(20), 5)
    np.save(folder / "fog.npy", images)
    np.save(folder / "labels.npy", np.tile(np.arange(10, dtype=np.uint8), 10))
    return folder


def test_corrupted_images_are_tested_by_a_probe_of_the_clean_ones(cifar10_c):
    clean, worst, third = read("cifar10"), read("cifar10_c_fog"), read("cifar10_c_fog_s3")
    assert worst.name == "cifar10_c_fog"
    assert third.name == "cifar10_c_fog_s3"
    assert worst.train.digest == third.train.digest == clean.train.digest
    assert (worst.test.images[:, 1] == 5).all()
    assert (third.test.images[:, 1] == 3).all()
    assert np.array_equal(third.test.labels, clean.test.labels)


def test_without_transfer_every_fifth_corrupted_image_is_tested(cifar10_c):
    kwargs = {"base": "cifar10", "corruption": "fog", "severity": 2, "train": "corrupted"}
    data = load(DatasetSpec("d", "probebench.datasets.cifar:corrupted", kwargs))
    assert data.test.images[:, 0, 0, 0].tolist() == [4, 9, 14, 19]
    assert data.test.labels.tolist() == [4, 9, 4, 9]
    assert len(data.train) == 16
    assert (data.train.images[:, 1] == 2).all()


def test_cifar100_c(root, cifar100):
    folder = root / "CIFAR-100-C"
    folder.mkdir()
    np.save(folder / "snow.npy", np.zeros((500, 32, 32, 3), np.uint8))
    np.save(folder / "labels.npy", np.tile(np.arange(100), 5))
    assert len(read("cifar100_c_snow_s1").test) == 100


def test_labels_of_another_test_set_are_refused(cifar10_c):
    np.save(cifar10_c / "labels.npy", np.zeros(100, np.uint8))
    with pytest.raises(DataError, match=r"labels\.npy does not repeat the labels of the clean test set 5 times"):
        read("cifar10_c_fog")


@pytest.mark.parametrize(
    "images", [np.zeros((100, 32, 32), np.uint8), np.zeros((100, 32, 32, 3)), np.zeros((99, 32, 32, 3), np.uint8)]
)
def test_corrupted_images_of_another_shape_are_refused(cifar10_c, images):
    np.save(cifar10_c / "fog.npy", images)
    with pytest.raises(DataError, match=rf"fog\.npy contains {images.dtype} of shape .*expected uint8"):
        read("cifar10_c_fog")


@pytest.mark.parametrize("keep", [0, 50, 5000])
def test_npy_files_that_are_cut_off_are_named(cifar10_c, keep):
    path = cifar10_c / "fog.npy"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"dataset 'cifar10_c_fog': .*fog\.npy is not a valid npy file"):
        read("cifar10_c_fog")


def test_npy_files_of_python_objects_are_not_loaded(cifar10_c):
    np.save(cifar10_c / "fog.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="is not a valid npy file"):
        read("cifar10_c_fog")


def test_a_corruption_that_was_not_unpacked_is_named(cifar10_c):
    with pytest.raises(NotOnDisk, match=r"'cifar10_c_snow' is not on .*CIFAR-10-C is incomplete: snow\.npy not found"):
        read("cifar10_c_snow")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"corruption": "frog"}, "unknown corruption 'frog'. Did you mean 'fog' or 'frost'"),
        ({"severity": 6}, "unknown severity 6"),
        ({"base": "cifar"}, "unknown base of corrupted images 'cifar'"),
        ({"train": "both"}, "unknown training images 'both'"),
    ],
)
def test_wrong_arguments_are_named(root, kwargs, message):
    spec = DatasetSpec("d", "probebench.datasets.cifar:corrupted", {"base": "cifar10", "corruption": "fog"} | kwargs)
    with pytest.raises(UnknownName, match=message):
        load(spec)


def test_the_catalog_has_every_corruption_of_both():
    for base in ("cifar10_c", "cifar100_c"):
        assert all(f"{base}_{corruption}" in CATALOG.datasets for corruption in CORRUPTIONS)
