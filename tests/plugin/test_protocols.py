"""Runs under the protocols that take other training images than the dataset's own, or fewer of them."""

from __future__ import annotations

import numpy as np
import pytest

from probebench.catalog.cases import Sweep
from probebench.catalog.taps import Tap
from probebench.records import baselines, run_record
from tests.conftest import TINY_COUNT
from tests.records.valid import validate

ONE = ("--probe-model=tiny", "--probe-dataset=blobs", "--probe-layer=2,final")
COUNT = 9


def record_of(project, name="r.json"):
    record = run_record.load(project.path / name)
    validate(record)
    return record


def test_a_few_shot_case_is_the_mean_over_its_draws(project, run):
    run(*ONE, "--probe-protocol=few_shot_4@1", "--probe-json=r.json").assert_outcomes(passed=COUNT)
    record = record_of(project)
    correct = run_record.load_correct(record, project.path / "r.json")
    for case in record["cases"]:
        assert (case["draws"], case["n_train"]) == (5, 12)
        bits = correct[case["id"]]
        assert bits.shape == (5, 120)
        assert case["accuracy"] == pytest.approx(bits.mean())
        # Wider than the interval of any one draw's mean alone: the draws differ.
        assert case["ci95"][1] - case["ci95"][0] > 2 * 1.96 * (0.25 / 600) ** 0.5
    assert any(len(set(bits.sum(axis=1))) > 1 for bits in correct.values())


def test_few_shot_reads_no_image_twice(project, run):
    run(*ONE, "--probe-protocol=few_shot_16@1", "--probe-json=r.json")
    (sweep,) = record_of(project)["sweeps"]
    assert 48 < sweep["images"] - 120 < 5 * 48  # draws of 48 out of 120 have images in common


def test_few_shot_baselines_keep_every_draw(project, run):
    few = (*ONE, "--probe-protocol=few_shot_4@1")
    run(*few, "--probe-update=all").assert_outcomes(passed=COUNT)
    run(*few, "--probe-strict", "--probe-batch-size=7").assert_outcomes(passed=COUNT)
    sweep, tap = Sweep("tiny", "blobs", "few_shot_4@1"), Tap(2, "act")
    stored = baselines.read(project.path / "baselines", sweep)
    assert stored.draws == 5
    # As if one of the draws had once had everything right, and later every one of them.
    for draws, verdict in ((1, "regressed"), (5, "regressed")):
        stored.correct[tap][:draws] = np.True_
        baselines.write(project.path / "baselines", stored)
        result = run(*few, "--probe-json=r.json")
        result.assert_outcomes(passed=COUNT - 1, failed=1)
        case = next(c for c in record_of(project)["cases"] if c["id"] == "tiny-blobs-L02-act")
        assert case["verdict"] == verdict
        assert case["lost"] <= 120


def test_transfer_trains_on_the_clean_dataset_and_tests_on_the_shifted_one(project, run):
    conftest = (project.path / "conftest.py").read_text()
    project.makeconftest(conftest.replace('kwargs={"scale": 0.3},', 'kwargs={"scale": 0.3, "seed": 1}, clean="blobs",'))
    run("--probe-model=tiny", "--probe-json=default.json").assert_outcomes(passed=TINY_COUNT // 2)
    run("--probe-model=tiny", "--probe-protocol=transfer@2", "--probe-json=r.json").assert_outcomes(
        passed=TINY_COUNT // 2
    )
    before, record = record_of(project, "default.json"), record_of(project)
    assert {s["dataset"]: s["trained_on"] for s in before["sweeps"]} == {"blobs": "blobs", "blobs_dark": "blobs_dark"}
    assert {s["dataset"]: s["trained_on"] for s in record["sweeps"]} == {"blobs": "blobs", "blobs_dark": "blobs"}
    accuracy = [{c["id"]: c["accuracy"] for c in each["cases"]} for each in (before, record)]
    held_out = [{c["id"]: c["held_out_accuracy"] for c in each["cases"]} for each in (before, record)]
    for name in accuracy[0]:
        if "-blobs-" in name:  # its own clean dataset: the reference
            assert accuracy[0][name] == accuracy[1][name]
        # Both are chosen on the clean images.
        assert held_out[1][name] == held_out[1][name.replace("blobs_dark", "blobs")]
    # Three bands at a third of the brightness: what separated bright ones does not separate them.
    dark = [name for name in accuracy[0] if "-blobs_dark-" in name]
    assert np.mean([accuracy[1][name] for name in dark]) < np.mean([accuracy[0][name] for name in dark])


def test_a_clean_dataset_that_does_not_exist_is_named(project, run):
    conftest = (project.path / "conftest.py").read_text()
    project.makeconftest(conftest.replace('kwargs={"scale": 0.3},', 'kwargs={"scale": 0.3}, clean="blob",'))
    result = run("--probe-model=tiny", "--probe-protocol=transfer@2")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*unknown dataset 'blob'. Did you mean 'blobs'*"])


def test_a_precision_is_a_protocol_with_baselines_of_its_own(project, run):
    run(*ONE, "--probe-update=all").assert_outcomes(passed=COUNT)
    lower = (*ONE, "--probe-precision=bf16")
    run(*lower, "--probe-update=all", "--probe-json=r.json").assert_outcomes(passed=COUNT)
    record = record_of(project)
    (sweep,) = record["sweeps"]
    assert (sweep["protocol"], sweep["precision"]) == ("default@2+bf16", "bfloat16")
    assert sweep["batch_size"] == 1024
    assert {case["verdict"] for case in record["cases"]} == {"new"}
    result = run(
        *ONE, "--probe-protocol=default@2+bf16", "--probe-strict", "--probe-batch-size=50", "--probe-json=r.json"
    )
    result.assert_outcomes(passed=COUNT)
    assert record_of(project)["sweeps"][0]["batch_size"] == 50
    run(*ONE, "--probe-strict", "--probe-precision=fp32").assert_outcomes(passed=COUNT)
    assert sorted(path.name for path in (project.path / "baselines").glob("default*")) == [
        "default@2",
        "default@2+bf16",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--probe-precision=tf32", "--probe-device=cpu"],
            "*tf32 needs a GPU, but the device is cpu: use fp32 or bf16*",
        ),
        (["--probe-precision=bf16", "--probe-protocol=default@2+fp16"], "*default@2+fp16 already names a precision*"),
        (
            ["--probe-protocol=default@2+bf61"],
            "*unknown precision or pooling of protocol default@2 'bf61'. Did you mean 'bf16'*",
        ),
    ],
)
def test_a_precision_that_cannot_be_is_refused_before_any_work(project, run, options, message):
    result = run(*ONE, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert not (project.path / ".probebench").exists()
