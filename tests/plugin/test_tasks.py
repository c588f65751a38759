"""Datasets whose labels are no single class, from test files to baselines, leaderboards and the report."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from probebench.catalog.cases import Sweep
from probebench.records import baselines
from tests.conftest import ONE_COUNT, TINY_COUNT
from tests.records.valid import validate

READERS = """
def tasks(task, n=120, weak=1.0):
    rng = np.random.default_rng(3)
    splits = []
    for _ in range(2):
        labels = (rng.random((n, 3)) < [0.2, 0.4, 0.6]).astype(np.int8)
        values = rng.uniform(-1, 1, n)
        images = rng.uniform(0, 120, (n, 16, 16))
        for image, own, value in zip(images, labels, values):
            for label in np.flatnonzero(own):
                image[5 * label : 5 * label + 5] += 60 * weak
            if task == "regression":
                image[:8] += 60 * value * weak
        splits.append(Split(images.clip(0, 255).astype(np.uint8), labels if task == "multilabel" else values))
    return (["top", "middle", "bottom"] if task == "multilabel" else ["light"]), *splits
"""
CASES = """
import pytest

@pytest.mark.probe(model=["tiny", "tiny_other"], dataset=["bars", "light"])
def test_probe(probe):
    probe.check()
"""


@pytest.fixture
def project(project):
    conftest = project.path / "conftest.py"
    text = conftest.read_text()
    specs = """
            DatasetSpec("bars", "conftest:tasks", task="multilabel", shift="none"),
            DatasetSpec("light", "conftest:tasks", task="regression"),
            DatasetSpec("blobs_dim","""
    assert text.count('DatasetSpec(name="blobs_dark",') == 1
    text = text.replace('DatasetSpec(name="blobs_dark",', f"{specs.strip()} ", 1)
    conftest.write_text(text + READERS)
    project.makepyfile(test_tiny=CASES)
    return project


def test_a_run_has_verdicts_a_leaderboard_a_record_and_a_report(project, run, baselines_dir):
    first = run("--probe-update=new", "--probe-json=run.json", "--probe-report=run.html", "--probe-leaderboard=full")
    first.assert_outcomes(passed=TINY_COUNT)
    text = first.stdout.str()
    for line in (
        "tiny on bars: * mAP 0.*, * over output*",
        "bars, no shift: 120 test images, default@2",
        "* mAP *95% CI*NLL*verdict*",
        "tiny *chosen on held-out images: mAP 0.* (0.*-0.*); * are tied with it*",
        "light: 120 test images, default@2",
        "* R2 *95% CI*RMSE *MAE *verdict*",
        "tiny *chosen on held-out images: R2 *",
        "tiny: best layer of each site, chosen on held-out images; mean mAP [[]depth[]]",
        "tiny: best layer of each site, chosen on held-out images; mean R2 [[]depth[]]",
        "Controls: tiny, 1 dataset (mAP): the chosen taps gain *",
        "*would look 0.* (mAP) and 0.* (R2) better*",
    ):
        first.stdout.fnmatch_lines([line])
    assert "acc %" not in text
    record = json.loads((project.path / "run.json").read_text())
    validate(record)
    assert {sweep["dataset"]: sweep["metric"] for sweep in record["sweeps"]} == {"bars": "map", "light": "r2"}
    assert max(case["accuracy"] for case in record["cases"] if case["dataset"] == "bars") > 0.7
    assert max(case["accuracy"] for case in record["cases"] if case["dataset"] == "light") > 0.3
    assert json.loads((baselines_dir / "tiny-light.json").read_text())["cases"]["final"].keys() == {"score"}
    page = (project.path / "run.html").read_text()
    assert '"score": "mAP"' in page or '"score":"mAP"' in page
    assert "acc %" not in page

    # The same numbers are no change.
    run("--probe-strict", "--probe-model=tiny").assert_outcomes(passed=2 * ONE_COUNT)


def test_a_regression_says_what_the_score_was(project, run):
    run("--probe-update=new", "--probe-model=tiny", "--probe-site=final").assert_outcomes(passed=2)
    for dataset in ("bars", "light"):
        old = baselines.read(project.path / "baselines", Sweep("tiny", dataset, "default@2"))
        better = {tap: scores + np.float32(0.1) for tap, scores in old.correct.items()}
        baselines.write(project.path / "baselines", replace(old, correct=better))
    result = run("--probe-model=tiny", "--probe-site=final", "-rN", "--probe-json=run.json")
    result.assert_outcomes(failed=2)
    for dataset, score in (("bars", "mAP"), ("light", "R2")):
        line = (
            f"*regressed: tiny on {dataset} at final: {score} 0.*, baseline {score} 0.* (-0.100; 120 test images score*"
        )
        result.stdout.fnmatch_lines([line])
    result.stdout.fnmatch_lines(["*dataset * model * tap * score *baseline *lost *gained *verdict*"])
    (case, _) = json.loads((project.path / "run.json").read_text())["cases"]
    assert (case["verdict"], case["lost"], case["gained"]) == ("regressed", 120, 0)


@pytest.mark.parametrize(
    ("protocol", "why"),
    [
        ("few_shot_4@2", "it draws 4 images a class; use default@2"),
        ("paper@1", "its probe sklearn_logistic fits classes only; use default@2"),
    ],
)
def test_protocols_for_classes_refuse_in_one_sentence(run, protocol, why):
    result = run("--probe-model=tiny", "--probe-site=final", f"--probe-protocol={protocol}")
    result.assert_outcomes(failed=2)
    for dataset, task in (("bars", "multilabel"), ("light", "regression")):
        result.stdout.fnmatch_lines(
            [f"*protocol '{protocol}' cannot measure dataset '{dataset}' of task '{task}': {why}*"]
        )
