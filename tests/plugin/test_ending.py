"""What was measured is saved and shown, however other plugins end a session, and however early it ends."""

from __future__ import annotations

from textwrap import dedent

import pytest

from probebench.records import run_record
from tests.conftest import FEW, ONE

FINAL = (*ONE, *FEW)
OUTPUTS = ("--probe-json=r.json", "--probe-update=all", "--probe-leaderboard-file=b.md")

WRAPPER = "@pytest.hookimpl({kind}=True, tryfirst=True)\ndef pytest_sessionfinish():\n    {error}\n    yield"
PLAIN = "@pytest.hookimpl(tryfirst=True)\ndef pytest_sessionfinish():\n    {error}"
BREAKING = {
    "a wrapper": WRAPPER.replace("{kind}", "wrapper"),
    "an old wrapper": WRAPPER.replace("{kind}", "hookwrapper"),
    "a hook": PLAIN,
}


def add_to_conftest(project, text):
    path = project.path / "conftest.py"
    path.write_text(path.read_text() + "\nimport pytest\n" + dedent(text))


@pytest.mark.parametrize("how", BREAKING)
def test_an_error_of_another_plugin_at_the_end_costs_nothing(project, how):
    add_to_conftest(project, BREAKING[how].format(error="raise OSError('no space left')"))
    result = project.runpytest_inprocess("-p", "no:cacheprovider", "--probe-jobs=1", *FINAL, *OUTPUTS)
    assert result.ret != 0
    assert len(run_record.load(project.path / "r.json")["cases"]) == 1
    assert (project.path / "b.md").exists()
    assert (project.path / "baselines" / "default@2" / "tiny-blobs.json").exists()
    result.stdout.fnmatch_lines(["1 case in 1 sweep: 1 new*", "run record: r.json"])
    assert result.stdout.str().count("run record:") == 1
    assert "no space left" in result.stdout.str() + result.stderr.str()


def test_an_error_around_the_tests_is_an_internal_one_and_costs_nothing_either(project):
    add_to_conftest(
        project,
        """
        @pytest.hookimpl(wrapper=True)
        def pytest_runtestloop():
            yield
            raise OSError("no space left")
        """,
    )
    result = project.runpytest_inprocess("-p", "no:cacheprovider", "--probe-jobs=1", *FINAL, *OUTPUTS)
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    result.stdout.fnmatch_lines(["INTERNALERROR> OSError: no space left", "1 case in 1 sweep: 1 new*"])
    assert run_record.load(project.path / "r.json")["interrupted"] is False  # all was measured


def test_the_record_has_the_command_that_pytest_was_given_not_that_of_its_host(project, run, monkeypatch):
    monkeypatch.setattr("sys.argv", ["ipykernel_launcher.py", "-f", "kernel.json"])
    result = run(*FINAL, "--probe-json=r.json")
    saved = next((project.path / ".probebench" / "runs").glob("2*.json")).name
    assert (project.path / ".probebench" / "runs" / ".latest").read_text() == f"{saved}\n"
    assert result.ret == 0
    command = run_record.load(project.path / "r.json")["command"]
    assert command[0] == "pytest"
    assert command[-4:] == [*FINAL, "--probe-json=r.json"]


FAILING = """
    import pytest

    @pytest.mark.probe(model="tiny", dataset=["blobs", "blobs_dark"], site="final")
    def test_probe(probe):
        probe.check()
        assert not FAILS
    """


def test_a_run_that_failures_end_is_continued_by_resume(project, run):
    project.makepyfile(test_tiny=dedent(FAILING).replace("FAILS", "True"))
    result = run("-x", "--probe-json=r.json", "--probe-update=new")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "baselines: not updated, because the run did not get to its end",
            "run record: r.json (interrupted: what had finished)",
            "To continue this run, repeat the command with --probe-resume and without -x or --maxfail.",
        ]
    )
    assert run_record.load(project.path / "r.json")["interrupted"] is True
    project.makepyfile(test_tiny=dedent(FAILING).replace("FAILS", "False"))
    result = run("--probe-resume", "--probe-update=new")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["tiny on blobs: *, measured before (1 of 2 sweeps, *", "baselines: 2 files updated *"])
    assert not list((project.path / ".probebench").glob("unfinished/*"))


def test_a_run_that_the_last_failure_ends_has_come_to_its_end(project, run):
    project.makepyfile(test_tiny=dedent(FAILING).replace("FAILS", "probe.case.sweep.dataset == 'blobs_dark'"))
    run("-x", "--probe-json=r.json").assert_outcomes(passed=1, failed=1)
    assert run_record.load(project.path / "r.json")["interrupted"] is False
    assert not list((project.path / ".probebench").glob("unfinished/*"))


def test_pytest_exit_in_mid_sweep_ends_the_run_and_keeps_what_had_finished(project, run):
    add_to_conftest(
        project,
        """
        def pytest_probebench_datasets(config, before=pytest_probebench_datasets):
            return [*before(), DatasetSpec(name="exits", reader="conftest:exits")]

        def exits():
            pytest.exit("enough", returncode=7)
        """,
    )
    project.makepyfile(test_tiny=dedent(FAILING).replace('"blobs_dark"', '"exits", "blobs_dark"').replace("FAILS", "0"))
    result = run("--probe-json=r.json")
    assert result.ret == 7
    record = run_record.load(project.path / "r.json")
    assert record["interrupted"] is True
    assert [case["dataset"] for case in record["cases"]] == ["blobs"]
    assert record["failures"] == []
    result.stdout.fnmatch_lines(["1 case in 1 sweep: 1 new*", "To continue this run, *"])


REPORTER = """
    class Bare:
        def pytest_runtest_logreport(self, report):
            pass

    @pytest.hookimpl(trylast=True)
    def pytest_configure(config):
        config.pluginmanager.unregister(name="terminalreporter")
        if {named}:
            config.pluginmanager.register(Bare(), "terminalreporter")
    """


@pytest.mark.parametrize("named", [True, False])
def test_a_reporter_of_another_plugin_needs_no_attribute_of_pytests(project, named):
    add_to_conftest(project, REPORTER.format(named=named))
    result = project.runpytest_inprocess("-p", "no:cacheprovider", "--probe-jobs=1", *FINAL, "--probe-json=r.json")
    assert result.ret == pytest.ExitCode.OK
    assert run_record.load(project.path / "r.json")["failures"] == []
    result.stdout.fnmatch_lines(["tiny on blobs: *", "*= probebench =*", "run record: r.json"])


def test_without_a_terminal_nothing_is_printed(project):
    result = project.runpytest_inprocess("-p", "no:terminal", "--probe-jobs=1", *FINAL, "--probe-json=r.json")
    assert result.stdout.str() == ""
    assert (project.path / "r.json").exists()
