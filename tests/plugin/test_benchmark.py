"""Every case is a benchmark of its own for pytest-benchmark."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest

from probebench.records import run_record
from tests.conftest import ONE, ONE_COUNT

# pytest-benchmark gives each benchmark that is no case a second otherwise.
BRIEF = "--benchmark-max-time=0.01"


def test_json_has_attributed_time_and_accuracy_of_every_case(project, run):
    count = 2 * 2 * 3  # models, datasets, taps
    run("--probe-site=act,final", "--benchmark-json=b.json", "--probe-json=r.json").assert_outcomes(passed=count)
    benchmarks = json.loads((project.path / "b.json").read_text())["benchmarks"]
    cases = {case["id"]: case for case in run_record.load(project.path / "r.json")["cases"]}
    assert len(benchmarks) == len(cases) == count
    for benchmark in benchmarks:
        info, case = benchmark["extra_info"], cases[benchmark["param"]]
        assert info["accuracy"] == case["accuracy"]
        assert (info["model"], info["layer"], info["site"]) == (case["model"], case["layer"], case["site"])
        assert benchmark["stats"]["mean"] == pytest.approx(case["seconds"])
        assert benchmark["stats"]["rounds"] == 1


def test_the_table_is_printed_on_request_only_and_others_always(project, run):
    project.makepyfile(test_speed="def test_fast(benchmark): benchmark(lambda: None)")
    text = run(*ONE, "--probe-site=act", BRIEF).stdout.str()
    assert "test_fast" in text
    assert "tiny-blobs-L01-act]" not in text
    assert "tiny-blobs-L01-act]" in run("--probe-benchmark-table", *ONE, "--probe-site=act", BRIEF).stdout.str()


def test_saved_runs_can_be_compared(run):
    run("--benchmark-save=first", *ONE)
    result = run(*ONE, "--benchmark-compare", "--benchmark-compare-fail=mean:100000%")
    result.assert_outcomes(passed=ONE_COUNT)
    result.stdout.fnmatch_lines(["*tiny-blobs-L01-act* (0001_first)*"])


@pytest.mark.parametrize("args", [["-p", "no:benchmark"], ["--benchmark-disable"]], ids=" ".join)
def test_cases_are_measured_without_pytest_benchmark_too(run, args):
    result = run(*args, *ONE)
    result.assert_outcomes(passed=ONE_COUNT)
    assert "best layer of each site" in result.stdout.str()


OTHERS = """
def test_plain(): pass

def test_fast(benchmark): benchmark(lambda: None)
"""
FINAL = (*ONE, "--probe-site=final")


def test_only_benchmarks_means_cases_too(project, run):
    project.makepyfile(test_others=OTHERS)
    result = run(*FINAL, "--benchmark-only", BRIEF, "--probe-strict", "-W", "error", "-rs")
    result.assert_outcomes(passed=1, failed=1, skipped=1)  # without a baseline the case fails
    result.stdout.fnmatch_lines(["SKIPPED * Skipping non-benchmark*"])


def test_benchmarks_that_are_skipped_are_not_measured(project, run):
    project.makepyfile(test_others=OTHERS)
    result = run(*FINAL, "--benchmark-skip", "--probe-strict")
    result.assert_outcomes(passed=1, skipped=2)
    assert not (project.path / ".probebench").exists()


def test_benchmarks_are_skipped_in_workers_too_and_cause_no_warning_otherwise(project, run):
    run(*FINAL, "-n1", "--benchmark-skip").assert_outcomes(skipped=1)
    result = run(*FINAL, "-n1")
    result.assert_outcomes(passed=1)
    assert "PytestBenchmarkWarning" not in result.stderr.str()


def test_a_histogram_has_cases_in_groups_by_their_parameters(project, run, monkeypatch):
    drawn = {}
    histogram = ModuleType("pytest_benchmark.histogram")  # the real one needs a library for drawings
    histogram.make_histogram = lambda prefix, name, benchmarks, *_: drawn.update({name: len(benchmarks)})
    monkeypatch.setitem(sys.modules, histogram.__name__, histogram)
    args = ("--benchmark-group-by=param:model,param:dataset,param:layer,param:site", "--benchmark-json=b.json")
    run(*ONE, "--probe-site=act", *args, "--benchmark-histogram=h").assert_outcomes(passed=2)
    assert drawn == {f"model=tiny dataset=blobs layer={layer} site=act": 1 for layer in (1, 2)}
    (first, _) = json.loads((project.path / "b.json").read_text())["benchmarks"]
    assert first["params"] == {"model": "tiny", "dataset": "blobs", "layer": 1, "site": "act"}


def test_other_benchmarks_are_grouped_by_parameters_that_no_case_has(project, run):
    project.makepyfile(
        test_others="import pytest\n@pytest.mark.parametrize('size', [1, 2])\n"
        "def test_fast(benchmark, size): benchmark(lambda: None)\n"
    )
    run(*FINAL, BRIEF, "--benchmark-group-by=param:size").stdout.fnmatch_lines(["*benchmark 'size=2': 1 tests*"])
