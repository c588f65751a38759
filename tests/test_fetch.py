"""Downloads from a server that misbehaves, and archives that do."""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import io
import lzma
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from probebench.catalog import Archive, Catalog, DatasetSpec
from probebench.datasets import load
from probebench.datasets.disk import missing
from probebench.errors import FetchError
from probebench.fetch import Refused, Unreachable, download, fetch_archive, fetch_dataset, http, unpack
from probebench.fetch.archives import is_archive
from tests.datasets.ondisk import CIFAR10, batch, python2_pickle
from tests.server import Answer, Server

BODY = random.Random(0).randbytes(2_000_000)
MD5 = hashlib.md5(BODY).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with Server() as running:
        yield running


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Makes waiting between tries take no time; how long each would have been."""
    waited: list[float] = []
    monkeypatch.setattr(http, "sleep", waited.append)
    return waited


class Recorder:
    def __init__(self):
        self.started: list[tuple[str, int]] = []
        self.done = 0

    def start(self, what, total):
        self.started.append((what, total))
        self.done = 0

    def advance(self, count):
        self.done += count


def left(folder: Path) -> list[str]:
    """What lies in a folder, less the locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


# Downloads


def test_a_file_arrives_whole_with_progress(server, tmp_path):
    url, progress = server.add("a.bin", BODY), Recorder()
    download(url, tmp_path / "new" / "a.bin", md5=MD5, size=len(BODY), progress=progress)
    assert (tmp_path / "new" / "a.bin").read_bytes() == BODY
    assert left(tmp_path / "new") == ["a.bin"]
    assert progress.started == [("a.bin", len(BODY))]
    assert progress.done == len(BODY)


def test_a_file_that_is_there_is_not_fetched_but_checked(server, tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(BODY)
    download(server.add("a.bin", BODY), target, md5=MD5)
    assert server.requests == []
    with pytest.raises(FetchError, match=r"a\.bin is damaged or another file: its MD5 is .* delete it and fetch again"):
        download(server.add("a.bin", BODY), target, md5="0" * 32)
    assert target.exists()


def test_a_dropped_connection_is_taken_up_again(server, tmp_path, waits):
    server.answers = [Answer(cut=500_000), Answer(cut=700_000), Answer(status=503)]
    progress = Recorder()
    download(server.add("a.bin", BODY), tmp_path / "a.bin", md5=MD5, progress=progress)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert server.ranges == ["", "bytes=500000-", "bytes=1200000-", "bytes=1200000-"]
    assert progress.done == len(BODY)
    assert waits == [0.5, 0.5, 1.0]


def test_a_server_that_keeps_dropping_ends_in_an_error_and_a_part_that_is_continued(server, tmp_path, waits):
    url = server.add("a.bin", BODY)
    server.answers = [Answer(cut=500_000), *[Answer(cut=0)] * 3]
    with pytest.raises(FetchError, match=r"cut off after 500 kB of 2\.0 MB .*kept, and the next fetch goes on"):
        download(url, tmp_path / "a.bin", md5=MD5)
    assert left(tmp_path) == ["a.bin.part", "a.bin.part.json"]
    server.requests.clear()
    download(url, tmp_path / "a.bin", md5=MD5)
    assert server.ranges == ["bytes=500000-"]
    assert left(tmp_path) == ["a.bin"]


def test_tries_are_bounded_even_where_each_brings_something(server, tmp_path, waits):
    server.usual = Answer(cut=1000)
    with pytest.raises(FetchError, match="cut off after 20 kB"):
        download(server.add("a.bin", BODY), tmp_path / "a.bin")
    assert len(server.requests) == http.ALL_TRIES


def interrupted(server, tmp_path, **answer) -> str:
    """A part of 500,000 bytes is there; the address of the rest."""
    url = server.add("a.bin", BODY)
    server.answers = [Answer(cut=500_000, **answer), *[Answer(status=404)]]
    with pytest.raises(Refused):
        download(url, tmp_path / "a.bin")
    server.requests.clear()
    return url


@pytest.mark.parametrize("if_range", [True, False], ids=["heeds-if-range", "ignores-if-range"])
def test_a_file_that_has_changed_is_not_spliced(server, tmp_path, waits, if_range):
    url = interrupted(server, tmp_path)
    other = random.Random(1).randbytes(len(BODY))
    server.add("a.bin", other)
    server.usual = Answer(if_range=if_range)
    download(url, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == other
    assert server.ranges == ["bytes=500000-"] + ([] if if_range else [""])


def test_a_server_that_ignores_ranges_sends_all_again(server, tmp_path, waits):
    url = interrupted(server, tmp_path)
    server.usual = Answer(ranges=False)
    download(url, tmp_path / "a.bin", md5=MD5)
    assert (tmp_path / "a.bin").read_bytes() == BODY


def test_a_part_longer_than_the_file_is_fetched_anew(server, tmp_path, waits):
    url = interrupted(server, tmp_path, etag='"same"')
    server.add("a.bin", BODY[:400_000])
    server.usual = Answer(etag='"same"')
    download(url, tmp_path / "a.bin")
    assert server.ranges == ["bytes=500000-", ""]
    assert (tmp_path / "a.bin").read_bytes() == BODY[:400_000]


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_validator_nothing_is_continued(server, tmp_path, waits, etag):
    url = interrupted(server, tmp_path, etag=etag)
    download(url, tmp_path / "a.bin", md5=MD5)
    assert server.ranges == [""]


def test_the_date_of_the_last_change_is_a_validator(server, tmp_path, waits):
    url = interrupted(server, tmp_path, etag="", headers={"Last-Modified": "Mon, 02 Jan 2006 15:04:05 GMT"})
    server.usual = Answer(if_range=False, etag="", headers={"Last-Modified": "Mon, 02 Jan 2006 15:04:05 GMT"})
    download(url, tmp_path / "a.bin", md5=MD5)
    assert server.ranges == ["bytes=500000-"]


def test_the_part_of_another_address_is_not_continued(server, tmp_path, waits):
    interrupted(server, tmp_path)
    download(server.add("b.bin", BODY), tmp_path / "a.bin", md5=MD5)
    assert server.ranges == [""]


def test_a_part_that_was_whole_is_only_checked(server, tmp_path, monkeypatch):
    url = server.add("a.bin", BODY)
    with monkeypatch.context() as patch:
        patch.setattr(http, "md5_of", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            download(url, tmp_path / "a.bin", md5=MD5)
    assert left(tmp_path) == ["a.bin.part", "a.bin.part.json"]
    download(url, tmp_path / "a.bin", md5=MD5)
    assert len(server.requests) == 1
    assert left(tmp_path) == ["a.bin"]


def test_another_checksum_deletes_the_file(server, tmp_path):
    with pytest.raises(FetchError, match=rf"arrived with the MD5 {MD5}, the published one is 0{{32}}; the file is del"):
        download(server.add("a.bin", BODY), tmp_path / "a.bin", md5="0" * 32)
    assert left(tmp_path) == []


@pytest.mark.parametrize("length", [True, False])
def test_a_page_instead_of_an_archive_is_refused_by_its_size(server, tmp_path, length):
    server.usual = Answer(length=length)
    with pytest.raises(FetchError, match=r"has 21 B, and 2\.0 MB are published: this is another file, or a page"):
        download(server.add("a.bin", b"<html>Please log in.."), tmp_path / "a.bin", size=2_000_000)
    assert left(tmp_path) == []


def test_a_published_size_may_be_rounded(server, tmp_path):
    download(server.add("a.bin", BODY), tmp_path / "a.bin", size=2_030_000)
    assert (tmp_path / "a.bin").exists()


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (401, r"is not given to everyone \(HTTP 401 Unauthorized\): it may need an account"),
        (403, r"is not given to everyone \(HTTP 403 Forbidden\)"),
        (404, r"is not there \(HTTP 404 Not Found\): its publisher has moved or removed it"),
        (418, r"is answered with HTTP 418"),
    ],
)
def test_a_server_that_refuses_is_asked_once(server, tmp_path, status, text):
    server.usual = Answer(status=status)
    with pytest.raises(Refused, match=text):
        download(server.add("a.bin", BODY), tmp_path / "a.bin")
    assert len(server.requests) == 1
    assert left(tmp_path) == []


def test_too_many_requests_are_waited_for(server, tmp_path, waits):
    server.answers = [Answer(status=429, headers={"Retry-After": "7"}), Answer(status=429)]
    download(server.add("a.bin", BODY), tmp_path / "a.bin", md5=MD5)
    assert waits == [7.0, 2.0]


def test_a_wait_may_be_a_date(server, tmp_path, waits):
    server.answers = [Answer(status=503, headers={"Retry-After": "Mon, 02 Jan 2006 15:04:05 GMT"})]
    download(server.add("a.bin", BODY), tmp_path / "a.bin", md5=MD5)
    assert waits == [0.0]


@pytest.mark.parametrize(
    ("answer", "text", "requests"),
    [
        (Answer(429), r"127\.0\.0\.1 has had too many requests \(HTTP 429 .*again in some minutes; .*kept", 3),
        (Answer(429, {"Retry-After": "3600"}), r"too many requests .*: fetch again in 3600 s", 1),
        (Answer(500), r"the server is in trouble \(HTTP 500 .*\); fetch again later", 3),
    ],
)
def test_a_server_that_stays_busy_is_given_up(server, tmp_path, waits, answer, text, requests):
    server.usual = answer
    with pytest.raises(FetchError, match=text):
        download(server.add("a.bin", BODY), tmp_path / "a.bin")
    assert len(server.requests) == requests


def test_a_server_that_goes_silent_is_a_time_out(server, tmp_path, waits):
    server.usual = Answer(cut=0, stall=0.4)
    with pytest.raises(FetchError, match=r"time-out, nothing came for 0\.2 s; what has arrived is kept"):
        download(server.add("a.bin", BODY), tmp_path / "a.bin", timeout=0.2)
    assert len(server.requests) == 3


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), TimeoutError("timed out")])
def test_without_a_network_it_is_said_at_once(tmp_path, waits, monkeypatch, error):
    limits = []

    def connect(address, timeout=None, **kwargs):
        limits.append(timeout)
        raise error

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(Unreachable, match=r"cannot be reached \(.*there is no network here, or example\.org is"):
        download("http://example.org/a.bin", tmp_path / "a.bin")
    assert limits == [http.CONNECT]
    assert waits == []


def test_a_host_that_does_not_answer_is_said_at_once(tmp_path, waits):
    with Server() as gone:
        url = gone.url
    with pytest.raises(Unreachable, match="cannot be reached"):
        download(f"{url}/a.bin", tmp_path / "a.bin")
    assert waits == []


def test_a_network_that_goes_away_in_the_middle_is_waited_for(server, tmp_path, waits, monkeypatch):
    server.answers = [Answer(cut=500_000)]
    attempt = http._attempt

    def once(*args):
        monkeypatch.setattr(http, "_attempt", gone)
        attempt(*args)

    def gone(*args):
        raise Unreachable("cannot be reached")

    monkeypatch.setattr(http, "_attempt", once)
    with pytest.raises(Unreachable):
        download(server.add("a.bin", BODY), tmp_path / "a.bin")
    assert waits == [0.5, 1.0, 2.0]


def test_an_address_that_is_none(tmp_path):
    with pytest.raises(FetchError, match=r"ftp://example\.org/a\.bin cannot be fetched"):
        download("ftp://example.org/a.bin", tmp_path / "a.bin")


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up(server, tmp_path, monkeypatch):
    url = server.add("a.bin", BODY)
    received = http._receive

    def receive(response, part, total, have, progress):
        part.path.write_bytes(BODY[:500_000])
        full()

    monkeypatch.setattr(http, "_receive", receive)
    with pytest.raises(FetchError, match=rf"the disk of {tmp_path} is full, 1\.5 MB more are needed; make room.*kept"):
        download(url, tmp_path / "a.bin", md5=MD5)
    monkeypatch.setattr(http, "_receive", received)
    download(url, tmp_path / "a.bin", md5=MD5)
    assert server.ranges == ["", "bytes=500000-"]


def test_a_disk_that_is_too_small_is_known_beforehand(server, tmp_path, monkeypatch):
    monkeypatch.setattr(http.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 0, 10**6))
    with pytest.raises(FetchError, match=rf"2\.0 MB are needed on the disk of {tmp_path}, and 1\.0 MB are free"):
        download(server.add("a.bin", BODY), tmp_path / "a.bin")
    assert left(tmp_path) == []


def read_only(*_, **__):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


@pytest.mark.parametrize("function", ["mkdir", "open"])
def test_a_folder_that_cannot_be_written_to(server, tmp_path, monkeypatch, function):
    url, system = server.add("a.bin", BODY), getattr(os, function)

    def refuse(path, *args, **kwargs):
        return read_only() if str(path).startswith(str(tmp_path)) else system(path, *args, **kwargs)

    monkeypatch.setattr(os, function, refuse)
    text = rf"{tmp_path}/new cannot be used \(Read-only file system\): make it writable, or name another folder"
    with pytest.raises(FetchError, match=text):
        download(url, tmp_path / "new" / "a.bin")
    assert server.requests == []


CHILD = """
import sys
from pathlib import Path, PurePosixPath
from probebench.fetch import download
download(sys.argv[1], Path(sys.argv[2]), md5=sys.argv[3])
"""


def child(*args) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", CHILD, *map(str, args)])


def test_a_process_that_is_killed_leaves_what_the_next_one_continues(server, tmp_path):
    url, target = server.add("a.bin", BODY), tmp_path / "a.bin"
    server.answers = [Answer(pause=0.1)]
    process = child(url, target, MD5)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if (part := tmp_path / "a.bin.part").exists() and part.stat().st_size > 100_000:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    download(url, target, md5=MD5)
    assert target.read_bytes() == BODY
    (asked,) = server.ranges[1:]
    assert int(asked.removeprefix("bytes=").rstrip("-")) > 100_000


def test_two_processes_fetch_once(server, tmp_path):
    url, target = server.add("a.bin", BODY), tmp_path / "a.bin"
    server.usual = Answer(pause=0.01)
    processes = [child(url, target, MD5) for _ in range(2)]
    assert [process.wait(30) for process in processes] == [0, 0]
    assert target.read_bytes() == BODY
    assert len(server.requests) == 1


# Unpacking

FILES = {"top/a.txt": b"a" * 5000, "top/deep/b.txt": b"b" * 70_000, "readme": b"r"}


def tar_of(files: dict[str, bytes], *members: tarfile.TarInfo, compress=bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for member in members:
            tar.addfile(member)
    return compress(out.getvalue())


def zip_of(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            zipped.writestr(info, target)
    return out.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


KINDS = {
    "a.tar": tar_of(FILES),
    "a.tar.gz": tar_of(FILES, compress=gzip.compress),
    "a.tgz": tar_of(FILES, compress=gzip.compress),
    "a.tar.bz2": tar_of(FILES, compress=bz2.compress),
    "a.tar.xz": tar_of(FILES, compress=lzma.compress),
    "a.zip": zip_of(FILES),
}


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def packed(tmp_path: Path, name: str, content: bytes) -> Path:
    archive = tmp_path / name
    archive.write_bytes(content)
    return archive


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
    with pytest.raises(FetchError, match=rf"{name} is cut off or damaged"):
        unpack(archive, tmp_path / "out", tmp_path / "out" / "top")
    assert left(tmp_path / "out") == []


def test_a_tar_that_ends_between_two_members_is_cut_off(tmp_path):
    content = KINDS["a.tar"]
    for end in (tarfile.BLOCKSIZE * 11, tarfile.BLOCKSIZE * 11 + 100):
        archive = packed(tmp_path, "a.tar", content[:end])
        with pytest.raises(FetchError, match=r"a\.tar is cut off or damaged"):
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
    with pytest.raises(FetchError, match=r"a\.txt is no archive .*\.tar\.xz, \.zip"):
        unpack(archive, tmp_path / "out", tmp_path / "out" / "top")
    archive = packed(tmp_path, "a.zip", b"<html>")
    with pytest.raises(FetchError, match=r"a\.zip is cut off or damaged"):
        unpack(archive, tmp_path / "out", tmp_path / "out" / "top")


TOP = {"top/first": b"1"}
UNSAFE = {
    "parent": (tar_of(TOP | {"../evil": b"x"}), "lies outside"),
    "inner-parent": (tar_of(TOP | {"top/../../evil": b"x"}), "lies outside"),
    "absolute": (tar_of(TOP | {"/tmp/evil": b"x"}), "lies outside"),
    "drive": (tar_of(TOP | {"C:/evil": b"x"}), "lies outside"),
    "backslash": (tar_of(TOP | {"top\\..\\..\\evil": b"x"}), "lies outside"),
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
    with pytest.raises(FetchError, match=rf"a\.tar is not safe: .*{text}.*nothing of it is unpacked"):
        unpack(packed(tmp_path, "a.tar", content), folder, folder / "top")
    assert left(folder) == []
    assert not list(tmp_path.rglob("evil"))
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (zip_of(TOP | {"../evil": b"x"}), "lies outside"),
        (zip_of(TOP | {"/tmp/evil": b"x"}), "lies outside"),
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
    with pytest.raises(FetchError, match="'link/file' lies behind a link"):
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
    with pytest.raises(FetchError, match=rf"{name} should make top/other, and holds readme, top"):
        unpack(packed(tmp_path, name, KINDS[name]), tmp_path / "out", tmp_path / "out" / "top" / "other")
    assert left(tmp_path / "out") == []


def test_what_it_makes_must_be_in_its_folder(tmp_path):
    with pytest.raises(FetchError, match=r"is unpacked into .*/out, and cannot make .*/other: correct folder or makes"):
        unpack(packed(tmp_path, "a.tar", KINDS["a.tar"]), tmp_path / "out", tmp_path / "other")


def test_archives_unpack_into_the_same_folder(tmp_path):
    out = tmp_path / "out"
    unpack(packed(tmp_path, "a.tar", tar_of({"set/images/1": b"1", "set/list": b"old"})), out, out / "set" / "images")
    unpack(packed(tmp_path, "b.zip", zip_of({"set/labels/1": b"l", "set/list": b"new"})), out, out / "set" / "labels")
    assert tree(out) == {"set/images/1": b"1", "set/labels/1": b"l", "set/list": b"new"}


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
    with pytest.raises(FetchError, match=r"readme is a folder, and should be replaced .* move it away"):
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


# Archives of datasets


def archive_of(server, content=KINDS["a.tar.gz"], name="a.tar.gz", **more) -> Archive:
    given = {"md5": hashlib.md5(content).hexdigest(), "size": len(content), "folder": "set", "makes": "set/top"}
    return Archive(server.add(name, content), **given | more)


def test_an_archive_is_fetched_unpacked_and_removed(server, tmp_path):
    fetch_archive(archive_of(server), tmp_path)
    assert left(tmp_path / "set") == [".downloads", "readme", "top"]
    assert left(tmp_path / "set" / ".downloads") == []
    fetch_archive(archive_of(server), tmp_path)
    assert len(server.requests) == 1


def test_an_archive_may_be_kept(server, tmp_path):
    fetch_archive(archive_of(server), tmp_path, keep=True)
    assert left(tmp_path / "set") == [".downloads", "a.tar.gz", "readme", "top"]


def test_a_plain_file_makes_itself(server, tmp_path):
    archive = archive_of(server, b"labels", "labels.mat", makes="")
    fetch_archive(archive, tmp_path)
    assert (tmp_path / "set" / "labels.mat").read_bytes() == b"labels"
    assert left(tmp_path / "set" / ".downloads") == []


def test_an_archive_put_by_hand_is_used_and_left(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    archive = archive_of(server, manual="needs an account")
    (tmp_path / "set").mkdir()
    place = tmp_path / "set" / "a.tar.gz"
    place.write_bytes(b"not it")
    with pytest.raises(FetchError, match=rf"{place} is damaged or another file"):
        fetch_archive(archive, tmp_path)
    assert place.exists()
    place.write_bytes(KINDS["a.tar.gz"])
    fetch_archive(archive, tmp_path)
    assert place.exists()
    assert (tmp_path / "set" / "top").is_dir()
    assert server.requests == []


def test_an_archive_that_only_a_person_can_get(server, tmp_path):
    other = archive_of(server, b"labels", "labels.mat", makes="")
    spec = DatasetSpec("d", "m:f", archives=(archive_of(server, manual="needs an account"), other))
    with pytest.raises(FetchError) as caught:
        fetch_dataset(spec, tmp_path)
    assert str(caught.value) == (
        f"dataset 'd' could not be fetched: {server.url}/a.tar.gz cannot be fetched by a program: needs an account. "
        f"Get it by hand, put it at {tmp_path}/set/a.tar.gz and fetch again, or unpack it so that "
        f"{tmp_path}/set/top is there."
    )
    assert missing(spec, tmp_path) == [spec.archives[0]]  # the other one was fetched all the same


def test_a_refusal_says_what_to_do_by_hand(server, tmp_path):
    server.usual = Answer(404)
    text = rf"is not there .*\. Get it by hand, put it at {tmp_path}/set/a\.tar\.gz and fetch again"
    with pytest.raises(FetchError, match=text):
        fetch_archive(archive_of(server), tmp_path)
    with pytest.raises(FetchError, match=rf"is not there .*\. Get it by hand and put it at {tmp_path}/set/list\.txt$"):
        fetch_archive(archive_of(server, b"", "list.txt", makes=""), tmp_path)
    with pytest.raises(FetchError, match=rf"is not there .*\. Get it by hand, so that {tmp_path}/set/top is there$"):
        fetch_archive(archive_of(server, b"", "data"), tmp_path)


def test_an_archive_put_by_hand_that_must_be_unpacked_by_hand(server, tmp_path):
    archive = archive_of(server, makes="set/other", manual="is an archive in an archive")
    (tmp_path / "set").mkdir()
    place = tmp_path / "set" / "a.tar.gz"
    place.write_bytes(KINDS["a.tar.gz"])
    text = (
        r"should make other, and holds readme, top \(is an archive in an archive\); unpack it by hand, so that .*/other"
    )
    with pytest.raises(FetchError, match=text):
        fetch_archive(archive, tmp_path)
    assert place.exists()


@pytest.mark.parametrize("how", ["variable", "parameter"])
def test_offline_is_refused_without_the_network(server, tmp_path, monkeypatch, how):
    if how == "variable":
        monkeypatch.setenv("HF_HUB_OFFLINE", "true")
    with pytest.raises(FetchError, match="is not on this machine, and the network is not to be used"):
        fetch_archive(archive_of(server), tmp_path, no_network=True if how == "parameter" else None)
    assert server.requests == []
    assert left(tmp_path) == []


def test_without_a_network_one_archive_is_tried(server, tmp_path, monkeypatch):
    tried = []

    def unreachable(url, *args, **kwargs):
        tried.append(url)
        raise Unreachable(f"{url} cannot be reached")

    monkeypatch.setattr("probebench.fetch.transfer", unreachable)
    archives = archive_of(server), archive_of(server, b"labels", "labels.mat", makes="")
    with pytest.raises(FetchError, match="cannot be reached"):
        fetch_dataset(DatasetSpec("d", "m:f", archives=archives), tmp_path)
    assert len(tried) == 1


def test_a_damaged_archive_without_a_checksum_is_fetched_again(server, tmp_path):
    content = KINDS["a.tar.gz"]
    archive = archive_of(server, content[:200], md5="", size=0)
    with pytest.raises(FetchError, match=r"is cut off or damaged .*; it is deleted, fetch it again"):
        fetch_archive(archive, tmp_path)
    assert left(tmp_path / "set") == [".downloads"]
    assert left(tmp_path / "set" / ".downloads") == []
    server.add("a.tar.gz", content)
    fetch_archive(archive, tmp_path)
    assert (tmp_path / "set" / "top").is_dir()


def test_there_must_be_room_for_the_archive_and_what_is_in_it(server, tmp_path, monkeypatch):
    size = len(KINDS["a.tar.gz"])
    monkeypatch.setattr(http.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(size, 0, 2 * size - 1))
    with pytest.raises(FetchError, match="are needed on the disk of"):
        fetch_archive(archive_of(server), tmp_path)
    assert server.requests == []


def test_unpacking_that_is_interrupted_is_not_taken_for_whole(server, tmp_path, monkeypatch):
    archive, count = archive_of(server), 0

    def interrupt(source, target, *args, **kwargs):
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        target.write(source.read())

    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "copyfileobj", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch_archive(archive, tmp_path)
    assert missing(DatasetSpec("d", "m:f", archives=(archive,)), tmp_path)
    assert left(tmp_path / "set") == [".downloads"]
    fetch_archive(archive, tmp_path)
    assert tree(tmp_path / "set" / "top") == {"a.txt": FILES["top/a.txt"], "deep/b.txt": FILES["top/deep/b.txt"]}
    assert len(server.requests) == 1  # what had arrived was unpacked


def test_every_catalogued_archive_can_be_unpacked_into_its_folder():
    for spec in Catalog.default().datasets.values():
        for archive in spec.archives:
            if archive.makes:
                assert PurePosixPath(archive.makes).is_relative_to(archive.folder), archive
                assert archive.manual or is_archive(Path(archive.filename)), archive


def cifar10_archive(folder: Path) -> bytes:
    for i in range(1, 6):
        python2_pickle(folder / f"data_batch_{i}", batch(range(10), "labels", seed=i))
    python2_pickle(folder / "test_batch", batch(list(range(10)) * 2, "labels", seed=9))
    python2_pickle(folder / "batches.meta", {"num_cases_per_batch": 10, "label_names": CIFAR10, "num_vis": 3072})
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        tar.add(folder, "cifar-10-batches-py")
    return out.getvalue()


def test_a_fetched_cifar10_is_read(server, tmp_path, monkeypatch, waits):
    root = tmp_path / "data"
    monkeypatch.setenv("PROBEBENCH_DATA", str(root))
    content = cifar10_archive(tmp_path / "source")
    archive = archive_of(server, content, "cifar-10-python.tar.gz", folder="", makes="cifar-10-batches-py")
    spec = DatasetSpec("cifar10", "probebench.datasets.cifar:cifar10", archives=(archive,))
    server.answers = [Answer(cut=len(content) // 2)]
    fetch_dataset(spec, root)
    dataset = load(spec)
    assert (len(dataset.train), len(dataset.test)) == (50, 20)
    assert list(dataset.classes) == CIFAR10


FETCH = """
import sys
from pathlib import Path, PurePosixPath
from probebench.catalog import Archive
from probebench.fetch import fetch_archive
fetch_archive(Archive(sys.argv[1], md5=sys.argv[2], folder="set", makes="set/top"), Path(sys.argv[3]))
"""


def test_two_processes_fetch_and_unpack_once(server, tmp_path):
    archive = archive_of(server)
    server.usual = Answer(pause=0.01)
    command = [sys.executable, "-c", FETCH, archive.url, archive.md5, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(30) for process in processes] == [0, 0]
    assert len(server.requests) == 1
    assert left(tmp_path / "set" / ".downloads") == []
