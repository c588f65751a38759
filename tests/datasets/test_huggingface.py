from __future__ import annotations

import io
import pickle
import socket
import sys

import numpy as np
import pytest
from PIL import ExifTags, Image

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
    ("kind", "labels", "classes", "numbers"),
    [
        ("int64", [7, 10, 7], ["7", "10"], [0, 1, 0]),
        ("uint8", [1, 0, 1], ["0", "1"], [1, 0, 1]),
        ("string", ["01", "eft", "01"], ["01", "eft"], [0, 1, 0]),
        ("large_string", ["b", "a", "b"], ["a", "b"], [1, 0, 1]),
        ("bool", [True, False, True], ["False", "True"], [1, 0, 1]),
    ],
)
def test_labels_of_other_types_are_numbered_by_their_values(folder, kind, labels, classes, numbers):
    for split in ("train", "test"):
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        parquet(path, [RED, BLUE, RED], labels, kind=datasets.Value(kind))
    data = read(folder)
    assert list(data.classes) == classes
    assert data.test.labels.tolist() == numbers
    assert data.notes == []


def test_a_label_that_only_test_images_have_is_named(folder):
    for split, labels in (("train", ["a", "b"]), ("test", ["a", "c"])):
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        parquet(path, [RED, BLUE], labels, kind=datasets.Value("string"))
    with pytest.raises(DataError, match=r"newts, test has labels that no training image has: c; add training images"):
        read(folder)


def test_bytes_of_image_files_are_images_whatever_wrote_them(tmp_path):
    """As pandas writes them, with columns that are named otherwise."""
    pandas = pytest.importorskip("pandas")
    for split in ("train", "test"):
        frame = pandas.DataFrame({"Img": [RED, BLUE], "file": ["a.png", "b.png"], "Species": ["newt", "eft"]})
        (tmp_path / "newts").mkdir(exist_ok=True)
        frame.to_parquet(tmp_path / "newts" / f"{split}.parquet")
    data = read(tmp_path / "newts")
    assert list(data.classes) == ["eft", "newt"]
    assert data.train.labels.tolist() == [1, 0]
    assert data.train.images[1][0, 0].tolist() == [0, 0, 200]
    assert [note.text for note in data.train.notes] == [
        f"{tmp_path / 'newts'}: images are in column 'Img', guessed",
        f"{tmp_path / 'newts'}: labels are in column 'Species', guessed",
    ]


def test_the_only_column_of_a_type_is_taken_and_said(folder):
    for path in (folder / "data").iterdir():
        parquet(path, [RED], [1], image="scan", label="kind")
    data = read(folder)
    assert data.train.labels.tolist() == [1]
    assert "labels are in column 'kind', guessed" in data.train.notes[1].text


@pytest.mark.parametrize(
    ("kind", "labels", "message"),
    [
        (
            "float64",
            [0.5],
            r"no column 'label' of type ClassLabel, or of integers or strings; it has image \(Image\), lab",
        ),
        (
            "list",
            [[0, 1]],
            r"no column 'label' of type ClassLabel, .*; it has image \(Image\), label \(List\)\. Set an",
        ),
    ],
)
def test_columns_that_cannot_be_used_are_named(folder, kind, labels, message):
    feature = datasets.List(datasets.Value("int64")) if kind == "list" else datasets.Value(kind)
    for path in (folder / "data").iterdir():
        parquet(path, [RED], labels, kind=feature)
    with pytest.raises(DataError, match=message):
        read(folder)
    with pytest.raises(DataError, match=r"no column 'photo' of type Image, or of bytes; it has image \(Image\)"):
        read(folder, image="photo")


def test_a_column_of_strings_is_no_label_unless_it_is_named_like_one(folder):
    for path in (folder / "data").iterdir():
        parquet(path, [RED], ["a"], label="file_name", kind=datasets.Value("string"))
    with pytest.raises(DataError, match=r"no column 'label' .* it has image \(Image\), file_name \(string\)"):
        read(folder)
    assert read(folder, label="file_name").classes == ["a"]


def test_the_split_to_test_on_is_chosen_and_said(folder):
    path = folder / "data" / "test-00000-of-00001.parquet"
    path.rename(path.with_name("validation-00000-of-00001.parquet"))
    data = read(folder)
    assert data.test.labels.tolist() == [1, 0]
    assert [note.text for note in data.train.notes] == [f"{folder} has no split 'test', and is tested on 'validation'"]


def test_a_test_part_is_drawn_where_that_is_asked_for(tmp_path):
    parquet(tmp_path / "one.parquet", [RED, BLUE] * 5, [0, 1] * 5)
    with pytest.raises(DataError, match=r"has no test split; it has train: name one .* slice one, .*\[80%:\].* or set"):
        read(tmp_path / "one.parquet")
    data = read(tmp_path / "one.parquet", test_share=0.2)
    assert (data.train.labels.tolist().count(0), data.test.labels.tolist()) == (4, [0, 1])
    seen = {tuple(image[0, 0].tolist()) for image in data.test.images}
    assert seen == {(200, 0, 0), (0, 0, 200)}
    assert "has no test split: 20% of the images of each class, drawn with a fixed seed" in data.train.notes[0].text


def test_photographs_are_turned_as_in_folders(folder):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stream = io.BytesIO()
    Image.new("RGB", (12, 9), "red").save(stream, "JPEG", exif=exif)
    parquet(folder / "data" / "test-00000-of-00001.parquet", [stream.getvalue()], [0])
    turned, as_stored = read(folder).test, read(folder, upright=False).test
    assert turned.images[0].shape == (12, 9, 3)
    assert as_stored.images[0].shape == (9, 12, 3)
    assert turned.digest != as_stored.digest
    assert read(folder).train.digest == read(folder, upright=False).train.digest


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_folder_with_metadata_keeps_labels_as_written(tmp_path, monkeypatch, ending):
    monkeypatch.setitem(sys.modules, "datasets", None)  # not needed
    for split in ("train", "validation"):
        (tmp_path / split).mkdir()
        rows = [("a.png", "01", RED), ("b.png", "1", BLUE)]
        for name, _, content in rows:
            (tmp_path / split / name).write_bytes(content)
        lines = [f'{{"file_name": "{name}", "label": "{label}"}}' for name, label, _ in rows]
        if ending == "csv":
            lines = ["file_name,label", *(f"{name},{label}" for name, label, _ in rows)]
        (tmp_path / split / f"metadata.{ending}").write_text("\n".join(lines))
    data = read(tmp_path)
    assert list(data.classes) == ["01", "1"]
    assert data.test.labels.tolist() == [0, 1]
    assert data.test.images[1][0, 0].tolist() == [0, 0, 200]
    assert data.train.notes[-1].text == f"{tmp_path} has no split 'test', and is tested on 'validation'"
    assert len(read(tmp_path, test="validation").train.notes) == len(data.train.notes) - 1


def test_a_readme_that_names_the_files_of_splits_is_followed(tmp_path):
    folder = tmp_path / "newts"
    for place, content in (("one", RED), ("two", BLUE)):
        (folder / place).mkdir(parents=True)
        (folder / place / "a.png").write_bytes(content)
        (folder / place / "metadata.csv").write_text("file_name,label\na.png,eft\n")
    (folder / "train").mkdir()
    (folder / "train" / "metadata.csv").write_text("file_name,label\nnone.png,eft\n")
    files = "".join(f"  - split: {split}\n    path: {at}/*\n" for split, at in (("train", "one"), ("test", "two")))
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    data = read(folder)
    assert data.train.images[0][0, 0].tolist() == [200, 0, 0]
    assert data.test.images[0][0, 0].tolist() == [0, 0, 200]


def test_what_save_to_disk_writes(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["newt", "eft"])})
    rows = {"image": [{"bytes": each, "path": None} for each in (RED, BLUE)], "label": [1, 0]}
    split = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": split, "test": split}).save_to_disk(tmp_path / "newts")
    data = read(tmp_path / "newts")
    assert (list(data.classes), data.test.labels.tolist()) == (["newt", "eft"], [1, 0])
    datasets.concatenate_datasets([split] * 3).save_to_disk(tmp_path / "one")
    data = read(tmp_path / "one", test_share=0.3)
    assert (sorted(data.train.labels.tolist()), sorted(data.test.labels.tolist())) == ([0, 0, 1, 1], [0, 1])
    with pytest.raises(DataError, match=r"one has no test split; it has train: name one .* or set test_share = 0.2"):
        read(tmp_path / "one")


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


def test_without_the_library_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ProbebenchError, match=r"pip install 'probebench\[hf\]'"):
        read(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ProbebenchError, match=r"pip install 'probebench\[hf\]'"):
        read("someone/newts", revision=COMMIT)
