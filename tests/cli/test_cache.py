from __future__ import annotations

import json

import pytest

from probebench.cli import main
from probebench.features.cache import FeatureCache
from probebench.models.build import build_model
from tests.features.conftest import SPEC, Asked, noise


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("PROBEBENCH_CACHE", str(tmp_path / "features"))
    return tmp_path / "features"


@pytest.fixture
def kept(root):
    """Features of two splits under one model; held, so that they are in use, until the test says otherwise."""
    asked = Asked(build_model(SPEC), noise())
    for seed in range(2):
        asked.but(split=noise(seed=seed))(FeatureCache())
    return asked


def test_nothing_is_kept(root, capsys):
    assert main(["cache", "ls"]) == 0
    assert capsys.readouterr().out == f"0 entries, 0 B, in {root}\n"


@pytest.mark.usefixtures("kept")
def test_ls(root, capsys):
    assert main(["cache", "ls"]) == 0
    out = capsys.readouterr().out
    assert out.count("tiny") == 2
    assert "2 entries, " in out
    assert main(["cache", "ls", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert [entry["images"] for entry in table] == [40, 40]
    assert {entry["dataset"] for entry in table} == {"noise"}
    assert "L01-act" in table[0]["taps"]
    assert table[0]["key"]["architecture"] == "VisionTransformer"


@pytest.mark.usefixtures("kept")
def test_verify(root, capsys):
    assert main(["cache", "verify"]) == 0
    assert capsys.readouterr().out.endswith("none damaged\n")
    victim = next(root.glob("*/*.f32"))
    victim.write_bytes(b"\1" + victim.read_bytes()[1:])
    assert main(["cache", "verify"]) == 1
    out = capsys.readouterr().out
    assert f"{victim.name} is not what was written" in out
    assert out.endswith("1 damaged\n")
    assert main(["cache", "verify", "--remove"]) == 1
    assert capsys.readouterr().out.endswith("1 damaged, removed\n")
    assert main(["cache", "verify"]) == 0


def test_clear(kept, root, capsys):
    used = kept(FeatureCache())
    assert main(["cache", "clear"]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("1 removed, ")
    assert "was not removed, because a running process uses it" in captured.err
    del used
    assert main(["cache", "clear", "--model", "tiny"]) == 0
    assert not list(root.glob("*/*"))


@pytest.mark.usefixtures("kept")
def test_names_that_are_not_there(capsys):
    assert main(["cache", "clear", "--dataset", "nois"]) == 2
    assert "Did you mean 'noise'" in capsys.readouterr().err


def test_of_many_names_it_is_said_where_they_are_listed(root, capsys, monkeypatch):
    from types import SimpleNamespace

    entries = [SimpleNamespace(used=0, names={"dataset": f"set_{number}"}) for number in range(30)]
    monkeypatch.setattr(FeatureCache, "entries", lambda _: entries)
    monkeypatch.setattr(FeatureCache, "about", lambda _, entry: entry)
    assert main(["cache", "clear", "--dataset", "noise"]) == 2
    assert f"unknown dataset in {root} 'noise'. `probebench cache ls` lists them." in capsys.readouterr().err


def test_a_file_in_its_place(root, capsys):
    root.write_text("")
    assert main(["cache", "ls"]) == 1
    assert "is a file; the feature cache needs a folder" in capsys.readouterr().err
