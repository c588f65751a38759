from __future__ import annotations

import json
from dataclasses import replace

import pytest

from probebench.catalog.protocols import get_protocol

IMAGES = 4 * 240  # 2 models x 2 datasets, train and test
SOME, COUNT = "--probe-site=act,final", 4 * 3


@pytest.fixture
def record(run, project):
    """A run with its record."""

    def runner(*args):
        result = run("--probe-json=run.json", SOME, *args)
        result.assert_outcomes(passed=COUNT)
        return result, json.loads((project.path / "run.json").read_text())

    return runner


def scores(record):
    return [(case["id"], case["accuracy"], case["metrics"]) for case in record["cases"]]


def test_a_second_run_extracts_nothing(record):
    first, before = record("--probe-cache=./features")
    first.stdout.fnmatch_lines(["feature cache: 8 written (* of at most 50 GB in *features"])
    second, after = record("--probe-cache=./features")
    second.stdout.fnmatch_lines(["feature cache: 8 sets of features read (*, checked in * s); *"])
    assert before["images"] == IMAGES
    assert after["images"] == 0
    assert after["images_per_second"] is None
    assert scores(before) == scores(after)


@pytest.mark.parametrize("changes", [{"probe": "ridge_path"}, {"path": (0.01, 1.0)}], ids=str)
def test_another_probe_or_strength_extracts_nothing(record, monkeypatch, changes):
    _, before = record("--probe-cache=./features")
    monkeypatch.setattr("probebench.measure.run.get_protocol", lambda name: replace(get_protocol(name), **changes))
    _, after = record("--probe-cache=./features")
    assert after["images"] == 0
    assert scores(after) != scores(before)


def test_another_protocol_extracts_the_images_of_another_list_only(record):
    record("--probe-cache=./features")
    _, few = record("--probe-cache=./features", "--probe-protocol=few_shot_4@1")
    assert 0 < few["images"] <= 4 * 5 * 4 * 3  # sweeps x draws x shots x classes; of test images none


def test_quick_features_are_not_kept_by_themselves(record, project, monkeypatch):
    monkeypatch.setenv("PROBEBENCH_CACHE", str(project.path / "default"))
    result, _ = record()
    result.stdout.no_fnmatch_line("feature cache*")
    assert not list(project.path.glob("default/*/*.f32"))


def test_on_keeps_them_in_the_default_folder_and_off_uses_none(record, project, monkeypatch):
    monkeypatch.setenv("PROBEBENCH_CACHE", str(project.path / "default"))
    record("--probe-cache=on")
    assert len(list(project.path.glob("default/*/manifest.json"))) == 8
    _, off = record("--probe-cache=off")
    assert off["images"] == IMAGES
    _, auto = record()
    assert auto["images"] == 0  # what is there is used


def test_a_damaged_file_is_told_of_and_costs_its_extraction_only(record, project):
    _, before = record("--probe-cache=./features")
    victim = sorted(project.path.glob("features/*/*.f32"))[0]
    victim.write_bytes(victim.read_bytes()[::-1])
    result, after = record("--probe-cache=./features")
    result.stdout.fnmatch_lines([f"WARNING: feature cache: 1 damaged, so extracted again: *{victim.name}"])
    assert after["images"] == 120
    assert scores(before) == scores(after)


def test_a_bound_that_is_too_small_is_a_warning(record):
    result, _ = record("--probe-cache=./features", "--probe-cache-size=1kB")
    result.stdout.fnmatch_lines(
        ["WARNING: feature cache: features of tiny blobs train are not cached: * more would be*"]
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "--probe-cache=of",
            "--probe-cache takes auto, on, off or a folder, got 'of'; a new folder of that name is ./of",
        ),
        ("--probe-cache-size=big", "--probe-cache-size takes a size such as 500MB or 50GB, got 'big'"),
        ("--probe-cache=./test_tiny.py", "--probe-cache: no feature cache can be kept in *test_tiny.py*"),
    ],
)
def test_mistakes_are_found_before_any_work(run, option, message):
    result = run(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{message}*"])


def test_workers_share_it_and_tell_what_it_did(project, run, monkeypatch):
    pytest.importorskip("xdist")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    args = ("-n2", "--probe-cache=./features", "--probe-json=run.json", SOME)
    first = run(*args)
    first.stdout.fnmatch_lines(["feature cache: 8 written (*"])
    second = run(*args)
    second.stdout.fnmatch_lines(["feature cache: 8 sets of features read (*"])
    assert json.loads((project.path / "run.json").read_text())["images"] == 0
