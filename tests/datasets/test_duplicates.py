from __future__ import annotations

import io
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from probebench import DatasetSpec
from probebench.datasets import Dataset, Split, load
from probebench.datasets.dataset import Subset, image_keys
from probebench.datasets.duplicates import Duplicates, drop_from_train, find_duplicates
from probebench.errors import DataError, ProbebenchError
from tests.datasets.ondisk import Decoded, parquet

# Ten images by number. In train 0 is repeated and 3 has two labels; in test 0 and 1 are training images, 7 is repeated.
TRAIN, TRAIN_LABELS = [0, 1, 2, 0, 3, 3, 4], [0, 0, 0, 0, 0, 1, 1]
TEST, TEST_LABELS = [0, 5, 1, 7, 7], [0, 1, 0, 1, 1]
COUNTS = {"test_in_train": 2, "within_train": 2, "within_test": 1, "two_labels": 1}


def pixels(number):
    return np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def png(number):
    stream = io.BytesIO()
    Image.fromarray(pixels(number)).save(stream, "PNG")
    return stream.getvalue()


def from_arrays(path):
    arrays = [np.stack([pixels(number) for number in part]) for part in (TRAIN, TEST)]
    np.savez(path / "d.npz", x_train=arrays[0], y_train=TRAIN_LABELS, x_test=arrays[1], y_test=TEST_LABELS)
    return "probebench.datasets.arrays:npz", {"path": path / "d.npz"}


def from_folder(path):
    for split, numbers, labels in (("train", TRAIN, TRAIN_LABELS), ("test", TEST, TEST_LABELS)):
        for row, (number, label) in enumerate(zip(numbers, labels, strict=True)):
            (path / split / str(label)).mkdir(parents=True, exist_ok=True)
            (path / split / str(label) / f"{row}.png").write_bytes(png(number))
    return "probebench.datasets.folder:image_folder", {"root": path}


def from_parquet(path):
    for split, numbers, labels in (("train", TRAIN, TRAIN_LABELS), ("test", TEST, TEST_LABELS)):
        parquet(path / "data" / f"{split}-00000-of-00001.parquet", [png(number) for number in numbers], labels)
    return "probebench.datasets.huggingface:dataset", {"repo": str(path)}


def from_lists(path):
    for split, numbers, labels in (("train", TRAIN, TRAIN_LABELS), ("test", TEST, TEST_LABELS)):
        (path / split).mkdir()
        for row, number in enumerate(numbers):
            (path / split / f"{row}.png").write_bytes(png(number))
        lines = [f"{split}/{row}.png {label}" for row, label in enumerate(labels)]
        (path / f"{split}.txt").write_text("\n".join(lines))
    return "probebench.datasets.tables:image_table", {"train": path / "train.txt", "test": path / "test.txt"}


def from_shards(path):
    for split, numbers, labels in (("train", TRAIN, TRAIN_LABELS), ("test", TEST, TEST_LABELS)):
        with tarfile.open(path / f"{split}.tar", "w") as archive:
            for row, (number, label) in enumerate(zip(numbers, labels, strict=True)):
                for ending, content in (("png", png(number)), ("cls", str(label).encode())):
                    member = tarfile.TarInfo(f"{row}.{ending}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return "probebench.datasets.webdataset:shards", {"train": path / "train.tar", "test": path / "test.tar"}


def spec_of(made, **more):
    reader, kwargs = made
    return DatasetSpec("d", reader, kwargs, **more)


def duplicates(data):
    return find_duplicates(data.train, np.arange(len(data.train)), data.test)


def counts(found):
    return {kind: getattr(found, kind) for kind in COUNTS}


@pytest.mark.parametrize("make", [from_arrays, from_folder, from_lists, from_parquet, from_shards])
def test_they_are_counted_by_kind_in_what_every_reader_reads(tmp_path, make):
    assert counts(duplicates(load(spec_of(make(tmp_path))))) == COUNTS


def test_a_warning_names_an_example_of_each_kind_and_what_to_do(tmp_path):
    spec = spec_of(from_folder(tmp_path))
    note = duplicates(load(spec)).note(spec)
    assert str(note) == (
        "WARNING: images of d: 2 of 5 test images are also among the training images (train/0/0.png = test/0/0.png); "
        "2 training images repeated (train/0/0.png = train/0/3.png); 1 test image repeated (test/1/3.png = "
        "test/1/4.png); 1 image under more than one label (train/0/4.png = train/1/5.png); duplicates='drop-train' "
        "leaves them out of training, 'keep' accepts them (in its DatasetSpec, or recommend --duplicates)"
    )
    kept = duplicates(load(spec)).note(replace(spec, duplicates="keep"))
    assert (kept.severity, "drop-train" in kept.text) == ("info", False)
    assert Duplicates().note(spec) is None


def test_images_in_memory_are_named_by_their_numbers(tmp_path):
    found = duplicates(load(spec_of(from_arrays(tmp_path))))
    assert found.examples["test_in_train"] == ("train image 0", "test image 0")


def arrays(train, test, **more):
    splits = [
        Split(np.stack([pixels(number) for number in numbers]), np.array(labels, dtype=np.int64), **more)
        for numbers, labels in (train, test)
    ]
    return Dataset("d", ["a", "b"], *splits)


def test_views_of_one_source_may_be_equal():
    data = arrays(([0, 0, 1, 1], [0, 0, 1, 1]), ([5, 6], [0, 1]))
    assert duplicates(data).within_train == 2
    data = replace(data, train=replace(data.train, groups=np.array([7, 7, 8, 9])))
    assert duplicates(data).within_train == 1


def test_only_the_training_images_that_are_used_count():
    data = arrays(([0, 1, 2, 3], [0, 0, 1, 1]), ([0, 3], [0, 1]))
    assert duplicates(data).test_in_train == 2
    found = find_duplicates(data.train, np.array([1, 3]), data.test)
    assert (found.test_in_train, found.n_train, found.examples["test_in_train"]) == (
        1,
        2,
        ("train image 3", "test image 1"),
    )


def test_a_selection_of_files_is_compared_and_named_as_the_files_are(tmp_path):
    data = load(spec_of(from_folder(tmp_path)))
    part = Split(Subset(data.train.images, np.array([1, 4])), np.array([0, 1]))
    found = find_duplicates(part, np.arange(2), data.test)
    assert found.examples == {
        "test_in_train": ("train/0/1.png", "test/0/2.png"),
        "within_test": ("test/1/3.png", "test/1/4.png"),
    }


def test_images_that_would_have_to_be_decoded_have_no_keys():
    assert image_keys(Decoded(map(pixels, [1, 1]))) is None


def test_dropping_leaves_each_training_image_once_and_none_that_is_tested_or_contradictory(tmp_path):
    for make in (from_arrays, from_folder, from_parquet):
        path = tmp_path / make.__name__
        path.mkdir()
        data, dropped = drop_from_train(load(spec_of(make(path))))
        assert all(np.array_equal(*pair) for pair in zip(data.train.images, map(pixels, [2, 4]), strict=True))
        assert (data.train.labels.tolist(), dropped) == ([0, 1], 5)
        assert counts(duplicates(data)) == dict.fromkeys(COUNTS, 0) | {"within_test": 1}


def test_dropping_compares_pixels_not_bytes(tmp_path):
    spec = spec_of(from_folder(tmp_path))
    Image.fromarray(pixels(2)).save(tmp_path / "test" / "0" / "of_another_kind.bmp")
    data = load(spec)
    assert duplicates(data).test_in_train == 2
    with pytest.raises(
        DataError, match="without duplicates, no training image is left of class '0'; add other images, or"
    ):
        drop_from_train(data)


def test_views_of_one_source_are_not_dropped():
    data = arrays(([0, 0, 1, 1], [0, 0, 1, 1]), ([5, 6], [0, 1]))
    data = replace(data, train=replace(data.train, groups=np.array([7, 7, 8, 9])))
    left, dropped = drop_from_train(data)
    assert (left.train.groups.tolist(), dropped) == ([7, 7, 8], 1)


def test_nothing_is_dropped_where_there_is_nothing_to_drop():
    data = arrays(([0, 1], [0, 1]), ([2, 3], [0, 1]))
    assert drop_from_train(data) == (data, 0)


def test_another_policy_is_refused():
    with pytest.raises(ProbebenchError, match="duplicates must be drop-train or keep, got 'drop'"):
        DatasetSpec("d", "a:b", duplicates="drop")


def test_the_embedded_datasets_have_none():
    from tests.datasets.ondisk import CATALOG

    for name, spec in CATALOG.datasets.items():
        if not spec.archives:
            assert not duplicates(load(spec)), name


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_images_of_other_tasks_are_compared_with_all_their_labels(task):
    train, test = (np.stack([pixels(number) for number in numbers]) for numbers in (TRAIN, TEST))
    labels, kind = [[0, 1], [1, 0], [1, 1], [0, 1], [0, 1], [1, 1], [0, 0]], np.int8 if task == "multilabel" else float
    splits = Split(train, np.array(labels, kind)), Split(test, np.array([[0, 1], *labels[1:5]], kind))
    data = Dataset("d", ["a", "b"], *splits, task=task)
    found = duplicates(data)
    assert {kind: getattr(found, kind) for kind in COUNTS} == COUNTS | {"two_labels": 2}
    kept, dropped = drop_from_train(data)
    assert (dropped, kept.train.labels.tolist()) == (5, np.array([[1, 1], [0, 0]], kind).tolist())
