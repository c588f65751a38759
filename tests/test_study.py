"""The cases of benchmarks/study/, on a folder of the same formats with few images and untrained weights."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from probebench.records.run_record import load
from probebench.records.select import select
from probebench.records.view import RecordView
from probebench.reporting.contrasts import contrast_lines
from probebench.reporting.sentences import controls_line, trends_line
from tests.records.valid import validate

ROOT = Path(__file__).parent.parent
STUDY = ROOT / "benchmarks" / "study"
DATA = os.environ.get("PROBEBENCH_STUDY", "")
DOMAINS = ("photo", "art_painting", "cartoon", "sketch")
CLASSES = ("airplane", "automobile", "bird")
TAPS = 12 * 8 + 3


@pytest.fixture
def study(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Copies the cases into a project, and runs pytest there."""
    monkeypatch.delenv("PROBEBENCH_STUDY", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    shutil.copytree(STUDY, pytester.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    pytester.makeini("[pytest]\n")

    def run(*args):
        sys.modules.pop("study_data", None)  # which has read the variable when an earlier test imported it
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", "--probe-jobs=1", *args)

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the study with images but without weights."""
    root, rng = tmp_path_factory.mktemp("study"), np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for part, each in (("train", 10), ("test", 2)):
        labels = np.repeat(CLASSES, each)  # class by class, as in the true file
        images = rng.integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    np.savez(root / "cifar10_small.npz", **arrays)
    for domain in DOMAINS:
        for name in ("dog", "guitar"):
            (root / "pacs" / domain / name).mkdir(parents=True)
            for number in range(6):
                image = Image.fromarray(rng.integers(0, 256, (28, 28, 3), dtype=np.uint8))
                image.save(root / "pacs" / domain / name / f"pic_{number:03}.jpg")
    return root


@pytest.fixture(scope="module")
def weights(folder: Path) -> Path:
    """The folder with weights under the names, and in the type, of the true file."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    net = timm.create_model("vit_small_patch14_dinov2", num_classes=0)
    path = folder / "vit_s14_focus.safetensors"
    save_file({name: value.half() for name, value in net.state_dict().items()}, path)
    yield folder
    path.unlink()


def test_without_the_folder_one_reason_says_what_to_set(study):
    result = study("-rs")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED [[]2[]] *: PROBEBENCH_STUDY is not set: set it to the folder with *"])
    result.stdout.no_fnmatch_line("*rror*")


def test_what_is_missing_is_named_and_the_rest_can_run(study, folder, monkeypatch):
    monkeypatch.setenv("PROBEBENCH_STUDY", str(folder))
    result = study("-rs")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines([f"SKIPPED * PROBEBENCH_STUDY: {folder} has no vit_s14_focus.safetensors"])


def test_cases_of_each_part(study, weights, monkeypatch):
    monkeypatch.setenv("PROBEBENCH_STUDY", str(weights))
    lines = [line for line in study("--co", "-q").outlines if "::" in line]
    functions = Counter(line.split("::")[1].partition("[")[0] for line in lines)
    sweeps = {"test_clean": 2, "test_within": 13, "test_transfer": 13, "test_controls": 10, "test_domains": 8}
    assert functions == {name: count * TAPS for name, count in sweeps.items()}


def test_a_tap_of_corrupted_images_and_of_another_domain(study, weights, monkeypatch, pytester):
    monkeypatch.setenv("PROBEBENCH_STUDY", str(weights))
    shared = ("--probe-layer=final", "--probe-model=vit_s14_focus", "--probe-json=r.json")

    def measure(*args):
        study(*shared, *args).assert_outcomes(passed=1)
        record = json.loads((pytester.path / "r.json").read_text())
        return record["sweeps"][0], record["cases"][0]

    sweep, case = measure("--probe-dataset=cifar10_small_within_contrast_s2")
    assert sweep["dataset"] == "cifar10_small_within_contrast_s2"
    assert (case["n_train"], case["n_test"]) == (12, 6)
    sweep, case = measure("--probe-protocol=transfer@2", "--probe-dataset=pacs_sketch")
    assert (sweep["dataset"], sweep["trained_on"]) == ("pacs_sketch", "pacs_photo")
    assert (case["n_train"], case["n_test"]) == (8, 4)


def test_splits_of_a_corruption(folder, monkeypatch):
    monkeypatch.setenv("PROBEBENCH_STUDY", str(folder))
    monkeypatch.syspath_prepend(STUDY)
    import study_data

    monkeypatch.delitem(sys.modules, "study_data")
    classes, train, test = study_data.cifar10()
    assert classes == list(CLASSES)
    assert np.bincount(train.labels).tolist() == [4, 4, 4]  # two of five of each class
    _, same_train, noisy = study_data.cifar10("gaussian_noise", 5)
    _, noisy_train, same_noisy = study_data.cifar10("gaussian_noise", 5, "corrupted")
    assert np.array_equal(train.images, same_train.images)
    assert np.array_equal(noisy.images, same_noisy.images)
    assert not np.array_equal(noisy.images, test.images)
    assert not np.array_equal(noisy_train.images, train.images)
    assert np.array_equal(noisy.labels, test.labels)


# The records that docs/study.md is made from


@pytest.fixture(scope="module", params=["default", "transfer", "paper"])
def record(request):
    return load(STUDY / "records" / f"{request.param}.json.gz")


def test_records_are_whole(record):
    validate(record)
    assert not record["interrupted"]
    assert not record["failures"]
    assert all(sweep["contrasts"] for sweep in record["sweeps"])


@pytest.mark.parametrize(
    ("name", "datasets"),
    [
        ("default", ["cifar10_small", "cifar10_small_within_*", "pacs_*"]),
        ("default", ["cifar10_small_c_*"]),
        ("transfer", []),
        ("paper", []),
    ],
)
def test_the_page_says_what_the_records_say(name, datasets):
    page = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")
    view = RecordView(select(load(STUDY / "records" / f"{name}.json.gz"), [], datasets))
    lines = [*contrast_lines(view), *map(controls_line, view.controls), *map(trends_line, view.shift_trends)]
    assert lines
    assert [line for line in lines if line not in page] == []


@pytest.mark.skipif(not DATA, reason="PROBEBENCH_STUDY is not set: the images and weights of the study are elsewhere")
def test_a_second_run_gives_the_same_results(study, monkeypatch, pytester):
    monkeypatch.setenv("PROBEBENCH_STUDY", DATA)
    cases = ("--probe-model=vit_s14_focus", "--probe-dataset=pacs_photo", "--probe-layer=10,final,output")
    result = study(*cases, "--probe-strict", f"--probe-baselines={ROOT / 'baselines'}", "--probe-json=again.json")
    result.assert_outcomes(passed=10)
    stored = {case["id"]: case for case in load(STUDY / "records" / "default.json.gz")["cases"]}
    for case in load(pytester.path / "again.json")["cases"]:
        assert case["verdict"] == "same"
        # Another machine may flip the prediction of an image or two.
        assert case["accuracy"] == pytest.approx(stored[case["id"]]["accuracy"], abs=2 / case["n_test"])
