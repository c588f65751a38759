"""Models and datasets of conftest files that pytest loads only when it collects their folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probebench.catalog import Archive, DatasetSpec, ModelSpec
from probebench.catalog.cases import Sweep
from probebench.models import default_catalog
from probebench.plugin.registry import ConftestSpecs, specs_from_json
from tests.conftest import ONE_COUNT, TINY_COUNT

LATE = """
from probebench import DatasetSpec, ModelSpec

def pytest_probebench_models():
    return [ModelSpec(name="late", architecture="VisionTransformer", depth=3, weights="random", seed=0, input_size=16,
                      mean=(0.5,) * 3, std=(0.5,) * 3,
                      kwargs=dict(img_size=16, patch_size=8, embed_dim=8, num_heads=2, num_classes=0))]

def pytest_probebench_datasets():
    return [DatasetSpec(name="late_digits", reader="probebench.datasets.embedded:digits")]
"""

CASES = """
import pytest

@pytest.mark.probe(model="late", dataset="late_digits", site=["rc2", "final"])
def test_probe(probe):
    probe.check()
"""
COUNT = 4


@pytest.fixture
def late(project):
    """A folder below the tiny project, collected after it, with a model and a dataset of its own."""
    folder = project.mkdir("zzz")
    (folder / "conftest.py").write_text(LATE)
    (folder / "test_late.py").write_text(CASES)
    return folder


@pytest.mark.parametrize(
    ("args", "count"),
    [
        ([], TINY_COUNT + COUNT),
        (["--probe-model=late"], COUNT),
        (["--probe-model=late", "--probe-model=tiny"], 2 * ONE_COUNT + COUNT),
        (["--probe-dataset=late_digits"], COUNT),
        (["--probe-model=late,tiny", "--probe-layer=3"], 1),
        (["--probe-layer=3"], 1),
        (["-m", "probe(model='late', site='final')"], 1),
        (["zzz"], COUNT),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_they_have_cases_where_pytest_is_started_in_a_folder_above(late, run, args, count):
    result = run("--collect-only", "-q", *args)
    assert result.ret == 0
    assert len([line for line in result.stdout.lines if "::test_probe[" in line and "[none]" not in line]) == count


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["alone", "workers"])
def test_they_are_measured_and_recorded(project, late, run, workers):
    if workers:
        pytest.importorskip("xdist")
    weights = "--probe-weights=late=late.safetensors"
    result = run("--probe-model=late", "--probe-json=run.json", weights, *workers)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*weights of model 'late' (*late.safetensors): no such file*"])
    run("--probe-model=late", "--probe-json=run.json", *workers).assert_outcomes(
        passed=COUNT, **({} if workers else {"deselected": 1})
    )
    record = json.loads((project.path / "run.json").read_text())
    assert {case["model"] for case in record["cases"]} == {"late"}
    assert [sweep["depth"] for sweep in record["sweeps"]] == [3]


def test_workers_take_what_one_process_has_left(project, late, run):
    pytest.importorskip("xdist")
    (late / "test_stop.py").write_text(
        "from pathlib import Path\ndef test_stop():\n    if Path('stop').exists(): raise KeyboardInterrupt\n"
    )
    (project.path / "stop").touch()
    args = ("-p", "no:cacheprovider", "--probe-jobs=1", "--probe-dataset=late_digits")
    stopped = project.runpytest_inprocess(*args, no_reraise_ctrlc=True)
    assert stopped.ret == pytest.ExitCode.INTERRUPTED
    (project.path / "stop").unlink()
    result = run("--probe-dataset=late_digits", "--probe-resume", "-n2")
    result.assert_outcomes(passed=COUNT + 1)
    result.stdout.fnmatch_lines(["Reusing 1 finished sweep from an interrupted run of these cases."])


def test_what_a_worker_tells_of_them_is_json():
    spec = ModelSpec("mine", "vit_tiny_patch16_224", mean=np.float32([0.5] * 3), checkpoint=Path("w.safetensors"))
    data = DatasetSpec("shapes", "module:function", kwargs={"root": Path(".")}, archives=(Archive("https://a/b.zip"),))
    found = ConftestSpecs(pytest.Config.fromdictargs({}, []))
    found.models, found.datasets = [spec], [data]
    catalog = default_catalog().extend([spec], [data])
    table = found.to_json(catalog, [Sweep("mine_random", "shapes", "default@2")])
    models, datasets = specs_from_json(json.loads(json.dumps(table)))
    assert models == [replace(catalog.model("mine"), checkpoint="w.safetensors")]
    assert datasets == [replace(data, kwargs={})]


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["alone", "workers"])
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--probe-model=latte"], "*unknown model 'latte'. Did you mean 'late'*"),
        (["--probe-dataset=latte_digits"], "*unknown dataset 'latte_digits'. Did you mean 'late_digits'*"),
        (["--probe-weights=latte=w"], "*unknown model 'latte'. Did you mean 'late'*"),
        (["--probe-model=late", "--probe-layer=4"], "*unknown layer '4'*Known: 1 to 3*"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_name_that_none_of_them_gives_is_refused_when_all_are_known(project, late, run, workers, args, message):
    if workers:
        pytest.importorskip("xdist")
    result = run(*args, *workers)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert not (project.path / ".probebench" / "runs").exists()


@pytest.mark.parametrize("where", ["above", "below"])
def test_a_name_that_is_taken_is_refused_and_nothing_else_is_said(project, late, run, where):
    if where == "below":
        (late / "conftest.py").write_text(LATE.replace('"late"', '"tiny"'))
    else:
        text = (project.path / "conftest.py").read_text()
        project.makeconftest(text.replace('model("tiny_other", 1', 'model("tiny", 1'))
    (late / "test_last.py").write_text(CASES)
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.str().strip() == "ERROR: model 'tiny' is registered twice; choose another name"


def test_an_unknown_name_does_not_hide_what_could_not_be_collected(late, run):
    (late / "conftest.py").write_text("import no_such_module\n")
    result = run("--probe-model=late")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*No module named 'no_such_module'*"])
    assert "unknown model" not in result.stdout.str() + result.stderr.str()
