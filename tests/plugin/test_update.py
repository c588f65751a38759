from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probebench.catalog.cases import Sweep
from probebench.catalog.taps import Tap
from probebench.records import baselines
from tests.conftest import FEW, ONE, ONE_COUNT


def contents(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_nothing_is_stored_unless_asked_for(project, run):
    run(*FEW)
    assert not (project.path / "baselines").exists()


def test_update_stores_two_files_a_sweep_and_says_so(project, run, baselines_dir):
    run("--probe-update=new").stdout.fnmatch_lines(["baselines: 4 files updated in baselines"])
    assert sorted(contents(baselines_dir)) == sorted(
        f"{model}-{dataset}.{kind}"
        for model in ("tiny", "tiny_other")
        for dataset in ("blobs", "blobs_dark")
        for kind in ("json", "safetensors")
    )


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_lock_beside_baselines_is_kept_out_of_git(project, run, baselines_dir):
    run("--probe-update=new", "--probe-site=final")
    subprocess.run(["git", "init", "-q", "."], cwd=project.path, check=True)
    (project.path / ".gitignore").write_text("*.safetensors\n")  # as many repositories have it
    listed = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard", "baselines"],
        cwd=project.path,
        check=True,
        capture_output=True,
        text=True,
    )
    found = [Path(line).name for line in listed.stdout.splitlines()]
    assert (project.path / "baselines" / ".lock").exists()
    assert len(found) == 1 + 8
    assert ".gitignore" in found
    assert ".lock" not in found
    (project.path / "baselines" / ".gitignore").unlink()  # somebody does not want it
    run("--probe-prune").stdout.fnmatch_lines(["baselines: nothing to prune"])
    assert not (project.path / "baselines" / ".gitignore").exists()


def test_updating_what_has_not_changed_writes_nothing(run, stored, baselines_dir):
    run("--probe-update=all").stdout.fnmatch_lines(["baselines: 0 files updated in baselines"])
    assert contents(baselines_dir) == stored


def test_a_subset_never_touches_the_others(run, stored, baselines_dir):
    (baselines_dir / "tiny-blobs.json").unlink()
    (baselines_dir / "tiny-blobs.safetensors").unlink()
    run("--probe-update=all", "-k", "tiny-blobs-L02")
    after = contents(baselines_dir)
    assert {name for name in stored if stored[name] != after[name]} == {"tiny-blobs.json", "tiny-blobs.safetensors"}
    assert after["tiny-blobs.json"].count(b"accuracy") == 8
    run("--probe-update=new")
    assert contents(baselines_dir) == stored


def test_baselines_may_lie_elsewhere(project, run):
    run("--probe-update=all", "--probe-baselines=elsewhere", "--probe-model=tiny", *FEW)
    assert len(list((project.path / "elsewhere" / "default@2").iterdir())) == 4
    assert "4 new" in run(*FEW).stdout.str()
    run("--probe-strict", "--probe-baselines=elsewhere", "--probe-model=tiny", *FEW).assert_outcomes(passed=2)


def test_strict_fails_what_has_no_baseline_with_the_command_that_stores_one(run):
    result = run("--probe-strict", *ONE)
    result.assert_outcomes(failed=ONE_COUNT)
    result.stdout.fnmatch_lines(
        [
            "new: tiny-blobs-embed has no baseline to be compared with. To store one: "
            "pytest --probe-model=tiny --probe-dataset=blobs --probe-update=new"
        ]
    )
    run("--probe-strict", "--probe-update=new", *ONE).assert_outcomes(passed=ONE_COUNT)
    run("--probe-strict", *ONE).assert_outcomes(passed=ONE_COUNT)


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["alone", "workers"])
def test_the_command_that_stores_a_baseline_has_the_paths_and_the_folder_of_this_run(project, run, workers):
    where = project.path / "a b"
    where.mkdir()
    case, other = "test_tiny.py::test_probe[tiny-blobs-final]", "test_tiny.py::test_probe[tiny-blobs-embed]"
    result = run("--probe-strict", f"--probe-baselines={where}", *workers, case, other, "./")
    command = f"pytest test_tiny.py ./ '--probe-baselines={where}' --probe-model=tiny --probe-dataset=blobs"
    result.stdout.fnmatch_lines([f"*has no baseline to be compared with. To store one: {command} --probe-update=new"])


def test_another_test_set_is_not_comparable(project, run, stored):
    text = (project.path / "conftest.py").read_text()
    project.makeconftest(text.replace("missing=None, seed=0", "missing=None, seed=1"))
    result = run("--probe-strict", "--probe-model=tiny", "--probe-dataset=blobs")
    result.assert_outcomes(failed=ONE_COUNT)
    result.stdout.fnmatch_lines(["not comparable: tiny-blobs-embed has no baseline * test set *--probe-update=all"])
    told = (
        f"WARNING: {ONE_COUNT} cases of tiny-blobs were not compared with the baseline: "
        "baseline has test set *--probe-update=all"
    )
    result.stdout.no_fnmatch_line(told)
    result = run("--probe-model=tiny", "--probe-dataset=blobs")
    result.assert_outcomes(passed=ONE_COUNT)
    result.stdout.fnmatch_lines([told])


def test_a_baseline_without_a_case_is_stale(project, run, stored):
    text = (project.path / "conftest.py").read_text()
    project.makeconftest(text.replace("depth=2", "depth=1"))
    result = run()
    result.stdout.fnmatch_lines(["stale: 32 baselines without a case, such as tiny-blobs-L02-ln1*"])
    assert result.ret == pytest.ExitCode.OK
    assert run("--probe-strict").ret == pytest.ExitCode.TESTS_FAILED
    run("--probe-update=all")
    assert run("--probe-strict").ret == pytest.ExitCode.OK


def test_a_case_that_passes_by_another_level_is_the_level_that_was_asked_for(run, stored, baselines_dir):
    import numpy as np

    from probebench.catalog.cases import Sweep
    from probebench.catalog.taps import Tap
    from probebench.records import baselines

    sweep, tap = Sweep("tiny", "blobs", "default@2"), Tap("final", "final")
    baseline = baselines.read(baselines_dir.parent, sweep)
    wrong = np.flatnonzero(~baseline.correct[tap])[:5]  # five examples lost: p = 1/32
    baseline.correct[tap][wrong] = True
    baselines.write(baselines_dir.parent, baseline)
    only = ("--probe-model=tiny", "--probe-dataset=blobs", "--probe-layer=final")
    run(*only).assert_outcomes(passed=1)
    run(*only, "--probe-alpha=0.05").assert_outcomes(failed=1)
    run(*only, "--probe-alpha=0.05", "--probe-min-drop=5").assert_outcomes(passed=1)


def test_what_another_process_stored_meanwhile_is_kept(project, run, baselines_dir):
    # The other process is this one's last fixture: it stores its cases after ours are measured and compared.
    run("--probe-update=new", "-k", "tiny-blobs-L02")
    other = project.path / "other"
    baselines_dir.rename(other)
    text = (project.path / "conftest.py").read_text()
    project.makeconftest(
        text
        + """
import pytest, shutil

def pytest_runtest_teardown(item, nextitem):
    if nextitem is None:
        shutil.copytree("other", "baselines/default@2")
"""
    )
    run("--probe-update=new", "-k", "tiny-blobs-L01").assert_outcomes(passed=8)
    assert contents(baselines_dir)["tiny-blobs.json"].count(b"accuracy") == 16


def test_a_regression_that_is_not_stored_fails(project, run, stored, baselines_dir):
    sweep, tap = Sweep("tiny", "blobs", "default@2"), Tap(2, "act")
    baseline = baselines.read(baselines_dir.parent, sweep)
    baseline.correct[tap][:] = np.True_  # as if everything had been right once, with other weights
    baselines.write(baselines_dir.parent, replace(baseline, weights="0" * 16))
    args = ("--probe-update=all", *ONE)
    result = run(*args, "--probe-site=act")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["ERROR: baseline of tiny-blobs is not updated: *other weights *"])
    run(*args).assert_outcomes(passed=ONE_COUNT)


def test_update_all_of_a_part_with_other_weights_is_refused(project, run, stored, baselines_dir):
    text = (project.path / "conftest.py").read_text()
    project.makeconftest(text.replace('model("tiny", 0)', 'model("tiny", 7)'))
    result = run("--probe-update=all", "--probe-model=tiny", "--probe-dataset=blobs", "--probe-site=act")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [f"ERROR: baseline of tiny-blobs is not updated: *other weights *{ONE_COUNT - 2} of its cases*"]
    )
    assert contents(baselines_dir) == stored
