"""Checkpoints with objects beside the weights, harmless and hostile: tensors are read, and nothing is run."""

from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from probebench.models.unpickling import StandIn, load_pickle, load_torch, load_torchscript

TENSORS = {
    "whole": torch.arange(6.0).reshape(2, 3),
    "turned": torch.arange(6.0).reshape(2, 3).T,
    "part": torch.arange(10.0)[3:5],
    "half": torch.ones(2, dtype=torch.bfloat16),
    "number": torch.tensor(3),
    "parameter": nn.Parameter(torch.ones(2)),
}


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def save(request, tmp_path):
    """Save by torch, in today's and in the old format; returns the file."""

    def write(content):
        torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=request.param)
        return tmp_path / "w.pt"

    return write


def same(found):
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert type(found[name]) is torch.Tensor
        assert found[name].dtype == tensor.dtype
        assert found[name].equal(tensor)


def test_tensors_are_those_that_were_saved(save):
    same(load_torch(save(TENSORS)))


class Config:
    def __init__(self):
        self.lr = 0.1
        self.parts = [1, 2]


class Items(list):
    pass


def test_objects_beside_the_weights_do_not_keep_them_from_being_read(save):
    beside = {
        "accuracy": np.float64(0.9),
        "curve": np.arange(6, dtype=np.float32).reshape(2, 3),
        "names": np.array(["a", 1], dtype=object),
        "args": argparse.Namespace(lr=0.1, out=Path("runs")),
        "config": Config(),
        "items": Items([1, 2]),
        "set": {1, 2},
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "network": nn.Linear(2, 2),
        "function": os.path.join,
    }
    found = load_torch(save({"model": TENSORS} | beside))
    same(found["model"])
    assert found["accuracy"] == 0.9
    assert found["curve"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["dtype"] is torch.float16
    assert isinstance(found["config"], StandIn)
    assert found["config"].state == {"lr": 0.1, "parts": [1, 2]}
    assert isinstance(found["network"], StandIn)


class Reduced:
    """Calls something when it is read; `args` are those of the call."""

    def __init__(self, call, *args, state=None, items=None):
        self.told = (call, args, state, items)

    def __reduce__(self):
        return self.told


class Stateful:
    def __setstate__(self, state):
        Path("ran").touch()

    def __getstate__(self):
        return {"a": 1}


HOSTILE = {
    "call": lambda: Reduced(os.system, "touch ran"),
    "exec": lambda: Reduced(exec, "open('ran', 'w')"),
    "eval": lambda: Reduced(eval, "open('ran', 'w')"),
    "import": lambda: Reduced(__import__, "antigravity"),
    "attribute": lambda: Reduced(getattr, Reduced(__import__, "os"), "system"),
    "partial": lambda: Reduced(__import__("functools").partial, os.system, "touch ran"),
    "state": lambda: Stateful(),
    "items": lambda: Reduced(Items, items=iter([Reduced(os.system, "touch ran")])),
    "in a tuple": lambda: (1, [Reduced(os.system, "touch ran")]),
    "as a key": lambda: {Reduced(os.system, "touch ran"): 1},
    "code": lambda: Reduced(exec, Reduced(compile, "open('ran', 'w')", "a", "exec")),
    "load": lambda: Reduced(torch.load, "other.pt"),
    "reconstruct": lambda: Reduced(np.ndarray.__reduce__(np.zeros(1))[0], Reduced, (0,), b"b"),
    "storage": lambda: Reduced(torch.storage._load_from_bytes, pickle.dumps(Reduced(os.system, "touch ran"))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_of_a_file_is_run(save, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = save({"model": TENSORS, "evil": HOSTILE[name]()})
    same(load_torch(path)["model"])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_of_arrays_are_read_and_not_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    arrays = {"weight": np.arange(6.0, dtype=np.float32).reshape(2, 3)}
    content = {"model": arrays, "evil": HOSTILE["call"]()}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content, protocol))
    found = load_pickle(tmp_path / "w.pkl")
    assert np.array_equal(found["model"]["weight"], arrays["weight"])
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_tensors_of_a_torchscript_archive_are_read_by_their_names(tmp_path):
    net = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.BatchNorm1d(3))).half().eval()
    torch.jit.script(net).save(str(tmp_path / "w.pt"))
    found = load_torchscript(tmp_path / "w.pt")
    assert found.keys() == net.state_dict().keys()
    assert all(found[name].equal(tensor) for name, tensor in net.state_dict().items())
