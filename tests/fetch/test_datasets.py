"""From the archives of a dataset to what its reader reads."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

import pytest

from probebench.catalog import Archive, Catalog, DatasetSpec
from probebench.datasets import load
from probebench.errors import FetchError
from probebench.fetch import Unreachable, fetch_archive, fetch_dataset, http
from probebench.fetch.archives import is_archive
from probebench.fetch.local import missing
from tests.datasets.ondisk import CIFAR10, batch, python2_pickle
from tests.fetch.helpers import FILES, KINDS, left, tree
from tests.server import Answer


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
    with pytest.raises(FetchError, match=rf"{place} is damaged or a different file"):
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
        f"dataset 'd' could not be fetched: {server.url}/a.tar.gz cannot be downloaded automatically: needs an "
        f"account. Download it by hand, save it as {tmp_path}/set/a.tar.gz and fetch again, or unpack it yourself to "
        f"create {tmp_path}/set/top."
    )
    assert missing(spec, tmp_path) == [spec.archives[0]]  # the other one was fetched all the same


def test_a_refusal_says_what_to_do_by_hand(server, tmp_path):
    server.usual = Answer(404)
    text = rf"not found .*\. Download it by hand, save it as {tmp_path}/set/a\.tar\.gz and fetch again"
    with pytest.raises(FetchError, match=text):
        fetch_archive(archive_of(server), tmp_path)
    with pytest.raises(FetchError, match=rf"not found .* by hand and save it as {tmp_path}/set/list\.txt$"):
        fetch_archive(archive_of(server, b"", "list.txt", makes=""), tmp_path)
    with pytest.raises(FetchError, match=rf"not found .*\. Download it by hand and create {tmp_path}/set/top from it$"):
        fetch_archive(archive_of(server, b"", "data"), tmp_path)


def test_an_archive_put_by_hand_that_must_be_unpacked_by_hand(server, tmp_path):
    archive = archive_of(server, makes="set/other", manual="is an archive in an archive")
    (tmp_path / "set").mkdir()
    place = tmp_path / "set" / "a.tar.gz"
    place.write_bytes(KINDS["a.tar.gz"])
    text = r"should contain other, but contains readme, top \(is an archive in an archive\); unpack it by hand .*/other"
    with pytest.raises(FetchError, match=text):
        fetch_archive(archive, tmp_path)
    assert place.exists()


@pytest.mark.parametrize("how", ["variable", "parameter"])
def test_offline_is_refused_without_the_network(server, tmp_path, monkeypatch, how):
    if how == "variable":
        monkeypatch.setenv("HF_HUB_OFFLINE", "true")
    with pytest.raises(FetchError, match="is not on this machine, and downloads are disabled"):
        fetch_archive(archive_of(server), tmp_path, no_network=True if how == "parameter" else None)
    assert server.requests == []
    assert left(tmp_path) == []


def test_without_a_network_one_archive_is_tried(server, tmp_path, monkeypatch):
    tried = []

    def unreachable(url, *args, **kwargs):
        tried.append(url)
        raise Unreachable(f"{url} cannot be reached")

    monkeypatch.setattr("probebench.fetch.datasets.transfer", unreachable)
    archives = archive_of(server), archive_of(server, b"labels", "labels.mat", makes="")
    with pytest.raises(FetchError, match="cannot be reached"):
        fetch_dataset(DatasetSpec("d", "m:f", archives=archives), tmp_path)
    assert len(tried) == 1


def test_a_damaged_archive_without_a_checksum_is_fetched_again(server, tmp_path):
    content = KINDS["a.tar.gz"]
    archive = archive_of(server, content[:200], md5="", size=0)
    with pytest.raises(FetchError, match=r"is truncated or damaged .*; it was deleted, fetch it again"):
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
    assert [process.wait(60) for process in processes] == [0, 0]
    assert len(server.requests) == 1
    assert left(tmp_path / "set" / ".downloads") == []
