from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest

from probebench.errors import DataError, ProbebenchError
from probebench.fetch.local import NotOnDisk
from tests.datasets.ondisk import read

h5py = pytest.importorskip("h5py", reason="needs probebench[pcam]")


def write(folder, part, kind, array, name=None):
    folder.mkdir(exist_ok=True)
    path = folder / f"camelyonpatch_level_2_split_{part}_{kind}.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(name or kind, data=array, chunks=array.shape and (1, *array.shape[1:]), compression="gzip")
    return path


@pytest.fixture
def pcam(root):
    folder = root / "pcam"
    for start, part, count in ((0, "train", 4), (100, "valid", 2), (200, "test", 3)):
        images = start + np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 96, 96, 3), np.uint8)
        write(folder, part, "x", images.astype(np.uint8))
        write(folder, part, "y", (np.arange(count, dtype=np.uint8) % 2).reshape(-1, 1, 1, 1))
    return folder


def test_patches_are_read_one_by_one_from_both_files(pcam):
    data = read("pcam")
    assert list(data.classes) == ["no metastasis", "metastasis"]
    assert data.train.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert [int(data.train.images[i][5, 5, 0]) for i in range(6)] == [0, 1, 2, 3, 100, 101]
    assert data.test.images[2].shape == (96, 96, 3)
    assert data.test.images[2].dtype == np.uint8
    assert len(list(data.test.images)) == 3


def test_patches_go_to_other_processes_as_paths(pcam):
    images = read("pcam").test.images
    assert images[1][0, 0, 0] == 201
    again = pickle.loads(pickle.dumps(images))
    assert again[1][0, 0, 0] == 201


@pytest.mark.parametrize(
    ("kind", "array", "message"),
    [
        ("x", np.zeros((3, 96, 96, 3), np.float32), r"x must be uint8 of shape .*got float32"),
        ("x", np.zeros((3, 64, 64, 3), np.uint8), r"x must be .*got uint8 of shape \(3, 64, 64, 3\)"),
        ("y", np.zeros((2, 1, 1, 1), np.uint8), r"y must be integers of shape \(3, 1, 1, 1\), got .*\(2, 1, 1, 1\)"),
        ("y", np.zeros((3, 1, 1, 1)), "got float64"),
        ("y", np.full((3, 1, 1, 1), 2, np.uint8), "'pcam', test split: labels run from 2 to 2, outside 0 to 1"),
    ],
)
def test_arrays_of_another_kind_are_named(pcam, kind, array, message):
    write(pcam, "test", kind, array)
    with pytest.raises(DataError, match=message):
        read("pcam")


def test_files_that_are_damaged_or_hold_something_else_are_named(pcam):
    path = write(pcam, "test", "y", np.zeros((3, 1, 1, 1), np.uint8), name="z")
    with pytest.raises(DataError, match=r"split_test_y\.h5 is not a valid HDF5 file with 'y' in it .*unpack"):
        read("pcam")
    path.write_bytes(b"cut off")
    with pytest.raises(DataError, match=r"split_test_y\.h5 is not a valid HDF5 file"):
        read("pcam")
    path.unlink()
    with pytest.raises(NotOnDisk, match=r"pcam is incomplete: camelyonpatch_level_2_split_test_y\.h5 not found"):
        read("pcam")


def test_a_patch_that_cannot_be_read_is_named(pcam):
    path = pcam / "camelyonpatch_level_2_split_test_x.h5"
    with h5py.File(path, "r") as file:
        chunk = file["x"].id.get_chunk_info(1)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    path.write_bytes(bytes(data))
    images = read("pcam").test.images
    with pytest.raises(DataError, match=r"split_test_x\.h5: image 1 cannot be read"):
        images[1]


def test_without_h5py_the_error_says_what_to_install(pcam, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ProbebenchError, match=r"pip install 'probebench\[pcam\]'"):
        read("pcam")
