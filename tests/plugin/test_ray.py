"""`--probe-engine=ray`: sweeps as tasks of a Ray cluster, of several nodes on this machine; all else in one process."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from probebench.catalog.cases import Sweep
from probebench.catalog.taps import Tap
from probebench.records import baselines, run_record
from tests.conftest import TINY_COUNT
from tests.plugin.xdist.test_workers import add_to_conftest, timeless
from tests.records.valid import validate

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'probebench[ray]'")
from ray.cluster_utils import Cluster  # noqa: E402

BASELINES = Path(__file__).parents[2] / "baselines"
LIGHT = {"include_log_monitor": False}  # a process less on each node
CASES = """
import pytest

@pytest.mark.probe(model="tiny", dataset=[{}], site="final")
def test_probe(probe):
    probe.check()
"""


@pytest.fixture(autouse=True)
def _no_other_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture(autouse=True, scope="module")
def _one_token():
    """Ray keeps its token in the home directory, which is another one in each of these tests."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)
        yield


@pytest.fixture(autouse=True)
def _warm(warm):
    """Its workers are forked, too."""


@pytest.fixture(scope="module")
def head(_one_token):
    """A cluster whose head measures nothing, so that all other nodes may die."""
    # A node that is gone is to be noticed within a second, not half a minute.
    system = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 250, "health_check_failure_threshold": 3}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        args = {"num_cpus": 0, "include_dashboard": False, "no_monitor": True, "_system_config": system}
        made = Cluster(initialize_head=True, head_node_args=args | LIGHT)
    yield made
    made.shutdown()


def remove_nodes(head):
    for node in list(head.worker_nodes):
        head.remove_node(node)


@pytest.fixture
def cluster(head):
    """The head alone; add nodes to it."""
    remove_nodes(head)
    yield head
    remove_nodes(head)


@pytest.fixture
def two_nodes(head):
    """The head and two nodes of one core. A node takes seconds to start, so they stay for the tests that follow."""
    while len(head.worker_nodes) < 2:
        head.add_node(num_cpus=1, **LIGHT)
    head.wait_for_nodes()
    return head


def on(cluster):
    return "--probe-engine=ray", f"--probe-ray-address={cluster.address}"


def started(project, *args):
    """pytest as a process of its own."""
    # Where tests run in the background, SIGINT is ignored, and so it would be in the processes that they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *args],
            cwd=project.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for(path, process):
    while not (path.exists() and path.read_text().endswith("\n")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    return path.read_text().split()


def loaded(project, name):
    record = run_record.load(project.path / name)
    validate(record)
    return record


# A dataset that says where it is read, and takes its time when it is read first.
STALLING = """
import os, pathlib, time

def pytest_probebench_datasets():
    more = {"images": str(pathlib.Path(__file__).parent)}
    return [
        DatasetSpec(name="blobs", reader="conftest:blobs"),
        DatasetSpec(name="more", reader="conftest:blobs", kwargs={"seed": 1}),
        DatasetSpec(name="stalling", reader="conftest:stalling", kwargs=more),
    ]

def stalling(images):
    import ray
    marks = pathlib.Path(images, "read")
    marks.mkdir(exist_ok=True)
    count = len(list(marks.iterdir()))
    marks.joinpath(str(count)).write_text(ray.get_runtime_context().get_node_id() + chr(10))
    if count == 0:
        time.sleep(300)
    return blobs(seed=2)
"""


def test_the_embedded_benchmark_is_as_in_one_process(pytester, two_nodes, monkeypatch):
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeini("[pytest]\n")
    pytester.makepyfile(
        test_glyphvit="""
        import pytest

        @pytest.mark.probe(model="glyphvit", dataset="glyphs_49")
        def test_probe(probe):
            probe.check()

        @pytest.mark.probe(model="glyphvit_random", dataset="glyphs_49")
        def test_control(probe):
            probe.check()
        """
    )
    narrow = ("-p", "no:cacheprovider", "--probe-layer=1", "--probe-site=act,rc2", "--probe-strict")
    narrow += (f"--probe-baselines={BASELINES}",)
    alone = pytester.runpytest_inprocess(*narrow, "--probe-jobs=1", "--probe-json=alone.json")
    result = pytester.runpytest_inprocess(*narrow, *on(two_nodes), "--probe-json=ray.json")
    alone.assert_outcomes(passed=4)
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["probebench: 4 cases in 2 sweeps on 3 Ray nodes (1 core a sweep), protocol *"])
    lines = [line for line in result.stdout.lines if re.match(r"glyphvit(_random)? on ", line)]
    assert {line.partition(":")[0] for line in lines} == {
        "glyphvit on glyphs_49",
        "glyphvit_random on glyphs_49",
    }
    assert [line.partition(" (")[2][:11] for line in lines] == ["1 of 2 swee", "2 of 2 swee"]
    whole, parts = loaded(pytester, "alone.json"), loaded(pytester, "ray.json")
    assert {case["verdict"] for case in whole["cases"]} == {"same"}
    assert timeless(parts) == timeless(whole)
    assert parts["correct"]["sha256"] == whole["correct"]["sha256"]
    assert (parts["hardware"]["engine"], parts["hardware"]["nodes"], parts["hardware"]["cores"]) == ("ray", 3, 2)
    assert "engine" not in whole["hardware"]
    assert not ray.is_initialized()


@pytest.mark.parametrize("own", [False, True], ids=["cluster", "own"])
def test_ctrl_c_cancels_what_runs_and_keeps_what_had_finished(project, own, request):
    add_to_conftest(project, STALLING)
    project.makepyfile(test_tiny=CASES.format('"blobs", "stalling", "more"'))
    args = ("--probe-engine=ray", "--probe-jobs=1")
    if not own:
        cluster = request.getfixturevalue("two_nodes")
        args = on(cluster)
    process = started(project, *args, "--probe-json=r.json", "--probe-update=all")
    wait_for(project.path / "read" / "0", process)
    while not list(project.path.glob(".probebench/unfinished/*/tiny-blobs.json")):  # which another core may measure
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    text, _ = process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, text
    assert "run record: r.json (interrupted: what had finished)" in text
    assert "baselines: not updated, because the run did not get to its end" in text
    record = loaded(project, "r.json")
    assert record["interrupted"] is True
    assert {case["dataset"] for case in record["cases"]} in ({"blobs"}, {"blobs", "more"})
    assert record["failures"] == []
    assert not (project.path / "baselines").exists()
    if own:
        return
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        deadline = time.monotonic() + 30
        while ray.available_resources().get("CPU") != 2:  # the core of the cancelled sweep is free again
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        ray.shutdown()


FAILING = """
import os, pathlib

def pytest_probebench_datasets():
    return [
        DatasetSpec(name="blobs", reader="conftest:blobs"),
        DatasetSpec(name="broken", reader="conftest:broken"),
        DatasetSpec(name="deadly", reader="conftest:deadly"),
        DatasetSpec(name="no_class_two", reader="conftest:blobs", kwargs={"missing": 2}),
    ]

def broken():
    open("broken-was-read", "a").write("x")
    raise RuntimeError("cannot be read")

def deadly():
    open("deadly-was-read", "a").write("x")
    os._exit(9)
"""


def test_a_sweep_that_raises_fails_at_once_and_one_that_kills_its_process_after_retries(project, run):
    from probebench.measure.ray.engine import RETRIES

    add_to_conftest(project, FAILING)
    project.makepyfile(test_tiny=CASES.format('"broken", "deadly", "no_class_two", "blobs"'))
    alone = run("--deselect=test_tiny.py::test_probe[tiny-deadly-final]", "--probe-json=alone.json")
    (project.path / "broken-was-read").unlink()
    result = run("--probe-engine=ray", "--probe-json=r.json")  # and a Ray of its own
    alone.assert_outcomes(passed=1, failed=2)
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(["probebench: 4 cases in 4 sweeps on 1 Ray node (1 core a sweep), *"])
    result.stdout.fnmatch_lines(["RuntimeError: cannot be read", '*File "*conftest.py", line *, in broken'])
    assert (project.path / "broken-was-read").read_text() == "x"
    assert (project.path / "deadly-was-read").read_text() == "x" * (1 + RETRIES)
    whole, record = loaded(project, "alone.json"), loaded(project, "r.json")
    failures = {each["sweep"]: each["error"] for each in record["failures"]}
    died = failures.pop("tiny-deadly")
    assert died.startswith("WorkerDied: the process that measured this sweep, or its node, ended, and 3 more did (")
    assert {name: error.splitlines()[0] for name, error in failures.items()} == {
        each["sweep"]: each["error"].splitlines()[0] for each in whole["failures"]
    }
    assert timeless(record)["cases"] == timeless(whole)["cases"]
    assert record["hardware"]["nodes"] == 1
    assert not ray.is_initialized()
    assert not [name for name in os.environ if name.startswith("RAY_USAGE")]


def test_verdicts_updates_and_shards_are_as_in_one_process(project, run, baselines_dir, two_nodes):
    final = ("--probe-site=final",)
    run(*final, *on(two_nodes), "--probe-update=new").stdout.fnmatch_lines(["baselines: 4 files updated*"])
    for name, change in (("tiny-blobs", np.True_), ("tiny_other-blobs", np.False_)):
        stored = baselines.read(baselines_dir.parent, Sweep(*name.split("-"), "default@2"))
        stored.correct[Tap("final", "final")][:] = change
        baselines.write(baselines_dir.parent, stored)
    damaged, _ = baselines.paths(baselines_dir.parent, Sweep("tiny", "blobs_dark", "default@2"))
    damaged.write_text("{")
    for part in (1, 2):
        args = (*final, f"--probe-shard={part}/2")
        alone = run(*args, f"--probe-json=alone-{part}.json")
        result = run(*args, f"--probe-json=ray-{part}.json", *on(two_nodes))
        assert alone.parseoutcomes() == result.parseoutcomes()
        whole, parts = loaded(project, f"alone-{part}.json"), loaded(project, f"ray-{part}.json")
        assert timeless(parts) == timeless(whole)
    both = [loaded(project, f"ray-{part}.json") for part in (1, 2)]
    assert {case["verdict"] for record in both for case in record["cases"]} == {"same", "regressed", "improved"}
    assert sum(len(record["failures"]) for record in both) == 1  # of the damaged baseline


def test_what_an_earlier_run_has_finished_is_no_task(project, run, two_nodes, monkeypatch):
    project.makepyfile(test_tiny=CASES.format('"blobs", "blobs_dark"'))
    with monkeypatch.context() as patch:
        patch.setattr("probebench.measure.resume.ResumeStore.remove", lambda journal: None)
        run("--probe-json=local.json").assert_outcomes(passed=2)
    monkeypatch.setattr("probebench.measure.ray.engine.RayEngine._make_job", None)
    run(*on(two_nodes), "--probe-resume", "--probe-json=ray.json").assert_outcomes(passed=2)
    assert timeless(loaded(project, "ray.json")) == timeless(loaded(project, "local.json"))


def test_more_cores_than_a_node_has_are_refused(project, two_nodes):
    result = project.runpytest_inprocess(*on(two_nodes), "--probe-jobs=2")
    refused(result, "--probe-jobs=2: no node of the Ray cluster has more than 1 processor core")
    refused(
        project.runpytest_inprocess(*on(two_nodes), "--probe-device=cuda"),
        "--probe-device=cuda: no node of the Ray cluster has a GPU",
    )


def test_a_node_that_is_killed_costs_only_the_time_of_its_sweep(project, two_nodes):
    add_to_conftest(project, STALLING)
    project.makepyfile(test_tiny=CASES.format('"blobs", "stalling", "more"'))
    nodes = list(two_nodes.worker_nodes)
    process = started(project, *on(two_nodes), "--probe-json=r.json")
    (name,) = wait_for(project.path / "read" / "0", process)
    (node,) = [node for node in nodes if node.node_id == name]
    two_nodes.remove_node(node, allow_graceful=False)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    record = loaded(project, "r.json")
    assert [sweep["dataset"] for sweep in record["sweeps"]] == ["blobs", "stalling", "more"]
    assert len(record["cases"]) == 3
    assert record["failures"] == []
    (other,) = [node.node_id for node in nodes if node.node_id != name]
    assert [(project.path / "read" / str(i)).read_text().strip() for i in (0, 1)] == [name, other]
    assert len(list((project.path / "read").iterdir())) == 2


SEEING = """
import os

def pytest_probebench_datasets():
    return [DatasetSpec(name=f"blobs{i}", reader="conftest:seen", kwargs={"seed": i}) for i in range(3)]

def seen(seed):
    with open("seen", "a") as file:
        file.write(os.environ.get("CUDA_VISIBLE_DEVICES", "none") + chr(10))
    return blobs(seed=seed)
"""


def test_each_sweep_gets_a_gpu_of_its_own_where_there_are_some(project, run, cluster):
    add_to_conftest(project, SEEING)
    project.makepyfile(test_tiny=CASES.format('"blobs0", "blobs1", "blobs2"'))
    cluster.add_node(num_cpus=3, num_gpus=2, **LIGHT)  # which Ray takes our word for
    cluster.add_node(num_cpus=1, **LIGHT)
    cluster.wait_for_nodes()
    result = project.runpytest_inprocess("-p", "no:cacheprovider", *on(cluster))
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["probebench: 3 cases in 3 sweeps on 3 Ray nodes (1 core and a GPU a sweep), *"])
    found = (project.path / "seen").read_text().splitlines()
    assert len(found) == 3
    assert set(found) <= {"0", "1"}
    (project.path / "seen").unlink()
    result = run(*on(cluster), "--probe-device=cpu", "--probe-jobs=2", "--probe-dataset=blobs0")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["probebench: 1 case in 1 sweep on 3 Ray nodes (2 cores a sweep), *"])
    assert not {"0", "1"} & set((project.path / "seen").read_text().splitlines())


NODE_KILLING = """
import os, signal

def pytest_probebench_datasets():
    return [DatasetSpec(name=name, reader=f"conftest:{name}") for name in ("blobs", "killing")]

def killing():
    os.kill(int(os.environ["RAY_RAYLET_PID"]), signal.SIGKILL)  # the process that stands for a machine
    os._exit(9)
"""


def test_a_cluster_without_nodes_is_not_waited_for_for_ever(project, run, cluster, monkeypatch):
    from probebench.measure.ray import engine

    monkeypatch.setattr(engine, "PATIENCE_SECONDS", 2.0)
    monkeypatch.setattr(engine, "_POLL_SECONDS", 0.2)
    add_to_conftest(project, NODE_KILLING)
    project.makepyfile(test_tiny=CASES.format('"killing", "blobs"'))
    cluster.add_node(num_cpus=1, **LIGHT)
    cluster.wait_for_nodes()
    result = run(*on(cluster), "--probe-json=r.json")
    result.assert_outcomes(failed=2)
    failures = loaded(project, "r.json")["failures"]
    assert [each["sweep"] for each in failures] == ["tiny-killing", "tiny-blobs"]
    assert {each["error"] for each in failures} == {
        "EngineError: the Ray cluster has had no node with 1 processor core for 2 seconds"
    }


LACKING = """
import sys

class Lacks:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "probebench":
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Lacks())
"""


def test_a_node_without_probebench_says_so(project, run, cluster, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(LACKING)
    cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(tmp_path)}, **LIGHT)
    cluster.wait_for_nodes()
    result = run(*on(cluster), "--probe-model=tiny", "--probe-dataset=blobs", "--probe-layer=1")
    assert result.parseoutcomes() == {"failed": 1, "not": 7}
    result.stdout.fnmatch_lines(
        [
            "EngineError: a node of the Ray cluster could not start the sweep; probebench, *, must be installed "
            "on every node (ModuleNotFoundError: No module named 'probebench*')"
        ]
    )


@pytest.fixture
def nobody():
    """The address of a port that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def refused(result, message):
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert "passed" not in result.stdout.str()
    assert not ray.is_initialized()


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_does_not_answer_ends_the_run_before_any_work(run, nobody, scheme):
    address = scheme + nobody
    refused(
        run("--probe-engine=ray", f"--probe-ray-address={address}"), f"Ray cluster {address} cannot be reached (*); *"
    )


def test_the_address_may_be_in_the_environment(run, nobody, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", nobody)
    refused(run("--probe-engine=ray"), f"Ray cluster {nobody} cannot be reached (*")
    monkeypatch.setenv("RAY_ADDRESS", "auto")

    def init(address, **_):
        assert address == "auto"
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "init", init)
    refused(run("--probe-engine=ray"), "Ray cluster auto cannot be used (ConnectionError: Could not find any running*")


@pytest.mark.parametrize("address", ["", "somewhere", "host:", "http://host:1", "host:1/2", "ray://host"])
def test_addresses_that_cannot_be_meant_are_refused(run, address):
    message = f"--probe-ray-address takes HOST:PORT, ray://HOST:PORT or auto, got '{address}'"
    refused(run("--probe-engine=ray", f"--probe-ray-address={address}"), message)


def test_an_address_without_the_engine_is_refused(run):
    refused(run("--probe-ray-address=host:1"), "--probe-ray-address needs --probe-engine=ray: add it")


def test_workers_and_tasks_are_not_combined(run):
    pytest.importorskip("xdist")
    refused(
        run("--probe-engine=ray", "-n", "2"), "--probe-engine=ray measures in Ray tasks, but -n in worker processes: *"
    )
    run("--probe-engine=ray", "-n", "0", "--collect-only", "-q").stdout.fnmatch_lines(
        [f"{TINY_COUNT} tests collected*"]
    )


def test_without_ray_the_command_that_installs_it_is_told(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = run("--probe-engine=ray")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --probe-engine=ray needs Ray: pip install 'probebench?ray?'"])


def test_a_run_without_cases_starts_no_cluster(project, run, monkeypatch):
    monkeypatch.setattr(ray, "init", None)
    project.makepyfile(test_tiny="def test_other(): pass")
    run("--probe-engine=ray").assert_outcomes(passed=1)
