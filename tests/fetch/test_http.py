"""Downloads from a server that misbehaves."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from probebench.errors import FetchError
from probebench.fetch import Refused, Unreachable, download, http
from tests.fetch.helpers import Recorder, full, left
from tests.server import Answer

BODY = random.Random(0).randbytes(2_000_000)
MD5 = hashlib.md5(BODY).hexdigest()


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
    with pytest.raises(FetchError, match=r"a\.bin is damaged or a different file: its MD5 is .* delete it and fetch"):
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
    with pytest.raises(FetchError, match=r"connection lost after 500 kB of 2\.0 MB .*; the next fetch resumes"):
        download(url, tmp_path / "a.bin", md5=MD5)
    assert left(tmp_path) == ["a.bin.part", "a.bin.part.json"]
    server.requests.clear()
    download(url, tmp_path / "a.bin", md5=MD5)
    assert server.ranges == ["bytes=500000-"]
    assert left(tmp_path) == ["a.bin"]


def test_tries_are_bounded_even_where_each_brings_something(server, tmp_path, waits):
    server.usual = Answer(cut=1000)
    with pytest.raises(FetchError, match="connection lost after 20 kB"):
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
    with pytest.raises(
        FetchError,
        match=rf"file is {MD5}, but the published one is 0{{32}}; the file was deleted",
    ):
        download(server.add("a.bin", BODY), tmp_path / "a.bin", md5="0" * 32)
    assert left(tmp_path) == []


@pytest.mark.parametrize("length", [True, False])
def test_a_page_instead_of_an_archive_is_refused_by_its_size(server, tmp_path, length):
    server.usual = Answer(length=length)
    with pytest.raises(FetchError, match=r"has 21 B, but the published size is 2\.0 MB: this is a different file"):
        download(server.add("a.bin", b"<html>Please log in.."), tmp_path / "a.bin", size=2_000_000)
    assert left(tmp_path) == []


def test_a_published_size_may_be_rounded(server, tmp_path):
    download(server.add("a.bin", BODY), tmp_path / "a.bin", size=2_030_000)
    assert (tmp_path / "a.bin").exists()


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (401, r": access denied \(HTTP 401 Unauthorized\): it may need an account"),
        (403, r": access denied \(HTTP 403 Forbidden\)"),
        (404, r"not found \(HTTP 404 Not Found\): the publisher has moved or removed it"),
        (418, r"unexpected response HTTP 418"),
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
        (Answer(429), r"127\.0\.0\.1: too many requests \(HTTP 429 .*again in a few minutes; .*resumes", 3),
        (Answer(429, {"Retry-After": "3600"}), r"too many requests .*; fetch again in 3600 s", 1),
        (Answer(500), r"server error \(HTTP 500 .*\); fetch again later", 3),
    ],
)
def test_a_server_that_stays_busy_is_given_up(server, tmp_path, waits, answer, text, requests):
    server.usual = answer
    with pytest.raises(FetchError, match=text):
        download(server.add("a.bin", BODY), tmp_path / "a.bin")
    assert len(server.requests) == requests


def test_a_server_that_goes_silent_is_a_time_out(server, tmp_path, waits):
    server.usual = Answer(cut=0, stall=0.4)
    with pytest.raises(FetchError, match=r"timeout, no data for 0\.2 s; the next fetch resumes"):
        download(server.add("a.bin", BODY), tmp_path / "a.bin", timeout=0.2)
    assert waits == [1.0, 2.0]  # between three requests, of which the server may still be at noting the last


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), TimeoutError("timed out")])
def test_without_a_network_it_is_said_at_once(tmp_path, waits, monkeypatch, error):
    limits = []

    def connect(address, timeout=None, **kwargs):
        limits.append(timeout)
        raise error

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(Unreachable, match=r"cannot be reached \(.*this machine has no network, or example\.org is"):
        download("http://example.org/a.bin", tmp_path / "a.bin")
    assert limits == [http.CONNECT]
    assert waits == []


def test_a_host_that_does_not_answer_is_said_at_once(tmp_path, waits):
    with socket.socket() as taken:  # by nobody who listens
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable, match="cannot be reached"):
            download(f"http://127.0.0.1:{taken.getsockname()[1]}/a.bin", tmp_path / "a.bin")
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


def test_a_disk_that_fills_up(server, tmp_path, monkeypatch):
    url = server.add("a.bin", BODY)
    received = http._receive

    def receive(response, part, total, have, progress):
        part.path.write_bytes(BODY[:500_000])
        full()

    monkeypatch.setattr(http, "_receive", receive)
    with pytest.raises(
        FetchError, match=rf"the disk of {tmp_path} is full, 1\.5 MB more are needed; free some.*resumes"
    ):
        download(url, tmp_path / "a.bin", md5=MD5)
    monkeypatch.setattr(http, "_receive", received)
    download(url, tmp_path / "a.bin", md5=MD5)
    assert server.ranges == ["", "bytes=500000-"]


def test_a_disk_that_is_too_small_is_known_beforehand(server, tmp_path, monkeypatch):
    monkeypatch.setattr(http.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 0, 10**6))
    with pytest.raises(FetchError, match=rf"2\.0 MB are needed on the disk of {tmp_path}, but only 1\.0 MB are free"):
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
    text = rf"{tmp_path}/new cannot be used \(Read-only file system\): make it writable, or set PROBEBENCH_DATA"
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
    server.answers = [Answer(cut=500_000, stall=60)]
    process = child(url, target, MD5)
    deadline = time.monotonic() + 60
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
    assert [process.wait(60) for process in processes] == [0, 0]
    assert target.read_bytes() == BODY
    assert len(server.requests) == 1
