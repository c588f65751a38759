"""What a new probe takes: one module, which here is this one, and its registration."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from probebench import run_sweep
from probebench._arrays import on_host
from probebench.catalog.protocols import DEFAULT, PAPER, PROTOCOLS
from probebench.catalog.taps import Tap
from probebench.errors import ProbebenchError, UnknownName
from probebench.measure.cost import fit_operations
from probebench.measure.plan import Workload, plan_sweep
from probebench.probes import Fit, ProbeInfo, find_probe, get_probe, register_probe
from tests.conftest import ONE_COUNT
from tests.features.conftest import SPEC
from tests.measure.test_plan import DATASET

MINE = replace(DEFAULT, name="mine", probe="nearest_mean", path=None)


def fit(train, train_labels, test, held_out, protocol, device, jobs):
    """The class whose training features have the nearest mean."""
    known = np.unique(train_labels)
    for tap, values in train.items():
        means = np.stack([on_host(values)[train_labels == label].mean(axis=0) for label in known])
        scores = -np.linalg.norm(on_host(test[tap])[:, None] - means, axis=2)
        yield (
            tap,
            Fit(known[scores.argmax(axis=1)], known, scores, probabilities=False, seconds=0, iterations=0, C=None),
        )


PROBE = ProbeInfo(
    fit,
    memory=lambda size: 8 * size.classes * (size.width + size.n_test),
    operations=lambda size: 2.0 * size.n_test * size.width * size.classes,
    on_device=True,
    needs={"held_out": "a held-out part that it does not look at"},
)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr("probebench.probes.base._MODULES", {})
    register_probe("nearest_mean", __name__)


def test_a_registered_probe_is_measured_in_a_sweep(registered):
    found = run_sweep(SPEC, DATASET, protocol=MINE, jobs=1, device="cpu")
    assert len(found.taps) == ONE_COUNT
    assert max(each.accuracy for each in found.taps.values()) > 0.6  # of three classes
    assert {each.C for each in found.taps.values()} == {None}


def test_its_device_memory_and_operations_are_planned_with(registered, monkeypatch):
    sizes = SimpleNamespace(n_read=1000, n_train=1000, n_test=500, classes=3, draws=2, narrow=None)
    workload = Workload(MINE, {Tap(1, "rc2"): 64, Tap(2, "rc2"): 64}, **vars(sizes))
    assert workload.fit_bytes(64) == 8 * 3 * (64 + 500) + 2 * 4 * 1500 * 64
    assert plan_sweep(workload, memory=10**9, disk=0, jobs=1).memory == (
        workload.held_bytes(list(workload.widths), "memory") + workload.fit_bytes(64)
    )
    assert fit_operations(workload) == 2 * 2 * (2.0 * 500 * 64 * 3)
    monkeypatch.setattr("probebench.measure.prepare._usable_on_gpu", lambda device: 10**9)
    assert run_sweep(SPEC, DATASET, protocol=MINE, jobs=1, device="cpu").plan.mode == "device"


def test_a_name_is_registered_once(registered):
    register_probe("nearest_mean", __name__)
    with pytest.raises(ProbebenchError, match="probe 'nearest_mean' is registered twice; choose another name"):
        register_probe("nearest_mean", "probebench.probes.knn")


def test_unknown_probes_get_the_nearest_name():
    for look_up in (find_probe, get_probe):
        with pytest.raises(UnknownName, match=r"unknown probe 'ridge_pth'\. Did you mean 'ridge_path'\?"):
            look_up("ridge_pth")


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_named_protocols_have_all_that_their_probes_need(name):
    find_probe(PROTOCOLS[name].probe).check(PROTOCOLS[name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_out": None}, "the probe logistic needs a held-out part to choose C on; give held_out"),
        ({"path": None}, "the probe logistic needs values of C to choose from; give path"),
        ({"probe": "ridge_path", "path": None}, "the probe ridge_path needs values of C to choose from; give path"),
        ({"probe": "sklearn_logistic"}, "the probe sklearn_logistic needs a strength; give C"),
    ],
)
def test_a_protocol_without_what_its_probe_needs_is_refused_before_any_work(changes, message, monkeypatch):
    monkeypatch.setattr("probebench.datasets.load", lambda spec: pytest.fail("data was read"))
    protocol = replace(DEFAULT, name="mine", **changes)
    with pytest.raises(ProbebenchError, match=f"protocol 'mine': {message}"):
        run_sweep(SPEC, DATASET, protocol=protocol, jobs=1, device="cpu")


def test_probes_on_the_device_are_those_of_torch():
    on_device = {name: find_probe(name).on_device for name in ("knn", "logistic_path", "ridge_path")}
    assert on_device == dict.fromkeys(on_device, True)
    assert not find_probe(PAPER.probe).on_device
