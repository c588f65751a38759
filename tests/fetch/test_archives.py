"""Archives of every kind: whole, cut off, garbled and hostile."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from probebench.errors import FetchError
from probebench.fetch import unpack
from tests.fetch.helpers import FILES, KINDS, Recorder, full, left, packed, special, tar_of, tree, zip_of


@pytest.mark.parametrize("name", KINDS)
def test_archives_are_unpacked_with_progress(tmp_path, name):
    archive, progress = packed(tmp_path, name, KINDS[name]), Recorder()
    unpack(archive, tmp_path / "out", tmp_path / "out" / "top" / "deep", progress)
    assert tree(tmp_path / "out") == FILES
    assert progress.started == [(f"unpack {name}", len(KINDS[name]))]
    assert 0 < progress.done <= len(KINDS[name])
    assert left(tmp_path / "out") == ["readme", "top"]


def test_a_single_compressed_file(tmp_path):
    archive = packed(tmp_path, "labels-idx1-ubyte.gz", gzip.compress(b"labels"))
    unpack(archive, tmp_path / "out", tmp_path / "out" / "labels-idx1-ubyte")
    assert tree(tmp_path / "out") == {"labels-idx1-ubyte": b"labels"}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("part", [0.0, 0.02, 0.3, 0.85])
def test_an_archive_that_is_cut_off_leaves_nothing(tmp_path, name, part):
    content = KINDS[name]
    archive = packed(tmp_path, name, content[: int(part * len(content))])
    with pytest.raises(FetchError, match=rf"{name} is truncated or damaged"):
        unpack(archive, tmp_path / "out", tmp_path / "out" / "top")
    assert left(tmp_path / "out") == []


def test_a_tar_that_ends_between_two_members_is_cut_off(tmp_path):
    content = KINDS["a.tar"]
    for end in (tarfile.BLOCKSIZE * 11, tarfile.BLOCKSIZE * 11 + 100):
        archive = packed(tmp_path, "a.tar", content[:end])
        with pytest.raises(FetchError, match=r"a\.tar is truncated or damaged"):
            unpack(archive, tmp_path / "out", tmp_path / "out" / "top")


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip", "a.tar.bz2", "a.tar.xz"])
def test_a_flipped_bit_is_found(tmp_path, name):
    content = bytearray(KINDS[name])
    content[60] ^= 4
    archive = packed(tmp_path, name, bytes(content))
    with pytest.raises(FetchError):
        unpack(archive, tmp_path / "out", tmp_path / "out" / "top")
    assert left(tmp_path / "out") == []


def test_what_is_no_archive(tmp_path):
    archive = packed(tmp_path, "a.txt", b"text")
    with pytest.raises(FetchError, match=r"a\.txt cannot be unpacked: .*\.tar\.xz, \.zip"):
        unpack(archive, tmp_path / "out", tmp_path / "out" / "top")
    archive = packed(tmp_path, "a.zip", b"<html>")
    with pytest.raises(FetchError, match=r"a\.zip is truncated or damaged"):
        unpack(archive, tmp_path / "out", tmp_path / "out" / "top")


TOP = {"top/first": b"1"}
UNSAFE = {
    "parent": (tar_of(TOP | {"../evil": b"x"}), "is outside"),
    "inner-parent": (tar_of(TOP | {"top/../../evil": b"x"}), "is outside"),
    "absolute": (tar_of(TOP | {"/tmp/evil": b"x"}), "is outside"),
    "drive": (tar_of(TOP | {"C:/evil": b"x"}), "is outside"),
    "backslash": (tar_of(TOP | {"top\\..\\..\\evil": b"x"}), "is outside"),
    "link-out": (tar_of(TOP, special("link", tarfile.SYMTYPE, "../out")), "leaves the folder"),
    "link-absolute": (tar_of(TOP, special("link", tarfile.SYMTYPE, "/etc")), "leaves the folder"),
    "link-detour": (tar_of(TOP, special("link", tarfile.SYMTYPE, "top/../..")), "leaves the folder"),
    "hard-link-out": (tar_of(TOP, special("link", tarfile.LNKTYPE, "../out")), "leaves the folder"),
    "device": (tar_of(TOP, special("null", tarfile.CHRTYPE)), "is a device or a pipe"),
    "pipe": (tar_of(TOP, special("pipe", tarfile.FIFOTYPE)), "is a device or a pipe"),
}


@pytest.mark.parametrize("case", UNSAFE)
def test_unsafe_tars_are_refused(tmp_path, case):
    content, text = UNSAFE[case]
    folder = tmp_path / "deep" / "out"
    with pytest.raises(FetchError, match=rf"a\.tar is not safe: .*{text}.*nothing was unpacked"):
        unpack(packed(tmp_path, "a.tar", content), folder, folder / "top")
    assert left(folder) == []
    assert not list(tmp_path.rglob("evil"))
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (zip_of(TOP | {"../evil": b"x"}), "is outside"),
        (zip_of(TOP | {"/tmp/evil": b"x"}), "is outside"),
        (zip_of(TOP, {"link": "../.."}), "leaves the folder"),
        (zip_of(TOP, {"link": "/etc"}), "leaves the folder"),
    ],
)
def test_unsafe_zips_are_refused(tmp_path, content, text):
    folder = tmp_path / "deep" / "out"
    with pytest.raises(FetchError, match=rf"a\.zip is not safe: .*{text}"):
        unpack(packed(tmp_path, "a.zip", content), folder, folder / "top")
    assert left(folder) == []
    assert not list(tmp_path.rglob("evil"))


def test_nothing_is_written_through_a_link(tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("top/first"))
        tar.addfile(special("link", tarfile.SYMTYPE, "top"))
        tar.addfile(tarfile.TarInfo("link/file"))
    with pytest.raises(FetchError, match="'link/file' is behind a link"):
        unpack(packed(tmp_path, "a.tar", out.getvalue()), tmp_path / "out", tmp_path / "out" / "top")


@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
def test_links_inside_are_kept(tmp_path, name):
    members = special("top/deep/link", tarfile.SYMTYPE, "../a.txt"), special("top/hard", tarfile.LNKTYPE, "top/a.txt")
    content = tar_of(FILES, *members) if name == "a.tar" else zip_of(FILES, {"top/deep/link": "../a.txt"})
    unpack(packed(tmp_path, name, content), tmp_path / "out", tmp_path / "out" / "top")
    assert (tmp_path / "out" / "top" / "deep" / "link").is_symlink()
    assert (tmp_path / "out" / "top" / "deep" / "link").read_bytes() == FILES["top/a.txt"]


@pytest.mark.parametrize("name", ["a.tar", "a.zip", "a.tar.gz"])
def test_an_archive_without_what_it_should_make(tmp_path, monkeypatch, name):
    if name != "a.tar.gz":  # whose names are not quickly read
        monkeypatch.setattr(shutil, "copyfileobj", lambda *_: pytest.fail("something was unpacked"))
        monkeypatch.setattr(tarfile, "copyfileobj", lambda *_: pytest.fail("something was unpacked"))
    with pytest.raises(FetchError, match=rf"{name} should contain top/other, but contains readme, top"):
        unpack(packed(tmp_path, name, KINDS[name]), tmp_path / "out", tmp_path / "out" / "top" / "other")
    assert left(tmp_path / "out") == []


def test_what_it_makes_must_be_in_its_folder(tmp_path):
    with pytest.raises(
        FetchError, match=r"unpacked into .*/out and cannot create .*/other: correct `folder` or `makes`"
    ):
        unpack(packed(tmp_path, "a.tar", KINDS["a.tar"]), tmp_path / "out", tmp_path / "other")


def test_archives_unpack_into_the_same_folder(tmp_path):
    out = tmp_path / "out"
    unpack(packed(tmp_path, "a.tar", tar_of({"set/images/1": b"1", "set/list": b"old"})), out, out / "set" / "images")
    unpack(packed(tmp_path, "b.zip", zip_of({"set/labels/1": b"l", "set/list": b"new"})), out, out / "set" / "labels")
    assert tree(out) == {"set/images/1": b"1", "set/labels/1": b"l", "set/list": b"new"}


def test_a_folder_that_another_process_has_just_made_is_merged_with(tmp_path, monkeypatch):
    replace, top = os.replace, tmp_path / "out" / "top"

    def slow(source, target):
        if target == top and not top.exists():
            top.mkdir()
            (top / "of_another_archive").write_bytes(b"o")
        replace(source, target)

    monkeypatch.setattr(os, "replace", slow)
    unpack(packed(tmp_path, "a.tar", KINDS["a.tar"]), tmp_path / "out", top / "deep")
    assert tree(tmp_path / "out") == FILES | {"top/of_another_archive": b"o"}


def test_what_it_makes_is_moved_last(tmp_path, monkeypatch):
    moved, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (moved.append(Path(b).name), replace(a, b)))
    (tmp_path / "out" / "set").mkdir(parents=True)
    content = tar_of({"set/b/1": b"1", "set/a/1": b"1", "set/c": b"", "z": b""})
    unpack(packed(tmp_path, "a.tar", content), tmp_path / "out", tmp_path / "out" / "set" / "a")
    assert moved == ["z", "b", "c", "a"]


def test_a_folder_is_not_replaced_by_a_file_but_a_file_by_a_folder(tmp_path):
    out = tmp_path / "out"
    (out / "top").mkdir(parents=True)
    (out / "readme").mkdir()
    with pytest.raises(FetchError, match=r"readme is a folder, but the archive has a file of this name; move it away"):
        unpack(packed(tmp_path, "a.tar", KINDS["a.tar"]), out, out / "top" / "deep")
    (out / "readme").rmdir()
    (out / "top").rmdir()
    (out / "top").write_text("a file")
    unpack(packed(tmp_path, "a.tar", KINDS["a.tar"]), out, out / "top" / "deep")
    assert tree(out) == FILES


def test_a_folder_behind_a_link_is_left_alone(tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    out.mkdir()
    (out / "top").symlink_to(elsewhere)
    with pytest.raises(FetchError, match="top is a link to a folder"):
        unpack(packed(tmp_path, "a.tar", KINDS["a.tar"]), out, out / "top" / "deep")
    assert left(elsewhere) == []


def test_a_disk_that_fills_up_while_unpacking(tmp_path, monkeypatch):
    monkeypatch.setattr(tarfile, "copyfileobj", full)
    with pytest.raises(FetchError, match=rf"the disk of {tmp_path / 'out'} is full"):
        unpack(packed(tmp_path, "a.tar", KINDS["a.tar"]), tmp_path / "out", tmp_path / "out" / "top")
    assert left(tmp_path / "out") == []


def test_what_a_killed_process_left_is_cleared(tmp_path):
    stale = tmp_path / "out" / ".a.tar.unpacking" / "top" / "half"
    stale.mkdir(parents=True)
    unpack(packed(tmp_path, "a.tar", KINDS["a.tar"]), tmp_path / "out", tmp_path / "out" / "top")
    assert tree(tmp_path / "out") == FILES
    assert not stale.parents[1].exists()
