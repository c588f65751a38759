"""The recipes of docs/adding-a-dataset.md, each followed to the letter."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from probebench.catalog import DatasetSpec
from probebench.catalog.catalog import parse
from probebench.datasets import load
from probebench.fetch.local import missing
from tests.datasets.ondisk import encoded, fill, jpeg, parquet
from tests.datasets.test_webdataset import shard

DOCS = Path(__file__).parents[2] / "docs" / "adding-a-dataset.md"
INTRODUCTION, *SECTIONS = re.split("^## ", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)
SECTION = {section.partition("\n")[0]: section for section in SECTIONS}


def files(text):
    """The snippets that have a file name, by it."""
    return dict(re.findall(r"`([\w.]+)`:\n```\w+\n(.*?)```", text, re.DOTALL))


@pytest.fixture
def follow(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Save the snippets of a section, and probe the dataset that they add."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(title, name):
        snippets = files(INTRODUCTION) | files(SECTION[title])
        snippets["test_own.py"] = snippets["test_own.py"].replace("my_flowers", name)
        for file, text in snippets.items():
            (pytester.path / file).write_text(text, encoding="utf-8")
            if file.startswith("save_"):
                exec(compile(text, file, "exec"), {})
        args = ["-p", "no:cacheprovider", "--probe-jobs=1", "--probe-layer=final", "--probe-update=new", "-v"]
        result = pytester.runpytest_inprocess("test_own.py", *args)
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines([f"*glyphvit-{name}-final*PASSED*"])
        return result

    return run


def test_a_folder_of_images(follow, pytester):
    for split in ("train", "test"):
        for name, colour in (("daisy", "white"), ("tulip", "red")):
            for i in range(4):
                jpeg(pytester.path / "flowers" / split / name / f"{i}.jpg", colour, (20 + i, 24))
    follow("A folder of images", "my_flowers")


def test_a_table_or_a_list(follow, pytester):
    rows = ["image_id,species,split"]
    for number in range(10):
        name, colour = [("daisy", "white"), ("tulip", "red")][number % 2]
        jpeg(pytester.path / "photographs" / f"img_{number}.jpg", colour, (20 + number, 24))
        rows.append(f"img_{number},{name},{'train' if number < 6 else 'test'}")
    (pytester.path / "labels.csv").write_text("\n".join(rows))
    result = follow("A table or a list", "my_herbarium")
    result.stdout.fnmatch_lines(
        ["images of my_herbarium: labels.csv: images are in column 'image_id' and labels are in *, guessed*"]
    )


def test_test_images_in_one_folder(follow, pytester):
    fill(pytester.path / "ilsvrc", "train", ["n01440764", "n01443537"], count=3)
    for number in range(4):
        jpeg(pytester.path / "ilsvrc" / "val" / f"ILSVRC2012_val_{number:08d}.JPEG", (60 * (number % 2), 100, 0))
    (pytester.path / "ilsvrc" / "val_labels.txt").write_text("n01440764\nn01443537\n" * 2)
    follow("Test images in one folder", "my_imagenet")


def test_shards_of_webdataset(follow, pytester):
    for name in ("train-00", "train-01", "test-00"):
        colours = enumerate([(200, 0, 0), (0, 0, 200)] * 2)
        members = [[(f"{n}.png", encoded(colour)), (f"{n}.cls", str(n % 2))] for n, colour in colours]
        shard(pytester.path / f"{name}.tar", *(member for pair in members for member in pair))
    follow("Shards of WebDataset", "my_shards")


def test_arrays_in_an_npz_file(follow):
    follow("Arrays in an npz file", "my_cells")


@pytest.mark.parametrize("name", ["my_shown", "my_hour"])
def test_several_labels_an_image_or_numbers(follow, name):
    follow("Several labels an image, or numbers", name)


def test_a_function_of_ones_own(follow):
    follow("A function of your own", "my_stripes")


def test_a_hugging_face_dataset(follow, pytester, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="needs probebench[hf]")
    from huggingface_hub import constants

    def ask(*_, **__):
        raise AssertionError("something asks the network")

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(pytester.path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", pytester.path / "prepared")
    (commit,) = re.findall("[0-9a-f]{40}", SECTION["A Hugging Face dataset"])
    snapshot = pytester.path / "hub" / "datasets--someone--newts" / "snapshots" / commit
    images = [encoded((200, 0, 0)), encoded((0, 0, 200))] * 4
    for split in ("train", "validation"):
        parquet(snapshot / f"{split}.parquet", images, [0, 1] * 4, image="photo", label="species")
    follow("A Hugging Face dataset", "my_newts")


def test_a_line_in_the_catalog(root):
    (spec,) = parse(DatasetSpec, files(SECTION["A line in the catalog"])["datasets.toml"], "datasets.toml").values()
    assert missing(spec) == list(spec.archives)
    fill(root / "leaves", "train", ["green", "yellow"])
    assert missing(spec) == [spec.archives[1]]
    fill(root / "leaves", "val", ["green", "yellow"])
    assert missing(spec) == []
    assert len(load(spec).test) == 4


def test_every_snippet_with_a_file_name_is_in_a_recipe_that_is_followed():
    followed = {
        "A folder of images",
        "A table or a list",
        "Test images in one folder",
        "Arrays in an npz file",
        "A function of your own",
        "A Hugging Face dataset",
        "Shards of WebDataset",
    }
    assert set(SECTION) == followed | {
        "How images are decoded",
        "Several labels an image, or numbers",
        "A line in the catalog",
    }
    count = sum(len(files(text)) for text in (INTRODUCTION, *SECTION.values()))
    assert count == len(re.findall("```(?:python|toml)", DOCS.read_text(encoding="utf-8")))
