from __future__ import annotations

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from probebench import _files
from probebench.errors import StoreError


def test_directories_are_made_and_content_replaced(tmp_path):
    path = tmp_path / "a" / "b.json"
    _files.write(path, "one")
    _files.write(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["b.json"]


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "b.json"
    _files.write(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"cannot write .*b.json: No space left on device"):
        _files.write(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["b.json"]


def test_files_are_as_readable_as_any_other(tmp_path):
    _files.write(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_file_that_is_replaced_keeps_what_it_may_be(tmp_path):
    (tmp_path / "a").write_text("private")
    (tmp_path / "a").chmod(0o600)
    _files.write(tmp_path / "a", "x")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("there", [True, False], ids=["to a file", "to none yet"])
def test_symbolic_links_are_followed_and_stay(tmp_path, there):
    target, link = tmp_path / "real" / "file", tmp_path / "links" / "second"
    for folder in ("real", "links"):
        (tmp_path / folder).mkdir()
    if there:
        target.write_text("old")
    (tmp_path / "first").symlink_to(target)
    link.symlink_to(Path("..", "first"))
    _files.check_writable(link, "--probe-json")
    _files.write(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "first").is_symlink()
    assert target.read_text() == "new"
    assert os.listdir(tmp_path / "links") == ["second"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_and_devices_are_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    _files.check_writable(pipe, "--probe-json")
    with ThreadPoolExecutor(1) as threads:
        read = threads.submit(pipe.read_text)
        _files.write(pipe, "x")
        assert read.result(10) == "x"
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    _files.check_writable(Path(os.devnull), "--probe-json")
    _files.write(Path(os.devnull), "x")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    with pytest.raises(StoreError, match=r"cannot write /dev/full: No space left on device"):
        _files.write(Path("/dev/full"), "x")


def test_threads_that_write_leave_the_umask_of_the_process_alone(tmp_path, monkeypatch):
    umask, both = os.umask, threading.Barrier(2)

    def slow(mask):
        before = umask(mask)
        both.wait(10)  # until the other thread has set it, too: it is one for all of them
        return before

    before = umask(0o027)
    try:
        with monkeypatch.context() as patch, ThreadPoolExecutor(2) as threads:
            patch.setattr(os, "umask", slow)
            list(threads.map(lambda name: _files.write(tmp_path / name, "x"), "ab"))
        assert umask(0o027) == 0o027
        assert [(tmp_path / name).stat().st_mode & 0o777 for name in "ab"] == [0o640] * 2
    finally:
        umask(before)


def test_a_folder_that_another_process_removes_as_it_is_made_is_made_again(tmp_path, monkeypatch):
    """As runs do with the folder of theirs when they end, if it is empty."""
    mkdir, removed = os.mkdir, []

    def make(path, *args, **kwargs):
        mkdir(path, *args, **kwargs)
        if path == tmp_path / "workers" and not removed:
            os.rmdir(path)
            removed.append(path)

    monkeypatch.setattr(os, "mkdir", make)
    _files.write(tmp_path / "workers" / "one" / "a.json", "x")
    assert (tmp_path / "workers" / "one" / "a.json").read_text() == "x"
    assert removed


def test_writability_is_known_before(tmp_path):
    _files.check_writable(tmp_path / "new" / "dir" / "f.json", "--probe-json")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"--probe-json: .* is not a directory"):
        _files.check_writable(tmp_path / "file" / "f.json", "--probe-json")
    with pytest.raises(StoreError, match=r"--probe-json: .* is a directory"):
        _files.check_writable(tmp_path, "--probe-json")


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch, tmp_path):
    def none(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", none)
    monkeypatch.delenv("PROBEBENCH_DATA", raising=False)
    with pytest.raises(StoreError, match=r"no home directory, where ~/.cache/.*/data would be: set HOME or PROBEBENCH"):
        _files.own_folder("PROBEBENCH_DATA", "data")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_known_before(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: open("/dev/full", "wb"))  # noqa: SIM115
    with pytest.raises(StoreError, match=r"--probe-json: .* cannot be written to \(No space left on device\)"):
        _files.check_writable(tmp_path / "r.json", "--probe-json")
