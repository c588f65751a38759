"""A whole run on the tiny project: ids, record, leaderboard, verdicts."""

from __future__ import annotations

import json

import pytest

from probebench.catalog.protocols import DEFAULT
from probebench.records import run_record
from tests.conftest import FEW, ONE, ONE_COUNT, TINY_COUNT
from tests.records.valid import validate


def load_only_run(project):
    (path,) = (project.path / ".probebench" / "runs").glob("*.json")
    return run_record.load(path)


def test_every_tap_is_a_case_that_is_measured_and_recorded(project, run):
    result = run("-v")
    result.assert_outcomes(passed=TINY_COUNT)
    result.stdout.fnmatch_lines(
        [
            f"probebench: {TINY_COUNT} cases in 4 sweeps, protocol default@2 (*), device auto, baselines *",
            "test_tiny.py::test_probe[[]tiny-blobs-embed[]] PASSED*",
            "test_tiny.py::test_probe[[]tiny-blobs-L01-ln1[]] PASSED*",
            "*= probebench =*",
            "blobs, no shift: 120 test images, default@2",
            "tiny  L* chosen on held-out images: *",
            "tiny: best layer of each site, chosen on held-out images*",
            f"{TINY_COUNT} cases in 4 sweeps: {TINY_COUNT} new, * images/s",
            "run record: .probebench/runs/*.json",
        ]
    )
    record = load_only_run(project)
    validate(record)
    assert len(record["cases"]) == TINY_COUNT
    assert [sweep["dataset"] for sweep in record["sweeps"]].count("blobs") == 2
    assert record["interrupted"] is False
    assert record["seeds"] == [0]
    case = next(c for c in record["cases"] if c["id"] == "tiny-blobs-L02-act")
    assert (case["layer"], case["site"], case["width"], case["n_test"]) == (2, "act", 32, 120)
    assert case["ci95"][0] < case["accuracy"] < case["ci95"][1]
    assert case["C"] in DEFAULT.path
    assert 0 <= case["gap"] <= 1e-6
    assert 0 <= case["held_out_accuracy"] <= 1
    assert {c["layer"] for c in record["cases"]} == {"embed", 1, 2, "final", "output"}
    for sweep in record["sweeps"]:
        own = [c for c in record["cases"] if (c["model"], c["dataset"]) == (sweep["model"], sweep["dataset"])]
        selection = sweep["selection"]
        assert (selection["by"], selection["score"]) == ("held_out", max(c["held_out_accuracy"] for c in own))
        assert len(selection["tied"]) + selection["worse"] + selection["better"] == len(own) - 1 == ONE_COUNT - 1
    # The three classes are bright bands: far above chance somewhere.
    assert max(c["accuracy"] for c in record["cases"] if c["dataset"] == "blobs") > 0.6


def test_each_sweep_is_extracted_once_also_across_files(project, run, monkeypatch):
    from probebench.measure import run as run_module

    calls = []
    original = run_module.prepare

    def counting(model, dataset, **kwargs):
        calls.append((model.name, dataset.name, len(kwargs["taps"])))
        return original(model, dataset, **kwargs)

    monkeypatch.setattr(run_module, "prepare", counting)
    project.makepyfile(test_more=(project.path / "test_tiny.py").read_text())
    run().assert_outcomes(passed=2 * TINY_COUNT)
    assert sorted(calls) == [(m, d, ONE_COUNT) for m in ("tiny", "tiny_other") for d in ("blobs", "blobs_dark")]


def test_reordered_items_do_not_measure_a_sweep_again(project, run, monkeypatch):
    from probebench.measure import run as run_module

    calls = []
    original = run_module.prepare
    monkeypatch.setattr(run_module, "prepare", lambda *a, **k: calls.append(a) or original(*a, **k))
    project.makeconftest(
        (project.path / "conftest.py").read_text()
        + "\nimport pytest\n@pytest.hookimpl(trylast=True)\ndef pytest_collection_modifyitems(items):\n"
        + "    items.sort(key=lambda item: item.callspec.params['_probe_case'].tap)\n"
    )
    run("--probe-json=r.json").assert_outcomes(passed=TINY_COUNT)
    assert len(calls) == 4
    assert len(run_record.load(project.path / "r.json")["cases"]) == TINY_COUNT


def test_a_second_run_against_stored_baselines_is_all_same(project, run, stored):
    result = run("--probe-batch-size=7", "--probe-strict", "--probe-json=second.json")
    result.assert_outcomes(passed=TINY_COUNT)
    record = run_record.load(project.path / "second.json")
    assert {case["verdict"] for case in record["cases"]} == {"same"}
    assert all(case["accuracy"] == case["baseline_accuracy"] for case in record["cases"])


def test_a_regression_fails_its_case_and_says_what_was_lost(project, run, stored, baselines_dir):
    import numpy as np

    from probebench.catalog.cases import Sweep
    from probebench.catalog.taps import Tap
    from probebench.records import baselines

    sweep, tap = Sweep("tiny", "blobs", "default@2"), Tap(2, "act")
    baseline = baselines.read(baselines_dir.parent, sweep)
    baseline.correct[tap][:] = np.True_  # as if everything had been right once
    baselines.write(baselines_dir.parent, baseline)
    result = run("--probe-json=r.json")
    result.assert_outcomes(passed=TINY_COUNT - 1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "regressed: tiny on blobs at L02-act: accuracy *%, baseline 100.0% (-* points; * lost, 0 gained*",
            "Changed against the baselines",
            "FAILED test_tiny.py::test_probe[[]tiny-blobs-L02-act[]] - *regressed*",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    record = run_record.load(project.path / "r.json")
    assert [c["id"] for c in record["cases"] if c["verdict"] == "regressed"] == ["tiny-blobs-L02-act"]
    # Accepting it makes it the new expectation.
    run(*ONE, "--probe-update=all").assert_outcomes(passed=ONE_COUNT)
    run(*ONE, "--probe-strict").assert_outcomes(passed=ONE_COUNT)


def test_quiet_runs_and_runs_without_cases_print_less(project, run):
    assert "Best tap of each model" in run("-q", *ONE).stdout.str()
    assert "probebench" not in run("-qq", *ONE).stdout.str()
    project.makepyfile(test_other="def test_one(): pass")
    other = run("test_other.py")
    other.assert_outcomes(passed=1)
    assert "probebench:" not in other.stdout.str()
    assert "= probebench =" not in other.stdout.str()


def test_properties_reach_junit_xml(project, run):
    run("--junitxml=j.xml", "--probe-model=tiny", "--probe-dataset=blobs", "--probe-layer=final")
    xml = (project.path / "j.xml").read_text()
    assert '<property name="probe_verdict" value="new"' in xml
    assert '<property name="probe_accuracy" value="0.' in xml


def test_plugins_may_add_to_the_record(project, run):
    text = (project.path / "conftest.py").read_text()
    project.makeconftest(text + "\ndef pytest_probebench_record(record):\n    record['extra']['commit'] = 'abc'\n")
    run(*FEW)
    assert load_only_run(project)["extra"] == {"commit": "abc"}


def test_collecting_measures_nothing(project, run):
    result = run("--collect-only", "-q")
    assert f"{TINY_COUNT} tests collected" in result.stdout.str()
    assert not (project.path / ".probebench").exists()


def test_the_record_is_valid_json_without_special_numbers(project, run):
    run("--probe-json=r.json")
    json.loads((project.path / "r.json").read_text(), parse_constant=pytest.fail)


def test_a_case_of_several_tests_counts_once(project, run):
    project.makepyfile(
        test_tiny="""
        import pytest

        @pytest.mark.probe(model="tiny", dataset="blobs", layer="final")
        @pytest.mark.parametrize("floor", [0.1, 0.2])
        def test_probe(probe, floor):
            assert probe.accuracy > floor
        """
    )
    run().stdout.fnmatch_lines(["probebench: 1 case in 1 sweep, *", "1 case in 1 sweep: 1 new, *", "*= 2 passed in *"])


def test_a_test_may_demand_more_than_its_baseline(project, run):
    project.makepyfile(
        test_tiny="""
        import pytest

        @pytest.mark.probe(model="tiny", dataset=["blobs", "no_class_two"], layer=2, site=["act", "rc2"])
        def test_probe(probe):
            assert repr(probe) == f"<probe {probe.case.id}>"
            if probe.case.sweep.dataset == "blobs":
                probe.check()
                floor = 0.2 if probe.case.tap.site == "act" else 0.999
                probe.record["accuracy"] = 1.0  # a copy
                assert probe.ci95[0] < probe.accuracy < probe.ci95[1] < 1
                assert probe.record["n_test"] == 120
                assert probe.accuracy == probe.record["accuracy"] > floor
            assert probe.accuracy > 0
        """
    )
    result = run()
    result.stdout.fnmatch_lines(["E *assert * > 0.999", "sweep tiny-no_class_two could not be measured."])
    result.stdout.fnmatch_lines(["*2 failed, 1 passed, 1 not measured*"])
    assert all(case["accuracy"] < 1 for case in load_only_run(project)["cases"])
