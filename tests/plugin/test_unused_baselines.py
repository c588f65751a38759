"""Started from a folder further up, a project without an ini file is not the root, and its baselines are not found."""

from __future__ import annotations

import shutil

import pytest

SOME = ("--probe-model=tiny", "--probe-dataset=blobs", "--probe-site=final")


@pytest.fixture
def nested(project, run):
    """The project, with a baseline, in a folder of the one that pytest is started in, with its tests one further down;
    there is no ini file."""
    run(*SOME, "--probe-update=new").assert_outcomes(passed=1)
    (project.path / "tox.ini").unlink()
    inner = project.path / "proj"
    inner.mkdir()
    for name in ("conftest.py", "baselines"):
        shutil.move(project.path / name, inner / name)
    (inner / "tests").mkdir()
    shutil.move(project.path / "test_tiny.py", inner / "tests" / "test_tiny.py")
    return project


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["alone", "workers"])
def test_baselines_beside_the_cases_that_are_not_in_use_are_told(nested, run, workers):
    result = run("proj", *SOME, *workers)
    assert result.ret == pytest.ExitCode.OK
    where = (
        "proj/baselines are not in use: this run's rootdir is * those in baselines. Add --rootdir=proj, or name the "
        "folder, as in `pytest proj`, *"
    )
    result.stdout.fnmatch_lines([f"WARNING: the baselines in {where}an empty proj/pytest.ini will do"])
    strict = run("proj", *SOME, *workers, "--probe-strict", "--probe-update=new")
    assert strict.ret == pytest.ExitCode.TESTS_FAILED
    strict.assert_outcomes(passed=1)
    strict.stdout.fnmatch_lines([f"ERROR: the baselines in {where}"])


@pytest.mark.parametrize("what", ["--rootdir=proj", "ini", "--probe-baselines=proj/baselines"])
def test_what_the_warning_says_helps(nested, run, what):
    if what == "ini":
        (nested.path / "proj" / "pytest.ini").touch()
    result = run("proj", *SOME, "--probe-strict", *([what] if what.startswith("-") else []))
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*not in use*")


def test_a_rootdir_elsewhere_is_told(nested, run):
    elsewhere = nested.mkdir("elsewhere")
    result = run("proj/tests", *SOME, f"--rootdir={elsewhere}", "--confcutdir=.")
    result.stdout.fnmatch_lines(
        [f"WARNING: the baselines in proj/baselines are not in use: this run's rootdir is {elsewhere}, *"]
    )


def test_a_folder_of_that_name_without_baselines_is_nothing_to_tell(nested, run):
    shutil.rmtree(nested.path / "proj" / "baselines" / "default@2")
    run("proj", *SOME, "--probe-strict", "--probe-update=new").stdout.no_fnmatch_line("*not in use*")


def test_where_there_is_an_ini_file_it_is_the_folder_that_is_to_be_named(nested, run):
    (nested.path / "proj" / "pytest.ini").touch()
    result = run()  # nothing selected: the models of a conftest further down are not known at the start
    result.stdout.fnmatch_lines(
        ["WARNING: *--rootdir=proj, or name the folder, as in `pytest proj`, * has an ini file*"]
    )
    run("proj", *SOME).stdout.no_fnmatch_line("*not in use*")
