"""`--probe-resume`: a run that was killed costs the sweep that it was at."""

from __future__ import annotations

import shutil
import signal
import sys

import pytest
import timm
import torch

from probebench.records import run_record
from tests.plugin.xdist.test_workers import add_to_conftest, timeless

SWEEPS = ["tiny-blobs", "tiny-blobs_dark", "tiny_other-blobs", "tiny_other-blobs_dark"]

# Writes down the sweeps that begin; ends the process at the beginning of the third, if there is a file that says how.
ENDING = """
import os, pathlib, pytest, signal

@pytest.fixture(autouse=True, scope="session")
def ending(request):
    import probebench.measure.run as run
    original, monkeypatch, root, begun = run.prepare, pytest.MonkeyPatch(), request.config.rootpath, []

    def prepare(model, dataset, **more):
        begun.append(f"{model.name}-{dataset.name}")
        with (root / "begun").open("a") as file:
            file.write(begun[-1] + chr(10))
        if len(begun) == 3 and (root / "end").exists():
            how = (root / "end").read_text()
            if how == "ctrl-c":
                raise KeyboardInterrupt
            os.kill(os.getpid(), getattr(signal, how))
        return original(model, dataset, **more)

    monkeypatch.setattr(run, "prepare", prepare)
    yield
    monkeypatch.undo()
"""


CASES = """
import pytest

BOTH = {"model": ["tiny", "tiny_other"], "dataset": ["blobs", "blobs_dark"]}

@pytest.mark.probe(**BOTH, layer=[2, "final"], site=["act", "final"])
def test_probe(probe):
    probe.check()
"""
COUNT = 8

TINY_KWARGS = {"img_size": 16, "patch_size": 8, "embed_dim": 8, "depth": 2, "num_heads": 2, "num_classes": 0}
"""Of the network in tests/conftest.py."""


@pytest.fixture
def watched(project):
    """A project of eight cases that can be stopped."""
    add_to_conftest(project, ENDING)
    project.makepyfile(test_tiny=CASES)
    return project


@pytest.fixture(scope="module")
def _kept(tmp_path_factory):
    """What the runs of two fixtures leave, which is the same each time: a run record and an unfinished run."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def whole(watched, run, _kept):
    """The record of a run that nobody ended."""
    project, file = watched, _kept / "whole.json"
    if not file.exists():
        run(f"--probe-json={file}").assert_outcomes(passed=COUNT)
        assert begun(project) == SWEEPS
        assert not (project.path / ".probebench" / "unfinished").exists()
    return run_record.load(file)


@pytest.fixture
def stopped(watched, _kept):
    """A project in which a run was stopped by Ctrl-C after two sweeps."""
    project, unfinished = watched, watched.path / ".probebench" / "unfinished"
    if not (_kept / "unfinished").exists():
        (project.path / "end").write_text("ctrl-c")
        result = project.runpytest_inprocess("-p", "no:cacheprovider", "--probe-jobs=1", no_reraise_ctrlc=True)
        assert result.ret == pytest.ExitCode.INTERRUPTED
        result.stdout.fnmatch_lines(["To continue this run, repeat the command with --probe-resume."])
        assert begun(project) == SWEEPS[:3]
        (project.path / "end").unlink()
        shutil.copytree(unfinished, _kept / "unfinished")
    elif not unfinished.exists():
        shutil.copytree(_kept / "unfinished", unfinished)
    return project


def begun(project):
    """The sweeps that have begun since this was last asked."""
    path = project.path / "begun"
    found = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_a_killed_run_loses_the_sweep_that_it_was_at(warm, project, run, whole, how):
    (project.path / "end").write_text(how)
    assert project.runpytest_subprocess("-p", "no:cacheprovider", "--probe-jobs=1").ret == -getattr(signal, how)
    assert begun(project) == SWEEPS[:3]
    (project.path / "end").unlink()
    result = run("--probe-resume", "--probe-json=r.json")
    result.assert_outcomes(passed=COUNT)
    result.stdout.fnmatch_lines(
        [
            "Reusing 2 finished sweeps from an interrupted run of these cases.",
            "tiny on blobs: *, measured before (1 of 4 sweeps, about * left)",
            "tiny on blobs_dark: *, measured before (2 of 4 sweeps, about * left)",
            "tiny_other on blobs: *, * s (3 of 4 sweeps, about * left)",
        ]
    )
    assert begun(project) == SWEEPS[2:]
    record = run_record.load(project.path / "r.json")
    assert timeless(record) == timeless(whole)
    assert record["correct"]["sha256"] == whole["correct"]["sha256"]
    assert not (project.path / ".probebench" / "unfinished").exists()


def test_without_the_option_all_is_measured_and_what_was_left_is_told(stopped, run):
    result = run()
    result.stdout.fnmatch_lines(
        ["Found 2 finished sweeps from an interrupted run of these cases; --probe-resume reuses them."]
    )
    assert begun(stopped) == SWEEPS
    assert not (stopped.path / ".probebench" / "unfinished").exists()


def test_a_run_can_be_stopped_and_resumed_again_and_again(stopped, run):
    (stopped.path / "end").write_text("ctrl-c")
    args = ("-p", "no:cacheprovider", "--probe-jobs=1", "--probe-resume")
    stopped.runpytest_inprocess(*args).assert_outcomes(passed=COUNT)  # two sweeps begin, the third is no more
    assert begun(stopped) == SWEEPS[2:]


def test_workers_take_what_one_process_has_left(warm, whole, stopped):
    pytest.importorskip("xdist")
    result = stopped.runpytest_inprocess("-p", "no:cacheprovider", "-n", "2", "--probe-resume", "--probe-json=r.json")
    result.assert_outcomes(passed=COUNT)
    assert sorted(begun(stopped)) == SWEEPS[2:]
    assert timeless(run_record.load(stopped.path / "r.json")) == timeless(whole)
    assert not (stopped.path / ".probebench" / "unfinished").exists()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (["--probe-layer=final"], "cases"),
        (["--probe-protocol=few_shot_4@1"], "protocol"),
        (["--probe-alpha=0.05", "--probe-strict"], "--probe-alpha, --probe-strict"),
        (["--probe-update=new"], "--probe-update"),
        (["--probe-precision=bf16"], "protocol"),
    ],
    ids=lambda value: value[0].partition("=")[0] if isinstance(value, list) else "",
)
def test_another_run_takes_nothing_and_says_what_is_different(stopped, run, change, what):
    result = run("--probe-resume", *change)
    told = "--probe-resume: there is no unfinished run of these cases and settings; the one that was left last"
    result.stdout.fnmatch_lines([f"{told} differs in {what}; all is measured"])
    assert begun(stopped) == SWEEPS
    result.stdout.no_fnmatch_line("*interrupted run*")
    assert (stopped.path / ".probebench" / "unfinished").exists()


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (
            '"blobs_dark", reader="conftest:blobs", kwargs={"scale": 0.3}',
            '"blobs_dark", reader="conftest:blobs"',
            "data",
        ),
        ('model("tiny_other", 1,', 'model("tiny_other", 2,', "models or their checkpoints"),
    ],
)
def test_other_specs_are_another_run(stopped, run, old, new, what):
    text = (stopped.path / "conftest.py").read_text()
    assert old in text
    (stopped.path / "conftest.py").write_text(text.replace(old, new))
    run("--probe-resume").stdout.fnmatch_lines([f"--probe-resume: *differs in {what}*; all is measured"])
    assert begun(stopped) == SWEEPS


def test_a_checkpoint_that_was_written_anew_is_another_run(watched, run):
    conftest, file = watched.path / "conftest.py", watched.path / "own.pt"
    torch.save(timm.create_model("vit_tiny_patch16_224", **TINY_KWARGS).state_dict(), file)
    conftest.write_text(conftest.read_text().replace("seed=seed,", 'seed=seed, checkpoint="own.pt",'))
    (watched.path / "end").write_text("ctrl-c")
    watched.runpytest_inprocess("-p", "no:cacheprovider", "--probe-jobs=1", no_reraise_ctrlc=True)
    assert begun(watched) == SWEEPS[:3]
    (watched.path / "end").unlink()
    torch.save(timm.create_model("vit_tiny_patch16_224", **TINY_KWARGS).state_dict(), file)
    run("--probe-resume").stdout.fnmatch_lines(
        ["--probe-resume: *differs in models or their checkpoints; all is measured"]
    )
    assert begun(watched) == SWEEPS


def test_where_no_run_is_unfinished_that_is_told(watched, run):
    run("--probe-resume").stdout.fnmatch_lines(["--probe-resume: there is no unfinished run; all is measured"])


def test_a_baseline_that_changed_since_is_held_against_all_sweeps(stopped, run):
    run("--probe-update=all")
    assert begun(stopped) == SWEEPS
    run("--probe-resume", "--probe-strict").assert_outcomes(passed=COUNT)
    assert begun(stopped) == SWEEPS


def test_a_damaged_sweep_is_measured_again(stopped, run):
    kept = sorted((stopped.path / ".probebench" / "unfinished").rglob("*.json"))
    assert [path.stem for path in kept] == SWEEPS[:2]
    kept[0].write_text("{")
    bits = kept[1].with_name(f"{kept[1].stem}.correct.safetensors")
    bits.write_bytes(bits.read_bytes()[:-1])
    run("--probe-resume").assert_outcomes(passed=COUNT)
    assert begun(stopped) == SWEEPS


def test_a_sweep_that_failed_is_measured_again(project, run):
    add_to_conftest(project, ENDING)
    project.makepyfile(
        test_tiny="""
        import pytest

        @pytest.mark.probe(model="tiny", dataset=["no_class_two", "blobs", "blobs_dark"], site="final")
        def test_probe(probe):
            probe.check()
        """
    )
    (project.path / "end").write_text("ctrl-c")
    project.runpytest_inprocess("-p", "no:cacheprovider", "--probe-jobs=1", no_reraise_ctrlc=True)
    (project.path / "end").unlink()
    assert len(begun(project)) == 3
    run("--probe-resume").assert_outcomes(passed=2, failed=1)
    assert sorted(begun(project)) == ["tiny-blobs_dark", "tiny-no_class_two"]


def test_a_place_that_cannot_be_written_to_costs_nothing_but_this(watched, run):
    (watched.path / ".probebench").write_text("in the way")
    result = run("--probe-json=r.json")
    result.assert_outcomes(passed=COUNT)
    assert (watched.path / "r.json").exists()


def test_a_run_that_kept_no_sweep_is_none_to_differ_from(stopped, run):
    for path in (stopped.path / ".probebench" / "unfinished").glob("*/*"):
        if path.name != "settings":
            path.unlink()
    run("--probe-resume").stdout.fnmatch_lines(["--probe-resume: there is no unfinished run; all is measured"])
