from __future__ import annotations

import json

import pytest

from probebench.measure import estimate
from tests.conftest import ONE_COUNT, TINY_COUNT


def test_the_plan_is_printed_and_nothing_measured(run, project):
    result = run("--probe-plan")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "sweep *taps *images *features *in *passes *memory *extract *fit",
            f"tiny-blobs *{ONE_COUNT} *240 *238 kB *memory *1 *13 MB * s * s",
            f"tiny_other-blobs_dark *{ONE_COUNT} *240 *memory *1 *",
            "4 sweeps: about * s, at most * of memory at a time besides network and libraries",
        ]
    )
    result.assert_outcomes()
    assert not (project.path / ".probebench").exists()


def test_networks_and_datasets_that_sweeps_share_are_timed_once(run, monkeypatch):
    built, read, timed = [], [], []

    def count(name, calls):
        original = getattr(estimate, name)

        def counted(first, *args, **more):
            calls.append(first)
            return original(first, *args, **more)

        monkeypatch.setattr(estimate, name, counted)

    count("build_model", built)
    count("read_images", read)
    count("time_network", timed)
    run("--probe-plan").stdout.fnmatch_lines(["4 sweeps: about * s, *"])
    assert [spec.name for spec in built] == ["tiny", "tiny_other"]
    assert len(timed) == 2
    assert [spec.name for spec in read] == ["blobs", "blobs_dark"]


def test_a_sweep_that_does_not_fit_says_so(run):
    result = run("--probe-plan", "--probe-memory=10kB")
    result.stdout.fnmatch_lines(["tiny-blobs: cannot be planned: the tap * alone, *: raise --probe-memory*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_with_less_memory_there_are_more_passes_and_the_same_results(run, project):
    def record(*args):
        run("--probe-json=run.json", *args).assert_outcomes(passed=TINY_COUNT)
        return json.loads((project.path / "run.json").read_text())

    whole = record()
    memory = min(sweep["plan"]["memory_bytes"] for sweep in whole["sweeps"]) - 100_000
    little = record(f"--probe-memory={memory}B")
    assert [case["accuracy"] for case in whole["cases"]] == [case["accuracy"] for case in little["cases"]]
    assert {sweep["plan"]["mode"] for sweep in whole["sweeps"]} == {"memory"}
    for sweep in little["sweeps"]:
        assert sweep["plan"]["mode"] == "passes"
        assert sweep["plan"]["memory_bytes"] <= memory
        assert sweep["images"] == 240 * sweep["plan"]["passes"] > 240
    planned = run("--probe-plan", f"--probe-memory={memory}B")
    passes = little["sweeps"][0]["plan"]["passes"]
    planned.stdout.fnmatch_lines([f"tiny-blobs *{ONE_COUNT} *{240 * passes:,} *memory *{passes} *13 MB*"])


def test_a_run_that_does_not_fit_fails_with_the_reason(run):
    result = run("--probe-memory=10kB", "--probe-model=tiny", "--probe-dataset=blobs")
    result.stdout.fnmatch_lines(["*the tap * alone, *raise --probe-memory*"])
    assert result.ret == 1


def test_a_size_that_is_none(run):
    result = run("--probe-memory=much")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--probe-memory takes a size such as 500MB or 50GB, got 'much'*"])


def test_workers_are_refused(run):
    pytest.importorskip("xdist")
    result = run("-n2", "--probe-plan")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--probe-plan runs in one process: leave out -n*"])


def test_nothing_is_measured_either_where_a_file_cannot_be_imported(run, project):
    project.makepyfile(test_broken="import nowhere")
    result = run("--probe-plan", "--continue-on-collection-errors")
    result.stdout.fnmatch_lines(["4 sweeps: about *"])
    result.assert_outcomes(errors=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert not (project.path / ".probebench").exists()
    assert run("--probe-plan").ret == pytest.ExitCode.INTERRUPTED
