"""--probe-prune: baselines without a case are removed, in a run of all cases only."""

from __future__ import annotations

import pytest

from tests.conftest import ONE_COUNT
from tests.plugin.test_update import contents
from tests.plugin.test_withheld import CASES

OF_TIMM = "timm_vit_tiny_patch16_224_augreg_in21k"


def test_files_and_entries_without_a_case_are_removed_and_told(project, run, stored, baselines_dir):
    for kind in ("json", "safetensors"):
        for name in ("gone-blobs", "timm_mine-blobs", f"{OF_TIMM}-blobs"):
            (baselines_dir / f"{name}.{kind}").write_bytes(stored[f"tiny-blobs.{kind}"])
    (baselines_dir / "README.md").write_text("mine")
    project.makeconftest((project.path / "conftest.py").read_text().replace("depth=2", "depth=1"))
    text = (project.path / "test_tiny.py").read_text()
    project.makepyfile(test_tiny=text.replace('["blobs", "blobs_dark"]', '["blobs"]'))
    result = run("--probe-prune", "--probe-strict")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "pruned: baselines/default@2/gone-blobs.json and its .safetensors file, which had no test case",
            "pruned: baselines/default@2/timm_mine-blobs.json and its .safetensors file, which had no test case",
            f"pruned: 8 of {ONE_COUNT} entries of *tiny-blobs.json, which had no test case: "
            "L02-ln1, L02-mha, * and 5 more",
            "pruned: baselines/default@2/tiny-blobs_dark.json and its .safetensors file, which had no test case",
            f"pruned: 8 of {ONE_COUNT} entries of baselines/default@2/tiny_other-blobs.json, which had no test case: *",
            "pruned: baselines/default@2/tiny_other-blobs_dark.json and its .safetensors file, which had no test case",
        ]
    )
    left = contents(baselines_dir)
    assert set(left) == {
        f"{name}-blobs.{kind}" for name in ("tiny", "tiny_other", OF_TIMM) for kind in ("json", "safetensors")
    } | {"README.md"}
    run("--probe-strict", "--probe-prune").stdout.fnmatch_lines(["baselines: nothing to prune"])
    assert contents(baselines_dir) == left


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["-k", "tiny"], "leave out -k"),
        (["-m", 'probe(site="act")'], "leave out -m"),
        (["--deselect=test_tiny.py::test_probe"], "leave out --deselect"),
        (["--probe-model=tiny", "--probe-site=act"], "leave out --probe-model, --probe-site"),
        (["--probe-dataset=blobs", "--probe-layer=1"], "leave out --probe-dataset, --probe-layer"),
        (["test_tiny.py"], "leave out test_tiny.py"),
        (["test_tiny.py::test_probe"], "leave out test_tiny.py::test_probe"),
        (["sub"], "leave out sub (there are tests next to it)"),
        (["--collect-only"], "leave out --collect-only"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_run_that_may_lack_cases_is_refused_before_any_work(project, run, baselines_dir, args, named):
    baselines_dir.mkdir(parents=True)
    (baselines_dir / "gone-blobs.json").write_text("{}")
    project.mkdir("sub")
    result = run("--probe-prune", *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --probe-prune removes every baseline*needs a run of all cases: {named}"])
    assert (baselines_dir / "gone-blobs.json").exists()
    assert not (project.path / ".probebench").exists()


DESELECTING = """
def pytest_collection_modifyitems(config, items):
    config.hook.pytest_deselected(items=items[:3])
    del items[:3]
"""


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"conftest": DESELECTING}, "3 were left out, such as test_tiny.py::test_probe?tiny-blobs-embed?"),
        ({"test_more": "import no_such"}, "1 were left out, such as test_more.py"),
        ({"test_tiny": "def test(): pass"}, "this one has none; name the folder that they are in"),
    ],
    ids=["deselected", "not collected", "none"],
)
def test_cases_that_are_left_out_by_other_means_are_noticed(project, run, baselines_dir, files, why):
    baselines_dir.mkdir(parents=True)
    (baselines_dir / "gone-blobs.json").write_text("{}")
    for name, text in files.items():
        old = (project.path / "conftest.py").read_text() if name == "conftest" else ""
        (project.path / f"{name}.py").write_text(old + text)
    result = run("--probe-prune", "--continue-on-collection-errors")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{why}"])
    assert (baselines_dir / "gone-blobs.json").exists()


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "xdist"])
def test_a_file_that_skips_itself_keeps_the_baselines_of_models_without_a_case(project, run, baselines_dir, workers):
    """Which models it would have measured is not known; those that others measure are pruned as ever."""
    (project.path / "test_more.py").write_text("import pytest; pytest.importorskip('no_such')")
    baselines_dir.mkdir(parents=True)
    for name in ("gone-blobs", "tiny-gone"):
        for kind in ("json", "safetensors"):
            (baselines_dir / f"{name}.{kind}").write_text("{}")
    result = run("--probe-prune", *workers)
    result.stdout.fnmatch_lines(
        [
            "pruned: baselines/default@2/tiny-gone.json and its .safetensors file, which had no test case",
            "baselines: those of models without a case were kept, because of files that were skipped: test_more.py",
        ]
    )
    assert sorted(path.stem for path in baselines_dir.glob("*.json")) == ["gone-blobs"]


def test_all_of_a_folder_counts_and_a_part_of_it_does_not(project, run, baselines_dir):
    folder = project.mkdir("benchmarks")
    (project.path / "test_tiny.py").rename(folder / "test_tiny.py")
    (folder / "part").mkdir()
    baselines_dir.mkdir(parents=True)
    for kind in ("json", "safetensors"):
        (baselines_dir / f"gone-blobs.{kind}").write_text("{}")
    result = run("--probe-prune", "benchmarks/part")
    result.stderr.fnmatch_lines(["ERROR: *leave out benchmarks/part (or name all of benchmarks)"])
    run("--probe-prune", "benchmarks", "--probe-update=new").stdout.fnmatch_lines(["pruned: *gone-blobs.json *"])
    assert len(contents(baselines_dir)) == 8


def test_a_run_that_stops_early_prunes_nothing(project, run, stored, baselines_dir):
    (baselines_dir / "gone-blobs.json").write_text("{}")
    project.makepyfile(test_tiny=(project.path / "test_tiny.py").read_text() + "\n    assert False\n")
    result = run("--probe-prune", "-x")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["baselines: not pruned, because the run did not get to its end"])
    assert (baselines_dir / "gone-blobs.json").exists()
    run("--probe-prune").stdout.fnmatch_lines(["pruned: *gone-blobs.json *"])


def test_sweeps_that_are_not_on_this_machine_keep_their_baselines(project, run, baselines_dir, monkeypatch, tmp_path):
    monkeypatch.setenv("PROBEBENCH_DATA", str(tmp_path / "data"))
    project.makepyfile(test_tiny=CASES)
    baselines_dir.mkdir(parents=True)
    for name in ("vit_b16-cifar10", "vit_b16-no_such_dataset", "nobody-cifar10"):
        (baselines_dir / f"{name}.json").write_text("not looked at")
    result = run("--probe-prune", "--probe-offline")
    result.assert_outcomes(passed=ONE_COUNT, deselected=1)
    assert set(contents(baselines_dir)) == {"vit_b16-cifar10.json"}


def test_a_damaged_baseline_with_cases_is_kept_and_fails_the_run(run, stored, baselines_dir):
    (baselines_dir / "tiny-blobs.json").write_text("{")
    result = run("--probe-prune")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: baseline *tiny-blobs.json cannot be read*"])
    assert (baselines_dir / "tiny-blobs.json").read_text() == "{"


def test_a_plan_prunes_nothing(stored, project, run):
    project.makepyfile(test_tiny="")
    result = run("--probe-plan", "--probe-prune")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*--probe-plan writes nothing, but --probe-prune removes baselines: leave out one of them"]
    )
