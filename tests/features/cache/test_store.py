from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from probebench.cli import main
from probebench.errors import StoreError
from probebench.features.cache import FeatureCache, cache_root
from probebench.features.cache import entry as entry_module
from probebench.features.cache.entry import Entry, Use
from probebench.features.cache.store import NoRoom
from tests.features.conftest import noise, same

IMAGES = 40


@pytest.fixture
def three(asked, cache):
    """A cache with three entries, the oldest first."""
    asked_for = [asked.but(split=noise(IMAGES, seed)) for seed in range(3)]
    names = []
    for age, each in zip((300, 200, 100), asked_for, strict=True):
        before = {entry.name for entry in cache.entries()}
        each(cache)
        (entry,) = (entry for entry in cache.entries() if entry.name not in before)
        then = time.time() - age
        os.utime(entry.folder / "manifest.json", (then, then))
        names.append(entry.name)
    return cache, asked_for, names


def held(cache):
    return sum(entry.size()[0] for entry in cache.entries())


def test_the_least_recently_used_give_way(three):
    cache, asked_for, names = three
    one = held(cache) // 3
    asked_for[0](FeatureCache(cache.root))  # now the last used
    FeatureCache(cache.root, held(cache)).make_room(one // 2)
    assert {entry.name for entry in cache.entries()} == {names[0], names[2]}
    FeatureCache(cache.root, 2 * one + 1000).make_room(one)
    assert {entry.name for entry in cache.entries()} == {names[0]}


def test_a_new_entry_stays_within_the_size(three, asked):
    cache, _, names = three
    bounded = FeatureCache(cache.root, held(cache) + 100)
    fourth = asked.but(split=noise(IMAGES, 9))
    assert same(fourth(bounded), fourth.plain())
    assert held(cache) <= bounded.size
    assert names[0] not in {entry.name for entry in cache.entries()}
    assert len(cache.entries()) == 3


def test_what_is_read_is_not_evicted(three):
    cache, asked_for, names = three
    kept = asked_for[0](FeatureCache(cache.root))
    then = time.time() - 1000
    os.utime(cache.root / names[0] / "manifest.json", (then, then))
    FeatureCache(cache.root, held(cache)).make_room(1)
    assert names[0] in {entry.name for entry in cache.entries()}
    assert same(kept, asked_for[0].plain())
    with pytest.raises(NoRoom):
        FeatureCache(cache.root, 1).make_room(1)
    del kept
    FeatureCache(cache.root, 1000).make_room(1)
    assert cache.entries() == []


def test_marks_of_the_dead_do_not_count(three):
    cache, _, names = three
    users = cache.root / names[0] / "users"
    code = (
        "import sys, os, signal; from pathlib import Path; from probebench.features.cache.entry import Entry; "
        "use = Entry(Path(sys.argv[1])).mark(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(cache.root / names[0])], check=False)
    assert len(list(users.iterdir())) == 1
    FeatureCache(cache.root, 1000).make_room(1)
    assert cache.entries() == []


def said_by_ls(cache, entry):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        main(["cache", "ls", "--root", str(cache.root), "--json"])
    return json.loads(out.getvalue())[0]["in_use"]


ASKING = {
    "in_use": lambda cache, entry: cache.in_use(entry),
    "read_by_others": lambda cache, entry: cache.read_by_others(entry, Use(FileLock("unused"), Path("unused"))),
    "make_room": lambda cache, entry: FeatureCache(cache.root, 1).make_room(0),
    "remove": lambda cache, entry: not cache.remove(entry),
    "verify": lambda cache, entry: cache.verify(entry) == [],
    "ls": said_by_ls,
}


@pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)
def test_who_asks_for_users_waits_for_a_mark_that_is_being_made(cache, monkeypatch, ask):
    """The file of a mark is there before it is locked, and looks until then as if left by the dead."""
    made, asked_meanwhile = threading.Event(), threading.Event()
    try_lock = entry_module._try_lock

    def slow(path):
        if not made.is_set() and path.parent.name == "users":
            path.touch()
            made.set()
            asked_meanwhile.wait(0.3)  # comes only of somebody who has not waited
        return try_lock(path)

    monkeypatch.setattr(entry_module, "_try_lock", slow)

    def asking():
        made.wait()
        try:
            return ask(cache, Entry(cache.root / "name"))
        finally:
            asked_meanwhile.set()

    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(asking)
        use = cache.use("name")
        if ask is ASKING["make_room"]:
            with pytest.raises(NoRoom):
                answer.result()
        else:
            assert answer.result()
    assert use.path.exists()


@pytest.mark.parametrize("cleaning", [FeatureCache.remove_if_empty, FeatureCache.repair])
def test_an_entry_that_is_filled_while_it_is_looked_at_stays(asked, cache, monkeypatch, cleaning):
    asked(cache)
    (entry,) = cache.entries()
    path, whole = entry.folder / "manifest.json", entry.manifest()
    empty = replace(whole, taps={}).to_bytes() if cleaning is FeatureCache.remove_if_empty else b"{"
    path.write_bytes(empty)
    filled = threading.Event()

    def fill():
        use = FeatureCache(cache.root).use(entry.name)
        entry.write_manifest(whole)
        use.release()
        filled.set()

    manifest = Entry.manifest
    with ThreadPoolExecutor(1) as threads:

        def slow(self):
            try:
                return manifest(self)
            finally:
                if not filled.is_set():
                    threads.submit(fill)
                    filled.wait(0.3)  # comes only of somebody who has not waited

        monkeypatch.setattr(Entry, "manifest", slow)
        cleaning(cache, entry.name if cleaning is FeatureCache.remove_if_empty else entry)
        monkeypatch.undo()
    assert entry.manifest() == whole


def test_the_same_room_is_not_taken_twice(three, asked, monkeypatch):
    cache, _, _ = three
    bounded = FeatureCache(cache.root, held(cache) + 100)
    make_room, others = FeatureCache.make_room, []

    def slow(self, *args):
        make_room(self, *args)
        if not others:
            others.append(asked.but(split=noise(3 * IMAGES, 8)))
            assert same(others[0](FeatureCache(cache.root, bounded.size)), others[0].plain())
            assert held(cache) <= bounded.size

    monkeypatch.setattr(FeatureCache, "make_room", slow)
    first = asked.but(split=noise(3 * IMAGES - 1, 9))
    kept = first(bounded)
    assert held(cache) <= bounded.size
    assert same(kept, first.plain())
    assert others


def test_half_of_the_disk_is_the_most(three, monkeypatch):
    cache, _, _ = three
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr("probebench.features.cache.store.shutil.disk_usage", lambda path: usage)
    with pytest.raises(NoRoom, match="half of what the disk has"):
        cache.make_room(10**9)


def test_what_was_moved_to_the_trash_by_the_dead_is_removed(three):
    cache, _, names = three
    (cache.root / names[1]).rename(cache.root / ".trash-of-somebody")
    assert len(cache.entries()) == 2
    cache.remove(next(entry for entry in cache.entries() if entry.name == names[0]))
    assert not list(cache.root.glob(".trash*"))


def test_verify_finds_what_repair_removes(three):
    cache, asked_for, names = three
    path = next((cache.root / names[2]).glob("*.f32"))
    path.write_bytes(path.read_bytes()[:-1] + b"\0\0")
    (cache.root / names[2] / "L99-act.left.f32").write_bytes(b"left by the dead")
    entries = {entry.name: entry for entry in cache.entries()}
    assert cache.verify(entries[names[0]]) == []
    (problem,) = cache.verify(entries[names[2]])
    assert problem.endswith(f"{path.name} is not what was written")
    assert cache.repair(entries[names[2]])
    assert cache.verify(entries[names[2]]) == []
    assert entries[names[2]].strays() == []
    assert not path.exists()
    found = asked_for[2](FeatureCache(cache.root))
    assert same(found, asked_for[2].plain())


def test_what_another_process_has_removed_is_gone_and_not_damaged(three):
    cache, _, names = three
    entry = Entry(cache.root / names[0])
    assert FeatureCache(cache.root).remove(entry)
    assert cache.verify(entry) == []
    assert cache.remove(entry)
    assert cache.repair(entry)
    assert len(cache.entries()) == 2


@pytest.mark.parametrize("how", ["evicted", "extracted again"])
def test_what_another_process_replaces_while_it_is_verified_is_not_damaged(three, monkeypatch, how):
    cache, asked_for, names = three
    entry, is_whole, checked = Entry(cache.root / names[0]), Entry.is_whole, []

    def slow(self, *args):
        if not checked:
            checked.append(args)
            monkeypatch.undo()
            if how == "evicted":
                FeatureCache(cache.root).remove(entry)
            else:
                for path in entry.folder.glob("*.f32"):
                    path.write_bytes(b"damaged")
                asked_for[0](FeatureCache(cache.root))
        return is_whole(self, *args)

    monkeypatch.setattr(Entry, "is_whole", slow)
    assert cache.verify(entry) == []
    assert checked


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_that_forgets_a_mark_leaves_it(cache):
    use = cache.use("name")
    child = os.fork()
    if child == 0:
        try:
            use.release()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert use.path.exists()
    assert cache.in_use(Entry(cache.root / "name"))


def test_a_disk_that_gives_no_locks_costs_the_cache_and_not_the_run(asked, cache, monkeypatch):
    monkeypatch.setattr(entry_module, "_try_lock", lambda path: None)
    assert same(asked(cache), asked.plain())
    (warning,) = cache.ledger.warnings
    assert "are not cached: no lock could be had" in warning


def test_the_folder_is_the_variable_or_in_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("PROBEBENCH_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.delenv("PROBEBENCH_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_root() == tmp_path / "home/.cache/probebench/features"


def test_a_file_in_its_place_is_found_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"--probe-cache: no feature cache can be kept in .*file"):
        FeatureCache(tmp_path / "file").check("--probe-cache")


def test_it_does_not_need_torch():
    code = "import sys, probebench.features.cache; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
