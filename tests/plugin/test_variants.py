"""``--probe-pooling`` and ``--probe-combine``: taps beside those of the protocol."""

from __future__ import annotations

import pytest

from probebench.catalog.cases import Sweep
from probebench.catalog.taps import Tap
from probebench.records import baselines, run_record
from tests.conftest import TINY_CASES, TINY_CONFTEST
from tests.records.valid import validate

FEW = ("--probe-model=tiny", "--probe-dataset=blobs", "--probe-site=act,output")
"""L01-act, L02-act and output."""


def read(project, name="r.json"):
    record = run_record.load(project.path / name)
    validate(record)
    return record


def ids(record):
    return [case["id"].removeprefix("tiny-blobs-") for case in record["cases"]]


def test_several_poolings_are_taps_of_one_sweep(project, run):
    run(
        *FEW, "--probe-pooling=cls,patch_mean", "--probe-pooling=cls+patch_mean", "--probe-json=r.json"
    ).assert_outcomes(passed=7)
    record = read(project)
    assert ids(record) == [
        *(f"L0{layer}-act{own}" for layer in (1, 2) for own in ("", ".patch_mean", ".cls+patch_mean")),
        "output",
    ]
    (sweep,) = record["sweeps"]
    assert sweep["protocol"] == "default@2+cls"
    assert sweep["images"] == 240  # one pass
    widths = {case["id"].rpartition("-")[2]: case["width"] for case in record["cases"]}
    assert widths["act.cls+patch_mean"] == 2 * widths["act.patch_mean"] == 2 * widths["act"]


def test_variants_have_baselines_that_other_runs_leave_alone(project, run):
    more = (*FEW, "--probe-pooling=mean,cls", "--probe-combine=pair")
    run(*more, "--probe-update=new").assert_outcomes(passed=6)
    run(*more, "--probe-strict").assert_outcomes(passed=6)
    plain = run(*FEW, "--probe-strict")
    plain.assert_outcomes(passed=3)
    plain.stdout.no_fnmatch_line("*stale*")
    run(*FEW, "--probe-update=all").assert_outcomes(passed=3)
    stored = baselines.read(project.path / "baselines", Sweep("tiny", "blobs", "default@2"))
    assert {tap.id for tap in stored.correct} == {"L01-act", "L01-act.cls", "L02-act", "L02-act.cls", "output", "pair"}
    # Changed weights: what this run would leave behind, and the command that measures it, are named.
    stored = baselines.Baseline(**vars(stored) | {"weights": "0" * 16})
    baselines.write(project.path / "baselines", stored)
    result = run(*FEW, "--probe-update=all")
    result.stdout.fnmatch_lines(["*3 of its cases would stay*--probe-pooling=mean,cls --probe-combine=pair*"])


def test_combinations_are_cases_whatever_else_is_selected(project, run):
    result = run(*FEW, "--probe-combine=pair", "--probe-json=r.json", "-k", "pair or act")
    result.assert_outcomes(passed=3)
    record = read(project)
    assert ids(record) == ["L01-act", "L02-act", "pair"]
    assert sorted(record["cases"][2]["combination"]["members"]) == ["L01-act", "L02-act"]


def test_marks_select_by_pooling(project, run):
    result = run(*FEW, "--probe-pooling=mean,cls", "-m", "probe(pooling='cls')", "--collect-only", "-q")
    assert [line.rpartition("-blobs-")[2] for line in result.outlines if "::" in line] == [
        "L01-act.cls]",
        "L02-act.cls]",
    ]
    result = run(*FEW, "-m", "probe(pooling='clz')")
    result.stdout.fnmatch_lines(["-m: no case has pooling='clz'. Did you mean 'cls'*"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--probe-pooling=mean,clz"], "unknown --probe-pooling 'clz'. Did you mean 'cls'*"),
        (["--probe-combine=pairs"], "unknown --probe-combine 'pairs'. Did you mean 'pair'*"),
        (["--probe-protocol=default@2+cls", "--probe-pooling=mean"], "*default@2+cls already names a pooling"),
        (["--probe-protocol=paper@1", "--probe-combine=pair"], "*paper@1 holds out no images to choose taps on*"),
    ],
)
def test_what_makes_no_sense_is_refused(run, options, message):
    result = run(*FEW, *options)
    assert result.ret != 0
    (result.stderr if result.ret == 4 else result.stdout).fnmatch_lines([f"*{message}*"])


def test_a_pooling_that_a_network_lacks_is_refused_by_name(project, run):
    tokenless = 'replace(model("tokenless", 1), kwargs=KWARGS | {"class_token": False, "global_pool": "avg"})'
    text = TINY_CONFTEST.replace('model("tiny_other", 1, control_of="tiny")', tokenless)
    project.makeconftest("from dataclasses import replace\n" + text)
    project.makepyfile(test_tiny=TINY_CASES.replace("tiny_other", "tokenless"))
    result = run("--probe-model=tokenless", *FEW[1:], "--probe-pooling=mean,cls")
    result.stdout.fnmatch_lines(["*VisionTransformer has no class token to pool; choose mean or patch_mean*"])
    result.stdout.fnmatch_lines(["*1 failed, 4 not measured*"])
    run("--probe-model=tokenless", *FEW[1:], "--probe-pooling=mean,patch_mean").assert_outcomes(passed=5)


def test_the_tap_of_a_variant_is_in_its_id():
    assert Tap.parse("L02-act.cls+patch_mean") == Tap(2, "act", "cls+patch_mean")
