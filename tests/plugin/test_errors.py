"""Bad input: a clear error, before any work where that is possible, and nothing half-written."""

from __future__ import annotations

import os

import pytest

from probebench.errors import StoreError
from probebench.records import run_record
from tests.conftest import FEW, ONE, ONE_COUNT

USAGE = pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--probe-model=tinny"],
            "*unknown model 'tinny'. Did you mean 'tiny'*`probebench models` lists those of the catalog.",
        ),
        (["--probe-dataset=blob"], "*unknown dataset 'blob'. Did you mean 'blobs'*"),
        (["--probe-layer=51"], "*unknown layer '51'*Known: 1 to 50*"),
        (["--probe-model=tiny", "--probe-layer=3"], "*unknown layer '3'*Known: 1 to 2*"),
        (["--probe-site=atc"], "*unknown site 'atc'. Did you mean 'act'*"),
        (["--probe-protocol=defualt@2"], "*unknown protocol 'defualt@2'. Did you mean 'default@2'*"),
        (["--probe-weights=tinny=w.safetensors"], "*unknown model 'tinny'. Did you mean 'tiny'*"),
        (["--probe-weights=w.safetensors"], "*--probe-weights takes MODEL=FILE, got 'w.safetensors'*"),
        (["--probe-weights=tiny=w.safetensors"], "*model 'tiny' (*w.safetensors): no such file; correct the path*"),
        (["--probe-batch-size=0"], "*--probe-batch-size must be at least 1, got 0*"),
        (["--probe-jobs=0"], "*--probe-jobs must be at least 1, got 0*"),
        (["--probe-alpha=1"], "*--probe-alpha must be between 0 and 1*"),
        (["--probe-min-drop=-1"], "*--probe-min-drop is in percentage points*"),
        (["--probe-leaderboard-file=board.html"], "*must end in .md, .tex or .csv, got 'board.html'*"),
        (["--probe-json=x.md", "--probe-leaderboard-file=x.md"], "*x.md is named for two outputs*"),
        (["--probe-baselines=mistyped"], "*--probe-baselines: *mistyped is not a directory*--probe-update=new*"),
        (["--probe-device=cuda:99"], "*device 'cuda:99' is not available on this machine*"),
        (["--probe-json=test_tiny.py/r.json"], "*--probe-json: *test_tiny.py is not a directory*"),
        (["--probe-update=all", "--probe-baselines=test_tiny.py"], "*--probe-update (see --probe-baselines)*"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_options_end_with_exit_code_4_before_any_work(project, run, args, message):
    # The jobs option of the fixture comes first, so a later one wins.
    result = run(*args)
    assert result.ret == USAGE
    (result.stderr if result.errlines else result.stdout).fnmatch_lines([message])
    assert not (project.path / ".probebench").exists()


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("model='tinny', dataset='blobs'", "*test_bad.py::test_probe: unknown model 'tinny'. Did you mean 'tiny'*"),
        ("model='tiny', dataset='blob'", "*unknown dataset 'blob'*"),
        ("model='tiny', dataset='blobs', site='atc'", "*unknown site 'atc'*"),
        ("model='tiny', dataset='blobs', layer=77", "*unknown layer '77'*"),
        ("model='tiny', dataset='blobs', layer=3", "*unknown layer '3'*Known: 1 to 2*"),
        ("model=3, dataset='blobs'", "*unknown model 3*"),
        ("model='tiny', dataset=3", "*test_bad.py::test_probe: unknown dataset 3*"),
        ("model='tiny', dataset=[['blobs']]", "*unknown dataset *Did you mean 'blobs'*"),
        ("model='tiny', dataset=__import__('pathlib').Path('flowers')", "*dataset 'flowers' looks like a folder *"),
        ("model='tiny'", "*needs a mark that says what to measure*"),
        ("model='tiny', dataset='blobs', modle='x'", "*takes model, dataset, layer and site, not modle*"),
        ("modle='tiny', dataset='blobs'", "*takes model, dataset, layer and site, not modle. Did you mean 'model'?"),
        ("'tiny', 'blobs'", "*the arguments of the probe mark need their names, such as *; 'tiny', 'blobs' has none"),
    ],
)
def test_bad_marks_end_with_exit_code_4_and_name_the_function(project, run, mark, message):
    project.makepyfile(test_bad=f"import pytest\n@pytest.mark.probe({mark})\ndef test_probe(probe): probe.check()\n")
    result = run()
    assert result.ret == USAGE
    result.stderr.fnmatch_lines([message])


@pytest.mark.parametrize("args", [[], ["-n2"]], ids=["alone", "workers"])
def test_a_checkpoint_that_is_not_there_is_found_before_any_work(project, run, args):
    spec = 'ModelSpec("mine", "vit_tiny_patch16_224.augreg_in21k", checkpoint="weights/mine.pt"), model('
    project.makeconftest((project.path / "conftest.py").read_text().replace("return [model(", f"return [{spec}", 1))
    project.makepyfile(
        test_tiny="import pytest\n@pytest.mark.probe(model=['tiny', 'mine'], dataset='blobs')\n"
        "def test_probe(probe): probe.check()\n"
    )
    result = run("--probe-site=final", *args)
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(["*model 'mine' (*mine.pt): no such file; correct `checkpoint` of its spec*"])
    assert not (project.path / ".probebench" / "runs").exists()
    run("--probe-site=final", "--probe-model=tiny").assert_outcomes(passed=1)


def test_two_marks_on_one_function_are_refused(project, run):
    mark = "pytest.mark.probe(model='tiny', dataset='blobs', site='act')"
    text = f"import pytest\npytestmark = {mark}\n@{mark}\ndef test_probe(probe): probe.check()\n"
    project.makepyfile(test_bad=text)
    result = run()
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(["*test_bad.py::test_probe: has more than one probe mark*"])


@pytest.mark.parametrize("args", [[], ["-n2"]], ids=["alone", "workers"])
@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("@{mark}\ndef test_it(): pass", "test_bad.py::test_it"),
        ("@{mark}\nclass TestIt:\n    def test_it(self): pass", "test_bad.py::TestIt"),
        ("pytestmark = {mark}\ndef test_it(): pass\ndef test_other(): pass", "test_bad.py"),
        # One function of the module measures something, and the mark of the class is for none.
        (
            "@{mark}\nclass TestIt:\n    def test_it(self): pass\n@{mark}\ndef test_probe(probe): probe.check()",
            "test_bad.py::TestIt",
        ),
    ],
    ids=["function", "class", "module", "beside"],
)
def test_a_mark_where_nothing_is_measured_is_refused(project, run, text, where, args):
    mark = "pytest.mark.probe(model='tiny', dataset='blobs')"
    project.makepyfile(test_bad="import pytest\n" + text.format(mark=mark))
    result = run(*args)
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(
        [f"*{where}: has a probe mark, but neither it nor a test in it takes the fixture `probe`*"]
    )
    assert result.stderr.str().count("has a probe mark") == 1


def test_a_mark_of_that_name_that_is_not_ours_and_one_of_a_module_are_none_of_that(project, run):
    project.makepyfile(
        test_tiny="import pytest\npytestmark = pytest.mark.probe(model='tiny', dataset='blobs', site='final')\n"
        "def test_probe(probe): probe.check()\ndef test_other(): pass\n",
        test_theirs="import pytest\n@pytest.mark.probe(depth=3)\ndef test_one(): pass\n",
        test_class="import pytest\n@pytest.mark.probe(model='tiny', dataset='blobs', site='final')\n"
        "class TestIt:\n    def test_other(self): pass\n    def test_probe(self, probe): probe.check()\n",
    )
    run().assert_outcomes(passed=5)


def test_a_name_that_is_registered_twice_is_refused(project, run):
    text = (project.path / "conftest.py").read_text()
    project.makeconftest(text.replace('model("tiny_other", 1', 'model("tiny", 1'))
    result = run("--probe-model=tiny")
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(["*model 'tiny' is registered twice*"])


ONE_SPEC = 'DatasetSpec(name="blobs", reader="conftest:blobs")'


@pytest.mark.parametrize("args", [[], ["--probe-dataset=blobs"], ["-n2"]], ids=["late", "early", "workers"])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            f"[{ONE_SPEC[:-1]}, root=3)]",
            "*conftest.py:*: pytest_probebench_datasets failed (TypeError: *unexpected keyword argument 'root')",
        ),
        ("3", "*pytest_probebench_datasets failed (TypeError: 'int' object is not iterable)"),
        (
            "['blobs']",
            "*pytest_probebench_datasets returned 'blobs', which is not a DatasetSpec: return a list of them",
        ),
    ],
    ids=["keyword", "number", "names"],
)
@pytest.mark.parametrize("where", ["above", "below"])
def test_a_hook_that_fails_is_named(project, run, body, message, args, where):
    hook = f"\ndef pytest_probebench_datasets():\n    return {body}\n"
    cases = (project.path / "test_tiny.py").read_text()
    project.makepyfile(test_again=cases)
    if where == "above":
        text = (project.path / "conftest.py").read_text().replace("def pytest_probebench_datasets", "def unused")
        project.makeconftest(text + hook)
    else:  # pytest comes to it when there are cases already
        folder = project.mkdir("zzz")
        (folder / "conftest.py").write_text("from probebench import DatasetSpec\n" + hook)
        (folder / "test_more.py").write_text(cases)
    result = run(*args)
    assert result.ret == USAGE
    result.stderr.fnmatch_lines([message])
    assert result.stderr.str().count("pytest_probebench_datasets") == 1
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_a_hook_may_give_one_spec(project, run):
    text = (project.path / "conftest.py").read_text().replace("def pytest_probebench_datasets", "def unused")
    project.makeconftest(text + f"\ndef pytest_probebench_datasets():\n    return {ONE_SPEC}\n")
    mark = "@pytest.mark.probe(model='tiny', dataset='blobs', site='final')"
    project.makepyfile(test_tiny=f"import pytest\n{mark}\ndef test_probe(probe): probe.check()\n")
    run().assert_outcomes(passed=1)


FAILING = {
    "no_class_two": "*DataError: dataset 'no_class_two': no training image *for class 'bottom'*",
    "raises": "*ZeroDivisionError: *",
}


@pytest.mark.parametrize("dataset", FAILING)
def test_a_sweep_that_fails_fails_its_cases_with_one_explanation(project, run, dataset):
    text = (project.path / "conftest.py").read_text()
    text = text.replace(
        'DatasetSpec(name="no_class_two"',
        'DatasetSpec(name="raises", reader="conftest:boom"),\n        DatasetSpec(name="no_class_two"',
    )
    project.makeconftest(text + "\ndef boom():\n    return 1 / 0\n")
    project.makepyfile(
        test_tiny=f"""
        import pytest

        @pytest.mark.probe(model="tiny", dataset=["{dataset}", "blobs"])
        def test_probe(probe):
            probe.check()
        """
    )
    result = run("--probe-json=r.json", "--junitxml=j.xml")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"sweep tiny-{dataset} could not be measured.", FAILING[dataset]])
    result.stdout.fnmatch_lines([f"*1 failed, {ONE_COUNT} passed, {ONE_COUNT - 1} not measured*"])
    text = result.stdout.str()
    assert text.count("could not be measured") <= 2  # the section and the short summary
    assert text.count("Traceback") == (1 if dataset == "raises" else 0)
    # What did work is recorded; to machines all of the sweep failed.
    record = run_record.load(project.path / "r.json")
    assert len(record["cases"]) == ONE_COUNT
    assert [failure["sweep"] for failure in record["failures"]] == [f"tiny-{dataset}"]
    assert f'failures="{ONE_COUNT}"' in (project.path / "j.xml").read_text()


def test_features_that_are_not_finite_fail_their_sweep(project, run):
    from safetensors.torch import save_file

    from probebench.catalog import ModelSpec
    from probebench.models.build import build_model

    kwargs = {"img_size": 16, "patch_size": 8, "embed_dim": 8, "num_heads": 2, "num_classes": 0}
    spec = ModelSpec("tiny", "VisionTransformer", 2, "random", 16, (0.5,) * 3, (0.5,) * 3, seed=0, kwargs=kwargs)
    state = build_model(spec).net.state_dict()
    state["blocks.1.norm2.weight"][0] = float("inf")
    save_file(state, project.path / "bad.safetensors")
    result = run("--probe-weights=tiny=bad.safetensors", "--probe-model=tiny", "--probe-dataset=blobs")
    result.stdout.fnmatch_lines(["*FeatureError: features of model 'tiny' are NaN or infinite at L02-ln2*"])
    (project.path / "bad.safetensors").write_bytes(b"")
    result = run("--probe-weights=tiny=bad.safetensors", "--probe-model=tiny", "--probe-dataset=blobs")
    result.stdout.fnmatch_lines(["*WeightsError: weights of model 'tiny'*the file is empty; get it again*"])
    result.stdout.fnmatch_lines([f"*1 failed, {ONE_COUNT - 1} not measured*"])


def test_a_damaged_baseline_fails_its_sweep_until_all_of_it_is_measured_anew(run, stored, baselines_dir):
    path = baselines_dir / "tiny-blobs.json"
    whole = path.read_text()
    path.write_text(whole[:100])
    for args in ([], ["--probe-update=new"], ["--probe-update=all", "--probe-layer=1,2,final"]):
        result = run(*ONE, *args)
        result.stdout.fnmatch_lines(["*StoreError: baseline *tiny-blobs.json cannot be read as JSON*git checkout -- *"])
        assert "--probe-update" not in result.stdout.str()  # it would accept whatever is measured
        assert result.parseoutcomes()["failed"] == 1
        assert len(path.read_text()) == 100
    run(*ONE, "--probe-update=all").assert_outcomes(passed=ONE_COUNT)
    assert path.read_text() == whole


def test_half_a_baseline_is_an_error_and_not_a_missing_one(run, stored, baselines_dir):
    (baselines_dir / "tiny-blobs.json").unlink()
    run(*ONE).stdout.fnmatch_lines(["*baseline *tiny-blobs.json is missing, but tiny-blobs.safetensors is there*"])


@pytest.mark.skipif(os.name == "nt", reason="POSIX paths")
def test_a_default_record_that_cannot_be_saved_is_a_warning_and_not_a_lost_run(project, run):
    (project.path / ".probebench").write_text("in the way")
    result = run("--probe-json=r.json", *FEW)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["run record: r.json", "WARNING: cannot write *.probebench*"])
    assert len(run_record.load(project.path / "r.json")["cases"]) == 4
    result.stdout.no_fnmatch_line("*has no record*")
    result = run("--probe-site=final")
    assert result.ret == pytest.ExitCode.OK
    no_record = "so that this run has no record; --probe-json=FILE writes one"
    result.stdout.fnmatch_lines([f"WARNING: cannot write *.probebench*, {no_record}"])
    result.stdout.no_fnmatch_line("*--probe-resume*")  # nothing was kept to go on from


def test_a_record_that_was_asked_for_and_cannot_be_saved_is_an_error(project, run, monkeypatch):
    from probebench import _files

    write = _files.write

    def full(path, content):
        if path.name == "r.json":
            raise StoreError(f"cannot write {path}: No space left on device")
        write(path, content)

    monkeypatch.setattr(_files, "write", full)
    result = run("--probe-json=r.json", *FEW)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["run record: .probebench/runs/*", "ERROR: cannot write *r.json: No space left*"])


@pytest.mark.parametrize("body", ["record['extra']['where'] = object()", "1 / 0"])
def test_a_record_hook_that_fails_costs_its_additions_only(project, run, body):
    text = (project.path / "conftest.py").read_text()
    project.makeconftest(text + f"\ndef pytest_probebench_record(record):\n    {body}\n")
    result = run("--probe-json=r.json", "--probe-update=all", *FEW)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["baselines: 4 files updated*", "ERROR: pytest_probebench_record failed*"])
    record = run_record.load(project.path / "r.json")
    assert (len(record["cases"]), record["extra"]) == (4, {})


def test_options_of_a_run_without_cases_are_still_checked(project, run):
    project.makepyfile(test_tiny="def test_one(): pass")
    assert run("--probe-model=tinny").ret == USAGE
    run().assert_outcomes(passed=1)


def test_a_file_that_cannot_be_collected_is_told_by_pytest(project, run):
    project.makepyfile(test_bad="import nothing_of_that_name")
    result = run()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["ERROR test_bad.py", "*1 error in *"])
