from __future__ import annotations

import os

import pytest

from probebench import atomic
from probebench.errors import StoreError


def test_directories_are_made_and_content_replaced(tmp_path):
    path = tmp_path / "a" / "b.json"
    atomic.write(path, "one")
    atomic.write(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["b.json"]


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "b.json"
    atomic.write(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"cannot write .*b.json: No space left on device"):
        atomic.write(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["b.json"]


def test_files_are_as_readable_as_any_other(tmp_path):
    atomic.write(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_writability_is_known_before(tmp_path):
    atomic.check_writable(tmp_path / "new" / "dir" / "f.json", "--probe-json")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"--probe-json: .* is not a directory"):
        atomic.check_writable(tmp_path / "file" / "f.json", "--probe-json")
    with pytest.raises(StoreError, match=r"--probe-json: .* is a directory"):
        atomic.check_writable(tmp_path, "--probe-json")
