"""`--probe-engine=ray`: sweeps as tasks of a Ray cluster, of several nodes on this machine; all else in one process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

from probebench import results
from tests.conftest import TINY_COUNT
from tests.plugin.test_workers import add_to_conftest, timeless

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'probebench[ray]'")
from ray.cluster_utils import Cluster  # noqa: E402

BASELINES = Path(__file__).parents[2] / "baselines"
CASES = """
import pytest

@pytest.mark.probe(model="tiny", dataset=[{}], site="final")
def test_probe(probe):
    probe.check()
"""


@pytest.fixture
def cluster(monkeypatch):
    """A cluster whose head measures nothing, so that all other nodes may die; add nodes to it."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # A node that is gone is to be noticed within seconds, not half a minute.
    system = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": system}
    made = Cluster(initialize_head=True, head_node_args=head)
    yield made
    made.shutdown()


def arguments(cluster, *args):
    return ["-p", "no:cacheprovider", "--probe-engine=ray", f"--probe-ray-address={cluster.address}", *args]


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
    record = results.load(project.path / name)
    jsonschema.validate(record, results.schema(), format_checker=jsonschema.FormatChecker())
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


def test_the_embedded_benchmark_is_as_in_one_process(pytester, cluster, monkeypatch):
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    pytester.makeini("[pytest]\n")
    pytester.makepyfile(
        test_glyphvit="""
        import pytest

        @pytest.mark.probe(model="glyphvit", dataset=["digits", "digits_snow", "digits_sketch"])
        def test_probe(probe):
            probe.check()
        """
    )
    narrow = ("-p", "no:cacheprovider", "--probe-layer=6", "--probe-strict", f"--probe-baselines={BASELINES}")
    alone = pytester.runpytest_inprocess(*narrow, "--probe-jobs=1", "--probe-json=alone.json")
    result = pytester.runpytest_inprocess(*arguments(cluster, *narrow, "--probe-json=ray.json"))
    alone.assert_outcomes(passed=24)
    result.assert_outcomes(passed=24)
    result.stdout.fnmatch_lines(["probebench: 24 cases in 3 sweeps on 3 Ray nodes (1 core a sweep), protocol *"])
    whole, parts = loaded(pytester, "alone.json"), loaded(pytester, "ray.json")
    assert {case["verdict"] for case in whole["cases"]} == {"same"}
    assert timeless(parts) == timeless(whole)
    assert parts["correct"]["sha256"] == whole["correct"]["sha256"]
    assert (parts["hardware"]["engine"], parts["hardware"]["nodes"], parts["hardware"]["cores"]) == ("ray", 3, 2)
    assert "engine" not in whole["hardware"]
    assert not ray.is_initialized()


def test_a_node_that_is_killed_costs_only_the_time_of_its_sweep(project, cluster):
    add_to_conftest(project, STALLING)
    project.makepyfile(test_tiny=CASES.format('"blobs", "stalling", "more"'))
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    process = started(project, *arguments(cluster, "--probe-json=r.json", "-v"))
    (name,) = wait_for(project.path / "read" / "0", process)
    (node,) = [node for node in nodes if node.node_id == name]
    cluster.remove_node(node, allow_graceful=False)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    record = loaded(project, "r.json")
    assert [sweep["dataset"] for sweep in record["sweeps"]] == ["blobs", "stalling", "more"]
    assert len(record["cases"]) == 3
    assert record["failures"] == []
    (other,) = [node.node_id for node in nodes if node.node_id != name]
    assert [(project.path / "read" / str(i)).read_text().strip() for i in (0, 1)] == [name, other]
    assert len(list((project.path / "read").iterdir())) == 2


def test_ctrl_c_cancels_what_runs_and_keeps_what_had_finished(project, cluster):
    add_to_conftest(project, STALLING)
    project.makepyfile(test_tiny=CASES.format('"blobs", "stalling", "more"'))
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    process = started(project, *arguments(cluster, "--probe-json=r.json", "--probe-update=all"))
    wait_for(project.path / "read" / "0", process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    text, _ = process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, text
    assert "run record: r.json (interrupted: what had finished)" in text
    record = loaded(project, "r.json")
    assert record["interrupted"] is True
    assert [case["dataset"] for case in record["cases"]] == ["blobs"]
    assert record["failures"] == []
    assert not (project.path / "baselines").exists()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        deadline = time.monotonic() + 30
        while ray.available_resources().get("CPU") != 1:  # the core of the cancelled sweep is free again
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
    from probebench.engines.ray import RETRIES

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
