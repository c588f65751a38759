from __future__ import annotations

import pickle
import socket
import sys

import numpy as np
import pytest

from probebench.catalog import DatasetSpec
from probebench.datasets import load
from probebench.errors import DataError, ProbebenchError
from probebench.fetch.local import NotOnDisk
from tests.datasets.ondisk import encoded, parquet

datasets = pytest.importorskip("datasets", reason="needs probebench[hf]")

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Caches of each test's own, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "prepared")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    asked = []

    def ask(*address, **_):
        asked.append(address)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", ask)
    monkeypatch.setattr(socket, "getaddrinfo", ask)
    yield tmp_path
    assert not asked


RED, BLUE = encoded((200, 0, 0)), encoded((0, 0, 200))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "newts"
    parquet(folder / "data" / "train-00000-of-00001.parquet", [RED, BLUE, RED], [0, 1, 0])
    parquet(folder / "data" / "test-00000-of-00001.parquet", [BLUE, RED], [1, 0])
    return folder


def read(repo, **kwargs):
    return load(DatasetSpec("d", "probebench.datasets.huggingface:dataset", {"repo": str(repo)} | kwargs))


def test_a_folder_of_parquet_files(folder):
    data = read(folder)
    assert list(data.classes) == ["newt", "eft"]
    assert data.train.labels.tolist() == [0, 1, 0]
    assert data.test.labels.tolist() == [1, 0]
    image = data.test.images[0]
    assert (image.shape, image.dtype) == ((9, 12, 3), np.uint8)
    assert image[4, 4].tolist() == [0, 0, 200]
    assert len(list(data.train.images)) == 3
    assert pickle.loads(pickle.dumps(data.test.images))[1][0, 0].tolist() == [200, 0, 0]


def test_a_repository_in_the_cache_is_read_at_its_commit_without_asking_the_network(folder, caches):
    snapshot = caches / "hub" / "datasets--someone--newts" / "snapshots" / COMMIT
    snapshot.parent.mkdir(parents=True)
    folder.rename(snapshot)
    assert read("someone/newts", revision=COMMIT).test.labels.tolist() == [1, 0]
    other = COMMIT[::-1]
    with pytest.raises(NotOnDisk) as caught:
        read("someone/newts", revision=other)
    assert (
        f"revision {other} of someone/newts is not in the Hugging Face cache. "
        f"Run: hf download someone/newts --repo-type dataset --revision {other}."
    ) in str(caught.value)


@pytest.mark.parametrize("revision", [None, "main", "v1.0", COMMIT[:7], COMMIT.upper()])
def test_a_revision_that_could_move_is_refused(revision):
    with pytest.raises(ProbebenchError, match="someone/newts needs a revision, the 40 hexadecimal digits"):
        read("someone/newts", revision=revision)


def test_a_path_that_is_not_there_is_named():
    with pytest.raises(NotOnDisk, match=r"no folder or file .*/no/such/folder"):
        read("/no/such/folder")


def test_one_file_is_split_by_the_library(folder):
    path = folder / "data" / "train-00000-of-00001.parquet"
    data = read(path, train="train[:2]", test="train[2:]")
    assert data.train.labels.tolist() == [0, 1]
    assert data.test.labels.tolist() == [0]


def test_a_split_is_not_tested_on_itself(folder):
    with pytest.raises(
        DataError, match=r"train and test are both 'train'; slice the split, as in train = 'train\[:80%\]', test"
    ):
        read(str(folder), test="train")


def test_configurations_and_other_columns_are_asked_for_by_name(tmp_path):
    folder = tmp_path / "newts"
    for config, label in (("coarse", 0), ("fine", 1)):
        for split in ("train", "validation"):
            parquet(folder / config / f"{split}.parquet", [RED], [label], image="img", label="fine label")
    files = "".join(
        f"- config_name: {config}\n  data_files:\n"
        + "".join(f"  - split: {split}\n    path: {config}/{split}.parquet\n" for split in ("train", "validation"))
        for config in ("coarse", "fine")
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{files}---\n")
    data = read(folder, config="fine", test="validation", image="img", label="fine label")
    assert data.train.labels.tolist() == [1]
    with pytest.raises(DataError, match=r"newts cannot be read \(ValueError: BuilderConfig 'rough' not found"):
        read(folder, config="rough")


def test_a_folder_of_images_with_one_folder_a_class(tmp_path):
    folder = tmp_path / "newts"
    for split in ("train", "test"):
        for name, content in (("eft", RED), ("newt", BLUE)):
            path = folder / split / name / "0.png"
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
    data = read(folder)
    assert list(data.classes) == ["eft", "newt"]
    assert data.test.images[1][0, 0].tolist() == [0, 0, 200]
    digest = data.test.digest
    (folder / "test" / "newt" / "0.png").unlink()
    assert digest
    with pytest.raises(DataError, match=r"image 1 of .*newts, test cannot be read"):
        data.test.images[1]


def test_the_digest_sees_bytes_labels_and_order_and_decodes_nothing(folder):
    path = folder / "data" / "test-00000-of-00001.parquet"
    digests = []
    for images, labels in (
        ([BLUE, RED], [1, 0]),
        ([RED, BLUE], [1, 0]),
        ([BLUE, RED], [0, 1]),
        ([BLUE, b"no"], [1, 0]),
    ):
        parquet(path, images, labels)
        digests.append(read(folder).test.digest)
    assert len(set(digests)) == 4
    parquet(path, [BLUE, RED], [1, 0])
    assert read(folder).test.digest == digests[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (RED[:40], r"image 1 of .*newts, test cannot be decoded"),
        (b"no image", r"image 1 of .*newts, test cannot be decoded"),
        (None, r"image 1 of .*newts, test is missing; remove the row"),
        (encoded(40_000, "I;16"), r"image 1 of .*newts, test has pixels of mode 'I;16'; convert it to 8 bits"),
    ],
)
def test_a_damaged_image_is_named_by_its_row(folder, content, message):
    parquet(folder / "data" / "test-00000-of-00001.parquet", [RED, content], [0, 1])
    data = read(folder)
    with pytest.raises(DataError, match=message):
        data.test.images[1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, -1], "'d', test split: labels run from -1 to 0, outside 0 to 1"),
        ([0, None], "newts, test: row 1 has no label; remove it"),
    ],
)
def test_labels_that_are_none_are_named(folder, labels, message):
    parquet(folder / "data" / "test-00000-of-00001.parquet", [RED, BLUE], labels)
    with pytest.raises(DataError, match=message):
        read(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"label": "kind"},
            r"no column 'label' of type ClassLabel; it has image \(Image\), kind \(ClassLabel\)",
        ),
        (
            {"image": "photo"},
            r"no column 'image' of type Image; it has photo \(Image\), label \(ClassLabel\)",
        ),
        (
            {"kind": datasets.Value("int64")},
            r"no column 'label' of type ClassLabel; it has .*label \(Value\)\. Set",
        ),
    ],
)
def test_columns_that_cannot_be_used_are_named(folder, changes, message):
    for path in (folder / "data").iterdir():
        parquet(path, [RED], [1], **changes)
    with pytest.raises(DataError, match=message):
        read(folder)


def test_splits_and_files_that_cannot_be_read_are_named(folder):
    with pytest.raises(DataError, match=r"newts cannot be read \(ValueError: .*validation"):
        read(folder, test="validation")
    path = folder / "data" / "test-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r"newts cannot be read \(\w+: .*arquet"):
        read(folder)


def test_files_that_a_repository_names_elsewhere_are_not_fetched(folder):
    for path in (folder / "data").iterdir():
        path.unlink()
    files = "- split: train\n    path: https://example.org/train.parquet\n"
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n  {files}---\n")
    with pytest.raises(DataError, match="newts cannot be read"):
        read(folder)


def test_code_in_a_repository_is_not_run(tmp_path, capsys):
    folder = tmp_path / "newts"
    folder.mkdir()
    (folder / "newts.py").write_text("print('run')\n")
    with pytest.raises(DataError, match="newts cannot be read"):
        read(folder)
    assert "run" not in capsys.readouterr().out.split()


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ProbebenchError, match=r"pip install 'probebench\[hf\]'"):
        read("someone/newts", revision=COMMIT)
