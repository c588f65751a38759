"""`pytest -n N`: every sweep in one worker process, one record, leaderboard and update in the controller."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from textwrap import dedent

import numpy as np
import pytest

from probebench.catalog.cases import Sweep
from probebench.catalog.taps import Tap
from probebench.records import baselines, run_record
from tests.conftest import FEW, ONE, ONE_COUNT, TINY_COUNT
from tests.records.valid import validate

pytest.importorskip("xdist")

# Every process that runs tests writes down which extractions it made. It is patched by a fixture, not on import: the
# controller runs in the process of these tests.
COUNTING = """
import os, pathlib, pytest

@pytest.fixture(autouse=True, scope="session")
def counting(request):
    import probebench.measure.extract as stage
    original, monkeypatch = stage.read_features, pytest.MonkeyPatch()

    def extract(built, views, *args, **kwargs):
        line = f"{os.environ.get('PYTEST_XDIST_WORKER')} {os.environ['PYTEST_CURRENT_TEST'].split('-L')[0]}"
        with pathlib.Path(request.config.rootpath, "extracted").open("a") as file:
            file.write(line.replace("-embed", "").replace("-final", "") + chr(10))
        return original(built, views, *args, **kwargs)

    monkeypatch.setattr(stage, "read_features", extract)
    yield
    monkeypatch.undo()
"""

TIMES = {"started", "duration_seconds", "images_per_second", "command", "hardware", "correct"}
TIMES_OF_PARTS = {"seconds", "extract_seconds", "wall_seconds"}


def add_to_conftest(project, text):
    path = project.path / "conftest.py"
    path.write_text(path.read_text() + text)


def extractions(project):
    """By sweep, as in its first node id, the workers of its extractions: of training and of test images."""
    found = {}
    for line in (project.path / "extracted").read_text().splitlines():
        worker, _, nodeid = line.partition(" ")
        found.setdefault(nodeid.partition(" (")[0].rstrip("]"), []).append(worker)
    return found


def timeless(record):
    """A record without what differs from run to run."""
    stripped = {key: value for key, value in record.items() if key not in TIMES}
    for kind in ("sweeps", "cases"):
        stripped[kind] = [{k: v for k, v in part.items() if k not in TIMES_OF_PARTS} for part in record[kind]]
    return stripped


def left_over(project):
    return [path for path in (project.path / ".probebench").rglob("*") if "workers" in path.parts]


NOTING = """
def pytest_probebench_record(record):
    with open("noted", "a") as file:
        file.write("x")
"""

CASES = """
import pytest

@pytest.mark.probe(model=["tiny", "tiny_other"], dataset=["blobs", "blobs_dark"])
def test_probe(probe):
    probe.check()

@pytest.mark.probe(model="tiny", dataset="no_class_two")
def test_fails(probe):
    probe.check()
"""


def test_all_is_as_in_one_process(from_nothing, project, run, stored, baselines_dir, tmp_path, monkeypatch):
    add_to_conftest(project, COUNTING + NOTING)
    project.makepyfile(test_tiny=CASES)
    for name, change in (("tiny-blobs", np.True_), ("tiny_other-blobs", np.False_)):
        sweep = Sweep(*name.split("-"), "default@2")
        changed = baselines.read(baselines_dir.parent, sweep)
        changed.correct[Tap("final", "final")][:] = change
        baselines.write(baselines_dir.parent, changed)
    alone = run("--probe-json=alone.json")
    (project.path / "extracted").unlink()
    (project.path / "noted").unlink()
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    result = run("-n", "2", "--probe-json=n.json", "--probe-leaderboard-file=n.csv", "--junitxml=n.xml")

    assert result.ret == alone.ret
    assert (
        alone.parseoutcomes() == {"failed": 2, "passed": TINY_COUNT - 1, "not": ONE_COUNT - 1} == result.parseoutcomes()
    )
    assert result.stdout.str().count("could not be measured.") == 1
    found = extractions(project)
    assert len(found) == 4
    assert all(len(by) == 2 and len(set(by)) == 1 for by in found.values())
    assert {by[0] for by in found.values()} == {"gw0", "gw1"}

    whole, parts = run_record.load(project.path / "alone.json"), run_record.load(project.path / "n.json")
    validate(parts)
    assert {case["verdict"] for case in whole["cases"]} == {"same", "regressed", "improved"}
    assert [failure["sweep"] for failure in whole["failures"]] == ["tiny-no_class_two"]
    assert timeless(parts) == timeless(whole)
    assert parts["correct"]["sha256"] == whole["correct"]["sha256"]
    assert parts["hardware"]["workers"] == 2
    assert set(run_record.load_correct(parts, project.path / "n.json")) == {case["id"] for case in whole["cases"]}

    result.stdout.fnmatch_lines(
        [
            f"probebench: {5 * ONE_COUNT} cases in 5 sweeps on 2 workers, protocol default@2 (*), device auto, *",
            "*= probebench =*",
            f"{TINY_COUNT} cases in 4 sweeps: {TINY_COUNT - 2} same, 1 regressed, 1 improved*",
            "run record: n.json",
        ]
    )
    text = result.stdout.str()
    assert text.count("run record: ") == text.count("= probebench =") == 1
    assert len([line for line in result.outlines if line.startswith("::")]) == 1
    assert summary.read_text().count("## probebench") == 1
    assert len((project.path / "n.csv").read_text().splitlines()) == TINY_COUNT + 1
    xml = (project.path / "n.xml").read_text()
    assert xml.count('name="probe_verdict"') == TINY_COUNT
    assert xml.count('<property name="probe_run_record" value="n.json"') == 1
    assert len(list((project.path / ".probebench" / "runs").glob("*.json"))) == 2
    assert (project.path / "noted").read_text() == "x"
    assert left_over(project) == []


@pytest.mark.parametrize("workers", [3, 5])
def test_every_sweep_is_extracted_in_one_worker(project, run, workers):
    add_to_conftest(project, COUNTING)
    result = run("-n", str(workers), "--probe-json=n.json", *FEW)
    result.assert_outcomes(passed=4)
    found = extractions(project)
    assert len(found) == 4
    assert all(len(by) == 2 and len(set(by)) == 1 for by in found.values())
    # Where there are more of them than sweeps, the first are kept.
    assert {by[0] for by in found.values()} == {f"gw{i}" for i in range(min(workers, 4))}
    record = run_record.load(project.path / "n.json")
    assert (len(record["cases"]), record["hardware"]["workers"]) == (4, workers)


DEADLY = """
import os, pathlib

def pytest_probebench_datasets():
    return [
        DatasetSpec(name="blobs", reader="conftest:blobs"),
        DatasetSpec(name="deadly", reader="conftest:deadly"),
        DatasetSpec(name="more", reader="conftest:blobs"),
    ]

def deadly():
    with open("killed", "a") as file:
        file.write("x")
    os._exit(9)

def pytest_runtest_call(item):
    if item.name == "test_probe[tiny-blobs-L01-act]":
        os._exit(9)
"""


def test_a_worker_that_dies_costs_its_sweep_only_and_nobody_tries_that_again(project, run):
    add_to_conftest(project, DEADLY + COUNTING)
    project.makepyfile(
        test_tiny="""
        import pytest

        @pytest.mark.probe(model="tiny", dataset=["blobs", "deadly", "more"])
        def test_probe(probe):
            probe.check()
        """
    )
    result = run("-n", "1", "--probe-json=r.json", "--probe-update=new", "--junitxml=j.xml")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    # One dies when blobs are measured, and what is left of them is read; one in the middle of a sweep.
    assert result.parseoutcomes() == {"passed": 2 * ONE_COUNT - 1, "failed": 2, "not": ONE_COUNT - 1}
    for case in ("blobs-L01-act", "deadly-embed"):
        result.stdout.fnmatch_lines([f"worker 'gw*' crashed while running 'test_tiny.py::test_probe?tiny-{case}?'"])
    assert (project.path / "killed").read_text() == "x"
    assert [len(by) for by in extractions(project).values()] == [2, 2]
    record = run_record.load(project.path / "r.json")
    validate(record)
    assert [sweep["dataset"] for sweep in record["sweeps"]] == ["blobs", "more"]
    assert len(record["cases"]) == 2 * ONE_COUNT
    assert record["interrupted"] is False
    (failure,) = record["failures"]
    assert failure["sweep"] == "tiny-deadly"
    assert failure["error"].startswith("WorkerDied: the process of worker gw")
    result.stdout.fnmatch_lines(["baselines: 2 files updated*"])
    cases = ET.parse(project.path / "j.xml").getroot().iter("failure")
    assert (
        sum("not measured: the sweep failed, see the crash of worker" in case.text for case in cases) == ONE_COUNT - 1
    )
    assert left_over(project) == []


DYING = """
import os, pytest

@pytest.fixture(autouse=True, scope="session")
def dying():
    from probebench.plugin.xdist.worker import Worker
    monkeypatch = pytest.MonkeyPatch()
    before = Worker._share

    def share(self, options):
        if "tiny_other" in os.environ["PYTEST_CURRENT_TEST"]:
            with open("deaths", "a") as file:
                file.write("x")
            os._exit(1)  # as pytest-timeout ends a process, with its method "thread"
        return before(self, options)

    monkeypatch.setattr(Worker, "_share", share)
    yield
    monkeypatch.undo()
"""


def test_a_worker_that_dies_while_it_gets_ready_is_replaced_once(project, run):
    add_to_conftest(project, DYING)
    args = ("-n", "1", "--probe-model=tiny_other", "--probe-dataset=blobs", "--probe-json=r.json")
    result = run(*args)
    assert result.parseoutcomes() == {"failed": 1, "not": ONE_COUNT - 1}
    assert (project.path / "deaths").read_text() == "x"
    (failure,) = run_record.load(project.path / "r.json")["failures"]
    assert failure["error"].startswith("WorkerDied: the process of worker gw0")


FULL = """
def pytest_collection_modifyitems():
    from probebench.errors import StoreError
    from probebench.plugin.xdist.exchange import ExchangeDirectory
    import os, pytest

    def announce(*args):
        raise StoreError("cannot write collected/gw0.json: No space left on device")

    if "PYTEST_XDIST_WORKER" in os.environ:
        ExchangeDirectory.announce = announce
"""


def test_a_worker_that_cannot_write_what_it_has_collected_ends_the_run_with_the_reason(project, run):
    add_to_conftest(project, FULL)
    result = run("-n", "1", *ONE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: cannot write collected/gw0.json: No space left on device"])
    assert "INTERNALERROR" not in result.stdout.str()


STALLING = """
import os, time, pytest

@pytest.fixture(autouse=True, scope="session")
def stalling(request):
    from dataclasses import replace
    import probebench.probes.evaluate as probing
    from probebench.probes import find_probe
    monkeypatch, seen = pytest.MonkeyPatch(), []

    def stalling(name):
        seen.append(name)
        probe = find_probe(name)
        def fit(*args):
            for count, pair in enumerate(probe.fit_matched(*args)):
                if len(seen) == 2 and count == 5:
                    open(f"stalled-{os.getpid()}", "w").close()
                    time.sleep(100)
                yield pair
        return replace(probe, fit_matched=fit)

    monkeypatch.setattr(probing, "find_probe", stalling)
    yield
    monkeypatch.undo()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGINT for one process")
def test_ctrl_c_keeps_what_the_workers_had_finished(warm, project):
    add_to_conftest(project, STALLING)
    args = ["-p", "no:cacheprovider", "-n", "2", "--probe-jobs=1", "--probe-json=r.json", "--probe-update=all"]
    # Where tests run in the background, SIGINT is ignored, and so it would be in the processes that they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *args], cwd=project.path, stdout=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    while len(stalled := list(project.path.glob("stalled-*"))) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    for number in (process.pid, *(int(path.name.partition("-")[2]) for path in stalled)):
        os.kill(number, signal.SIGINT)  # as a terminal does, to all of them
    text, _ = process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    record = run_record.load(project.path / "r.json")
    validate(record)
    assert record["interrupted"] is True
    assert len(record["cases"]) == 2 * ONE_COUNT + 2 * 5
    assert record["failures"] == []
    assert "baselines: not updated, because the run did not get to its end" in text
    assert "run record: r.json (interrupted: what had finished)" in text
    assert not (project.path / "baselines").exists()
    assert left_over(project) == []


def test_enough_failures_end_a_run(project, run):
    result = run("-n", "2", "-x", "--probe-strict", "--probe-json=r.json")
    result.stdout.fnmatch_lines(["*stopping after 1 failures*"])
    record = run_record.load(project.path / "r.json")
    assert ONE_COUNT <= len(record["cases"]) <= TINY_COUNT
    assert record["interrupted"] is (len(record["cases"]) < TINY_COUNT)
    assert record["failures"] == []  # no worker is taken for dead


def test_failed_cases_are_run_again_alone(warm, project, run, baselines_dir):
    run("--probe-update=all", *FEW)
    stored = baselines.read(baselines_dir.parent, Sweep("tiny", "blobs", "default@2"))
    stored.correct[Tap("final", "final")][:] = True
    baselines.write(baselines_dir.parent, stored)
    few = ("--probe-jobs=1", *FEW)
    project.runpytest_inprocess(*few).assert_outcomes(failed=1, passed=3)  # with the cache of pytest, which `run` lacks
    again = project.runpytest_inprocess("-n", "2", *few, "--lf", "-q", "--probe-json=r.json")
    again.assert_outcomes(failed=1)
    assert [case["id"] for case in run_record.load(project.path / "r.json")["cases"]] == ["tiny-blobs-final"]
    text = again.stdout.str()
    assert text.count("probebench: 1 case") == 1
    assert "as the weights declare" not in text  # -q
    assert "Best tap of each model" in text


def test_what_is_not_there_is_told_by_the_controller(project, run, monkeypatch, tmp_path):
    monkeypatch.setenv("PROBEBENCH_DATA", str(tmp_path / "data"))
    project.makepyfile(
        test_tiny="""
        import pytest

        @pytest.mark.probe(model=["mae_b16", "dino_b16"], dataset="paper", site="final")
        def test_paper(probe):
            probe.check()

        @pytest.mark.probe(model="tiny", dataset="blobs", site="final")
        def test_probe(probe):
            probe.check()
        """
    )
    result = run("-n", "2", "--deselect=test_tiny.py::test_probe")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["Not on this machine: tiny (2 models); *"])
    # Asked for by name: each worker finds out that there is no network.
    result = run("-n", "2", "--probe-model=mae_b16", "--probe-strict")
    result.assert_outcomes(errors=11)
    result.stdout.fnmatch_lines(["mae_b16-*was requested but could not be measured: not on this machine"])
    result.stdout.fnmatch_lines(["WARNING: *weights of model 'mae_b16' could not be downloaded: no network*"])
    result.stdout.fnmatch_lines(["  mae_b16  11 cases  343 MB + 11 datasets*fetch mae_b16 paper"])
    assert result.stdout.str().count("could not be downloaded") == 1


def test_baselines_without_a_case_are_pruned_by_the_controller(project, run, baselines_dir):
    run("--probe-update=all", *FEW)
    for kind in ("json", "safetensors"):
        (baselines_dir / f"gone-blobs.{kind}").write_text("{}")
    project.makepyfile(
        test_tiny=(project.path / "test_tiny.py").read_text().replace("blobs_dark", "blobs"),
        test_plain="def test_one(): pass",
    )
    result = run("-n", "2", "--probe-prune")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["pruned: *gone-blobs.json *", "pruned: *tiny-blobs_dark.json *"])
    assert {path.stem for path in baselines_dir.glob("*.json")} == {"tiny-blobs", "tiny_other-blobs"}
    project.makepyfile(test_more="import pytest; pytest.importorskip('no_such')")
    result = run("-n", "2", "--probe-prune")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["baselines: *were kept, because of files that were skipped: test_more.py"])
    result = run("-n", "2", "--probe-prune", "-k", "tiny")
    result.stderr.fnmatch_lines(["ERROR: *leave out -k"])


@pytest.mark.parametrize(
    ("args", "mark", "message"),
    [
        ([], "model='tinny', dataset='blobs'", "*test_bad.py::test_probe: unknown model 'tinny'. Did you mean 'tiny'*"),
        (
            ["--dist=each"],
            "model='tiny', dataset='blobs'",
            "*--dist=each is not supported: each sweep must run on exactly one worker*",
        ),
        (["--probe-json=test_bad.py/r.json"], "model='tiny', dataset='blobs'", "*--probe-json: *not a directory*"),
        (["--probe-model=tinny"], "model='tiny', dataset='blobs'", "*unknown model 'tinny'*"),
    ],
    ids=["mark", "each", "json", "option"],
)
def test_mistakes_end_with_exit_code_4_before_any_work(project, run, args, mark, message):
    project.makepyfile(test_bad=f"import pytest\n@pytest.mark.probe({mark})\ndef test_probe(probe): probe.check()\n")
    result = run("-n", "2", "test_bad.py", *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert "crashed" not in result.stdout.str()
    assert not list((project.path / ".probebench").glob("*/*"))


def test_workers_on_other_machines_do_not_measure(project, run):
    add_to_conftest(
        project,
        dedent(
            """
            import pytest

            @pytest.hookimpl(trylast=True)
            def pytest_configure_node(node):
                del node.workerinput["probebench"]  # what those that cannot reach the folder of the run do not get
            """
        ),
    )
    result = run("-n", "2", *FEW)
    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines(["probebench supports local xdist workers (-n) only. *--probe-shard=I/N on each."])


@pytest.mark.parametrize("args", [("-n", "0"), ("-p", "no:xdist"), ("-n", "2", "--collect-only", "-q")], ids=" ".join)
def test_without_workers_all_is_as_ever(project, run, args):
    result = run(*args, *ONE, *FEW, "--probe-json=r.json")
    if "--collect-only" in args:
        assert "1 test collected" in result.stdout.str()
        assert not (project.path / "r.json").exists()
        return
    result.assert_outcomes(passed=1)
    assert "workers" not in run_record.load(project.path / "r.json")["hardware"]


def test_runs_without_cases_are_left_to_xdist(from_nothing, project, run):
    (project.path / "test_tiny.py").unlink()
    project.makepyfile(
        test_other="""
        import sys, pytest

        @pytest.mark.parametrize("x", range(20))
        def test_one(x): pass

        def test_light():
            heavy = ("torch", "probebench.plugin.xdist.exchange", "probebench.measure.run")
            assert not [name for name in heavy if name in sys.modules]
        """
    )
    (project.path / "conftest.py").unlink()
    result = run("-n", "2", "-v")
    result.assert_outcomes(passed=21)
    result.stdout.fnmatch_lines(["scheduling tests via LoadScheduling"])
    assert not (project.path / ".probebench").exists()


def test_ordinary_tests_beside_cases_go_where_the_chosen_scheduler_would_put_them(project, run):
    for name in ("a", "b"):
        text = """
            import os, pathlib, pytest
            @pytest.mark.parametrize("x", range(6))
            def test_one(x):
                with pathlib.Path("ran").open("a") as file:
                    file.write(f"{pathlib.Path(__file__).stem} {os.environ['PYTEST_XDIST_WORKER']}\\n")
            """
        project.makepyfile(**{f"test_{name}": text})
    result = run("-n", "2", "--dist=loadfile", "-v", *ONE, *FEW)
    result.assert_outcomes(passed=13)
    result.stdout.fnmatch_lines(["scheduling tests via SweepScheduling"])
    lines = (project.path / "ran").read_text().splitlines()
    assert len(lines) == 12
    assert len(set(lines)) == 2  # one worker for each file


def test_a_project_that_cannot_be_written_to_is_measured_all_the_same(project, run):
    (project.path / ".probebench").write_text("in the way")
    result = run("-n", "2", "--probe-json=r.json", *ONE)
    result.assert_outcomes(passed=ONE_COUNT)
    result.stdout.fnmatch_lines(["run record: r.json", "WARNING: cannot write *.probebench*"])
    assert len(json.loads((project.path / "r.json").read_text())["cases"]) == ONE_COUNT
