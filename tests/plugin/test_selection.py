from __future__ import annotations

import pytest

from tests.conftest import ONE_COUNT, TINY_COUNT


def ids(result):
    return [line.partition("[")[2].rstrip("]") for line in result.stdout.lines if line.startswith("test_tiny.py::")]


@pytest.mark.parametrize(
    ("args", "count"),
    [
        (["--probe-model=tiny"], 2 * ONE_COUNT),
        (["--probe-model=tiny,tiny_other"], TINY_COUNT),
        (["--probe-dataset=blobs"], 2 * ONE_COUNT),
        (["--probe-model=tiny", "--probe-dataset=blobs", "--probe-layer=1-2"], 16),
        (["--probe-layer=2", "--probe-layer=final"], 36),
        (["--probe-site=act", "--probe-site=rc2"], 16),
        (["--probe-site=act", "--probe-layer=2", "--probe-model=tiny", "--probe-dataset=blobs_dark"], 1),
        (["-m", 'probe(model="tiny")'], 2 * ONE_COUNT),
        (["-m", 'probe(model="tiny", dataset="blobs", site="act")'], 2),
        (["-m", "probe(layer=2) and not probe(site='act')"], 28),
        (["-m", 'probe(layer="final")'], 4),
        (["--probe-layer=output"], 4),
        (["-k", "tiny-blobs-L02"], 8),
        (["-k", "blobs_dark"], 2 * ONE_COUNT),
        (["test_tiny.py::test_probe[tiny-blobs-L02-act]"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_cases_can_be_chosen(run, args, count):
    assert len(ids(run("--collect-only", "-q", *args))) == count


@pytest.mark.parametrize("setting", ["skip", "xfail", "fail_at_collect"])
def test_a_function_without_a_chosen_case_is_deselected_not_skipped(project, run, setting):
    project.makeini(f"[pytest]\nempty_parameter_set_mark = {setting}\n")
    project.makepyfile(
        test_third="""
        import pytest

        @pytest.mark.probe(model="tiny_other", dataset="blobs")
        def test_probe(probe):
            probe.check()
        """
    )
    result = run("--probe-model=tiny", "--probe-dataset=blobs")
    result.assert_outcomes(passed=ONE_COUNT, deselected=1)


def test_a_mark_may_narrow_layers_and_sites(project, run):
    project.makepyfile(
        test_tiny="""
        import pytest

        @pytest.mark.probe(model="tiny", dataset="blobs", layer=[2, "final"], site=["act", "final"])
        def test_probe(probe):
            probe.check()
        """
    )
    assert ids(run("--collect-only", "-q")) == ["tiny-blobs-L02-act", "tiny-blobs-final"]


def test_only_chosen_taps_are_measured_and_get_the_same_numbers(project, run):
    from probebench.records import run_record

    run("--probe-json=all.json")
    run("--probe-json=some.json", "--probe-site=act", "--probe-model=tiny")
    everything, some = (run_record.load(project.path / name) for name in ("all.json", "some.json"))
    accuracy = {case["id"]: case["accuracy"] for case in everything["cases"]}
    assert len(some["cases"]) == 4
    assert all(accuracy[case["id"]] == case["accuracy"] for case in some["cases"])


def test_the_mark_is_registered(run):
    run("--strict-markers", "--collect-only", "-q").stdout.no_fnmatch_line("*not found in `markers`*")
    run("--markers").stdout.fnmatch_lines(["@pytest.mark.probe(model, dataset, layer, site): *"])


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["alone", "workers"])
def test_a_model_and_a_dataset_that_no_case_joins_are_told(project, run, workers):
    result = run("--probe-model=tiny", "--probe-dataset=no_class_two", *workers)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    told = "No test case matches --probe-model=tiny --probe-dataset=no_class_two: *"
    result.stdout.fnmatch_lines([told])
    assert len([line for line in result.stdout.lines if line.startswith("No test case")]) == 1
    run("--probe-model=tiny", "-k", "nothing").stdout.no_fnmatch_line("No test case*")


def test_names_that_no_case_has_are_told_beside_others_that_have_some(run):
    result = run("--probe-dataset=no_class_two,blobs", "--probe-model=tiny,glyphvit", "--probe-layer=final")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["No test case matches --probe-model=glyphvit --probe-dataset=no_class_two: *"])
    run("--probe-dataset=blobs", "--probe-layer=final").stdout.no_fnmatch_line("No test case matches*")


def test_a_mark_that_waits_for_a_name_says_so(project, run):
    mark = "@pytest.mark.probe(model='timm:*', dataset='blobs')"
    project.makepyfile(test_tiny=f"import pytest\n{mark}\ndef test_probe(probe): probe.check()\n")
    result = run()
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(
        ["No test case was generated: the probe mark lists no model, or uses `timm:[*]` without --probe-model*"]
    )


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["alone", "workers"])
@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("probe(datset='blobs')", ["-m: the probe mark has no 'datset'. Did you mean 'dataset'?"]),
        (
            'probe(model="tiny", dataset="blob") or probe(site="atc", layer=2)',
            [
                "-m: no case has dataset='blob'. Did you mean 'blobs'*",
                "-m: no case has site='atc'. Did you mean 'act'?",
            ],
        ),
        (
            """probe(layer='2') or probe(layer="1-2") or probe(layer=3) or probe(layer="last")""",
            [
                "-m: no case has layer='2'. Known: 1 to 2, as numbers without quotes, 'embed', 'final', 'output', *",
                '-m: no case has layer="1-2". *--probe-layer takes ranges',
                "-m: no case has layer=3. Known: 1 to 2, *",
                '-m: no case has layer="last". *',
            ],
        ),
    ],
    ids=["keyword", "names", "layers"],
)
def test_a_mark_expression_that_no_case_can_have_is_told(run, expression, told, workers):
    result = run("-m", expression, *workers)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(told)
    assert len([line for line in result.stdout.lines if line.startswith("-m: ")]) == len(told)


def test_an_expression_that_cases_have_is_nothing_to_tell(run):
    both = "probe(model='tiny') and probe(model='tiny_other')"
    for expression in (both, "slow", "probe(dataset='blobs', layer=2)", "probe(layer='final', site='act')"):
        run("--collect-only", "-q", "-m", expression).stdout.no_fnmatch_line("-m: *")


@pytest.mark.parametrize("args", [[], ["-n2"], ["--collect-only"]], ids=["alone", "workers", "collect"])
def test_a_layer_that_no_model_of_the_run_has_is_unknown(run, args):
    result = run("--probe-layer=3", *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--probe-layer: unknown layer '3'. Known: 1 to 2, *"])
