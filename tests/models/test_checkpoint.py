"""What a checkpoint is: its kind by its first bytes, and the tables of tensors in it."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from probebench.catalog import ModelSpec
from probebench.errors import WeightsError
from probebench.models.checkpoint import own_file, read_tables

STATE = {"norm.weight": torch.arange(3.0), "norm.bias": torch.zeros(3)}


def read(path):
    return read_tables(path, "weights of model 'm'")


def refused(path):
    with pytest.raises(WeightsError) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith("weights of model 'm': ")
    assert "\n" not in text
    return text.removeprefix("weights of model 'm': ")


def saved(content, **kwargs):
    file = io.BytesIO()
    torch.save(content, file, **kwargs)
    return file.getvalue()


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("inner.pth", saved(STATE))
    return file.getvalue()


def tarred():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return file.getvalue()


def arrays():
    file = io.BytesIO()
    np.savez(file, a=np.zeros(2))
    return file.getvalue()


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "w.bin", "w"])
@pytest.mark.parametrize(
    "content",
    [
        lambda: save(STATE),
        lambda: saved(STATE),
        lambda: saved(STATE, _use_new_zipfile_serialization=False),
        lambda: pickle.dumps({name: tensor.numpy() for name, tensor in STATE.items()}),
    ],
    ids=["safetensors", "zip", "legacy", "pickle"],
)
def test_a_file_is_what_its_bytes_say_whatever_its_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content())
    found = read(tmp_path / name)
    assert list(found) == [""]
    assert all(found[""][key].equal(tensor) for key, tensor in STATE.items())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "the file is empty; get it again"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid",
            "a pointer of Git LFS, not the weights; run `git lfs pull`",
        ),
        (b"\n<!DOCTYPE html><html>", "a web page, not a checkpoint; download the file itself"),
        (b"<html>not found</html>", "a web page"),
        (zipped(), "a zip archive, not a file of torch.save; unpack it first"),
        (tarred(), "a tar archive; unpack it first"),
        (gzip.compress(saved(STATE)), "a gzip archive; unpack it first"),
        (arrays(), "arrays of numpy (.npz), not a checkpoint of torch"),
        (b"\x93NUMPY\x01\x00", "a single array of numpy"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b'{"a": 1}', "a JSON file that is no index of a checkpoint in parts"),
        (b"PK\x03\x04 not much more", "a truncated torch file; get it again"),
        (saved(STATE)[:500], "a truncated torch file; get it again"),
        (saved(STATE, _use_new_zipfile_serialization=False)[:300], "a damaged or truncated torch file"),
        (save(STATE)[:100], "not a readable safetensors file, or truncated"),
        (b"hello, world", "neither a safetensors file nor one of torch.save: it begins with b'hello, world'"),
    ],
)
def test_what_is_no_checkpoint_is_said_with_its_remedy(tmp_path, content, told):
    (tmp_path / "w.pt").write_bytes(content)
    assert refused(tmp_path / "w.pt").startswith(told)


def test_a_network_as_an_object_is_not_loaded(tmp_path):
    for content in (nn.Linear(2, 2), {"epoch": 3, "model": nn.Linear(2, 2)}):
        torch.save(content, tmp_path / "w.pt")
        assert refused(tmp_path / "w.pt") == (
            "the file holds the network as a Python object (torch.nn.modules.linear.Linear), and Python objects are "
            "never loaded: save only the state_dict of the network: torch.save(net.state_dict(), FILE), or better as "
            "safetensors"
        )


def test_entries_in_entries_are_found_and_what_is_no_tensor_is_left_out(tmp_path):
    content = {
        "epoch": 3,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
        "state": {"model": STATE | {"epoch": 3, "note": "x"}, "step": 7},
        "model": STATE,
        "array": {"weight": np.arange(3.0)},
    }
    torch.save(content, tmp_path / "w.pt")
    found = read(tmp_path / "w.pt")
    assert list(found) == ["model", "state.model", "array"]
    assert found["state.model"].keys() == STATE.keys()
    assert found["array"]["weight"].tolist() == [0, 1, 2]


def test_names_of_torchs_wrappers_are_dropped_wherever_they_stand(tmp_path):
    names = {
        "module._orig_mod.norm.weight": "norm.weight",
        "_fsdp_wrapped_module.blocks.0._fsdp_wrapped_module.fc.weight": "blocks.0.fc.weight",
        "blocks.1._orig_mod._checkpoint_wrapped_module.fc.weight": "blocks.1.fc.weight",
        "modules.weight": "modules.weight",
    }
    save_file({name: torch.zeros(2) for name in names}, tmp_path / "w.safetensors")
    assert set(read(tmp_path / "w.safetensors")[""]) == set(names.values())


@pytest.mark.parametrize("name", ["model.safetensors", "anything.safetensors", "pytorch_model.bin"])
def test_of_a_folder_the_weights_are_read(tmp_path, name):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_bytes(save(STATE) if name.endswith("safetensors") else saved(STATE))
    assert read(tmp_path)[""].keys() == STATE.keys()


def parts(folder):
    index = {
        "weight_map": {
            "norm.weight": "model-00001-of-00002.safetensors",
            "norm.bias": "model-00002-of-00002.safetensors",
        }
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for name, file in index["weight_map"].items():
        save_file({name: STATE[name]}, folder / file)


def test_a_checkpoint_in_parts_is_read_by_its_index_or_its_folder(tmp_path):
    parts(tmp_path)
    for path in (tmp_path, tmp_path / "model.safetensors.index.json"):
        assert all(read(path)[""][name].equal(tensor) for name, tensor in STATE.items())
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert refused(tmp_path) == "model-00002-of-00002.safetensors, a part of the checkpoint, is not beside its index"


def test_folders_without_one_checkpoint_say_what_is_in_them(tmp_path):
    assert refused(tmp_path) == "a folder without a checkpoint in it; name the file with the weights"
    for name in ("b.pt", "a.ckpt"):
        (tmp_path / name).write_bytes(saved(STATE))
    assert refused(tmp_path) == "a folder with 2 checkpoints; name one of a.ckpt, b.pt"
    (tmp_path / ".metadata").touch()
    assert f"python -m torch.distributed.checkpoint.format_utils dcp_to_torch {tmp_path} FILE" in refused(tmp_path)


def test_home_and_variables_in_a_path_are_expanded(tmp_path, monkeypatch):
    (tmp_path / "w.pt").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RUNS", str(tmp_path))
    for given in ("~/w.pt", "$RUNS/w.pt", "${RUNS}/w.pt"):
        assert own_file(ModelSpec("m", "vit_tiny_patch16_224", checkpoint=given)) == tmp_path / "w.pt"
        assert own_file(ModelSpec("m", "vit_tiny_patch16_224"), Path(given)) == tmp_path / "w.pt"


def test_an_address_is_no_path():
    spec = ModelSpec("m", "vit_tiny_patch16_224", checkpoint="https://example.org/w.pt")
    with pytest.raises(
        WeightsError, match=r"no such file; .*; an address is not a path: download it, and name the file$"
    ):
        own_file(spec)
