"""Every case is a benchmark of its own for pytest-benchmark."""

from __future__ import annotations

import json

import pytest

from probebench.records import run_record
from tests.conftest import ONE, TINY_COUNT


def test_json_has_attributed_time_and_accuracy_of_every_case(project, run):
    run("--benchmark-json=b.json", "--probe-json=r.json").assert_outcomes(passed=TINY_COUNT)
    benchmarks = json.loads((project.path / "b.json").read_text())["benchmarks"]
    cases = {case["id"]: case for case in run_record.load(project.path / "r.json")["cases"]}
    assert len(benchmarks) == len(cases) == TINY_COUNT
    for benchmark in benchmarks:
        info, case = benchmark["extra_info"], cases[benchmark["param"]]
        assert info["accuracy"] == case["accuracy"]
        assert (info["model"], info["layer"], info["site"]) == (case["model"], case["layer"], case["site"])
        assert benchmark["stats"]["mean"] == pytest.approx(case["seconds"])
        assert benchmark["stats"]["rounds"] == 1


def test_the_table_is_printed_on_request_only_and_others_always(project, run):
    project.makepyfile(test_speed="def test_fast(benchmark): benchmark(lambda: None)")
    text = run(*ONE).stdout.str()
    assert "test_fast" in text
    assert "tiny-blobs-L01-act]" not in text
    assert "tiny-blobs-L01-act]" in run("--probe-benchmark-table", *ONE).stdout.str()


def test_saved_runs_can_be_compared(run):
    run("--benchmark-save=first", *ONE)
    result = run(*ONE, "--benchmark-compare", "--benchmark-compare-fail=mean:100000%")
    result.assert_outcomes(passed=18)
    result.stdout.fnmatch_lines(["*tiny-blobs-L01-act* (0001_first)*"])


@pytest.mark.parametrize("args", [["-p", "no:benchmark"], ["--benchmark-disable"], ["--benchmark-skip"]], ids=" ".join)
def test_cases_are_measured_without_pytest_benchmark_too(run, args):
    result = run(*args, *ONE)
    result.assert_outcomes(passed=18)
    assert "best layer of each site" in result.stdout.str()
