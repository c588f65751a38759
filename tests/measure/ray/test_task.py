"""A sweep measured from what is sent alone, as on a machine that has neither conftest files nor baselines."""

from __future__ import annotations

import pickle
import socket
import sys
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import torch

from probebench.catalog import Catalog
from probebench.catalog.cases import Sweep
from probebench.catalog.protocols import DEFAULT_PROTOCOL
from probebench.catalog.taps import Tap
from probebench.measure.availability import RequestedNames
from probebench.measure.outcome import SweepOutcome
from probebench.measure.ray.task import Job, measure
from probebench.plugin.parsing import parse_options
from probebench.records.baselines import Baseline
from probebench.records.environment import versions

SWEEP = Sweep("glyphvit", "letters", DEFAULT_PROTOCOL)
TAP = Tap("final", "final")
NOBODY = RequestedNames(frozenset(), frozenset(), frozenset())


@pytest.fixture
def job(tmp_path, monkeypatch, pytestconfig):
    """For one tap of the embedded model on 13 letters. Directory, path and threads of this process are put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    threads = torch.get_num_threads()
    catalog = Catalog.default()
    model, data = catalog.model("glyphvit"), replace(catalog.dataset("glyphs"), name="letters", kwargs={"step": 8})
    options = replace(parse_options(pytestconfig), jobs=1, device="cpu", baselines=tmp_path / "none")
    sent = {spec.name: spec for spec in (data, catalog.reference(model)) if spec is not None}
    yield Job(
        sweep=SWEEP,
        taps=(TAP,),
        baseline=None,
        catalog=Catalog({"glyphvit": model}, sent, {}),
        options=options,
        family=1,
        requested=NOBODY,
        versions=versions(),
        directory=tmp_path,
        path=(*sys.path, str(tmp_path / "readers")),
    )
    torch.set_num_threads(threads)


def test_verdicts_come_of_the_baseline_that_is_sent(job, tmp_path):
    done = measure(job)
    assert done.outcome.error is None
    (case,) = done.outcome.cases
    assert case["verdict"] == "new"
    assert done.outcome.record["shift_distance"]["reference"] == "glyphs_pretraining"
    assert done.hardware["threads"] == 1
    assert str(tmp_path / "readers") in sys.path
    measured = done.outcome.baseline()
    assert measure(replace(job, baseline=measured)).outcome.cases[0]["verdict"] == "same"
    perfect = {TAP: np.ones_like(measured.correct[TAP])}
    again = measure(replace(job, baseline=replace(measured, correct=perfect))).outcome
    assert again.cases[0]["verdict"] == "regressed"
    assert again.complaints[case["id"]].startswith("regressed: glyphvit on letters at final")
    assert isinstance(measured, Baseline)
    assert not (tmp_path / "none").exists()


def test_another_version_of_a_package_is_an_error(job):
    other = job.versions | {"timm": "0.0.1", "pytest": "0.1"}  # pytest's does not matter there
    outcome = measure(replace(job, versions=other)).outcome
    assert outcome.error == (
        f"EngineError: node {socket.gethostname()} has other versions than the process of pytest: "
        f"timm {job.versions['timm']} instead of 0.0.1; install the same on both"
    )
    assert outcome.cases == []


def test_what_a_node_lacks_is_an_error_unless_it_may_be_downloaded(job, tmp_path, monkeypatch):
    monkeypatch.setenv("PROBEBENCH_DATA", str(tmp_path / "data"))
    catalog = Catalog.default()
    names = "mae_b16", "cifar10"
    model, data = catalog.model(names[0]), catalog.dataset(names[1])
    sent = {spec.name: spec for spec in (data, catalog.reference(model)) if spec is not None}
    lacking = replace(job, sweep=Sweep(*names, DEFAULT_PROTOCOL), catalog=Catalog({names[0]: model}, sent, {}))
    outcome = measure(lacking).outcome
    assert outcome.error.startswith(
        f"EngineError: node {socket.gethostname()} does not have the weights of mae_b16 and dataset cifar10, which may "
    )
    asked = measure(
        replace(lacking, requested=RequestedNames(frozenset({"mae_b16"}), frozenset(), frozenset()))
    ).outcome
    assert asked.error is None
    assert "weights of model 'mae_b16' could not be downloaded: no network" in asked.unreachable


def test_job_and_outcome_can_be_sent(job):
    cloudpickle = pytest.importorskip("ray.cloudpickle", reason="needs Ray: pip install 'probebench[ray]'")
    assert isinstance(job.catalog.model("glyphvit").kwargs, MappingProxyType | dict)
    sent = pickle.loads(cloudpickle.dumps(job))
    assert sent == job
    outcome = measure(sent).outcome
    again = pickle.loads(cloudpickle.dumps(outcome))
    assert isinstance(again, SweepOutcome)
    assert again.cases == outcome.cases
