from __future__ import annotations

import errno
import os

import numpy as np
import pytest
import torch

from probebench.catalog.taps import Tap
from probebench.errors import FeatureError
from probebench.features import extraction as module
from probebench.features.cache import FeatureCache
from probebench.features.cache.entry import Entry
from probebench.features.cache.writer import Writer
from tests.features.conftest import TAPS, same


class Stop(Exception):
    pass


class Progress:
    """Counts images; stops the extraction behind some of them, as Ctrl-C would."""

    def __init__(self, stop_at=None):
        self.images, self._stop_at = 0, stop_at

    def start(self, what, total):
        pass

    def advance(self, count=1):
        self.images += count
        if self._stop_at is not None and self.images >= self._stop_at:
            raise Stop


@pytest.fixture
def small_shards(monkeypatch):
    """Every batch is a shard."""
    monkeypatch.setattr("probebench.features.cache.writer.SHARD_BYTES", 1)


@pytest.fixture
def fresh(cache):
    """The same folder as another process sees it, which has checked nothing."""
    return lambda **more: FeatureCache(cache.root, **more)


def files(cache):
    return sorted(cache.root.glob("*/*.f32"))


def test_what_comes_back_is_what_the_network_gave(asked, cache, fresh):
    expected = asked.plain()
    first = asked(cache)
    assert same(first, expected)
    assert first.images == 40
    again = asked(fresh())
    assert same(again, expected)
    assert again.images == 0
    assert all(not values.flags.writeable for values in again.values())


def test_only_taps_that_are_missing_are_extracted(asked, cache, monkeypatch):
    asked(cache, TAPS[:4])
    read = []
    real = module.forward

    def forward(model, views, taps, *args, **settings):
        read.extend(taps)
        real(model, views, taps, *args, **settings)

    monkeypatch.setattr(module, "forward", forward)
    assert same(asked(cache), asked.plain())
    assert read == TAPS[4:]


def test_another_batch_size_and_other_labels_extract_nothing(asked, cache):
    asked(cache)
    assert asked.but(batch_size=40)(cache).images == 0


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("stop_at", [8, 16, 32])
def test_an_interrupted_extraction_goes_on_where_it_was(asked, cache, fresh, stop_at):
    with pytest.raises(Stop):
        asked(cache, progress=Progress(stop_at))
    progress = Progress()
    found = asked(fresh(), progress=progress)
    assert same(found, asked.plain())
    assert found.images == 40 - stop_at
    assert progress.images == 40


@pytest.mark.usefixtures("small_shards")
def test_more_taps_after_an_interruption(asked, cache, fresh):
    with pytest.raises(Stop):
        asked(cache, TAPS[:3], progress=Progress(16))
    assert same(asked(fresh(), TAPS[1:]), asked.plain(TAPS[1:]))
    assert same(asked(fresh()), asked.plain())


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-4])


def grow(path):
    path.write_bytes(path.read_bytes() + b"\0" * 4)


@pytest.mark.parametrize("damage", [flip, cut, grow, os.unlink])
def test_a_damaged_file_is_refused_and_extracted_again(asked, cache, fresh, damage):
    asked(cache)
    expected, victim = asked.plain(), files(cache)[3]
    damage(victim)
    again = fresh()
    found = asked(again)
    assert same(found, expected)
    assert found.images == 40
    assert again.ledger.damaged == {victim}
    assert "damaged, so extracted again" in " ".join(map(str, again.notes()))
    del found
    assert asked(fresh()).images == 0
    assert all(not fresh().verify(entry) for entry in cache.entries())


@pytest.mark.usefixtures("small_shards")
def test_a_damaged_shard_of_an_unfinished_extraction_is_done_again(asked, cache, fresh):
    with pytest.raises(Stop):
        asked(cache, progress=Progress(24))
    victim = files(cache)[0]
    with victim.open("r+b") as file:
        file.seek(0)
        file.write(b"\1\2\3\4")
    assert same(asked(fresh()), asked.plain())


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b'{"sha256": 1}', b"\x80\x04K\x01."])
def test_a_manifest_that_is_none_is_never_believed(asked, cache, fresh, text):
    asked(cache)
    (path,) = cache.root.glob("*/manifest.json")
    path.write_bytes(text)
    found = asked(fresh())
    assert same(found, asked.plain())
    assert found.images == 40


def test_a_manifest_may_not_name_a_file_elsewhere(asked, cache, fresh, tmp_path):
    asked(cache)
    (entry,) = cache.entries()
    manifest = entry.manifest()
    rows = next(iter(manifest.taps.values()))
    outside = tmp_path / "outside.f32"
    outside.write_bytes((entry.folder / rows.file).read_bytes())
    text = manifest.to_bytes().replace(rows.file.encode(), b"../../outside.f32")
    (entry.folder / "manifest.json").write_bytes(text)
    assert asked(fresh()).images == 40


def full(*args):
    raise OSError(errno.ENOSPC, "No space left on device", "features")


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("after", [0, 2])
def test_a_full_disk_costs_the_cache_and_not_the_run(asked, cache, monkeypatch, after):
    real, calls = Entry.note, []

    def note(self, *args):
        calls.append(1)
        return real(self, *args) if len(calls) <= after else full()

    monkeypatch.setattr(Entry, "note", note)
    found = asked(cache)
    assert same(found, asked.plain())
    assert found.images == 40
    assert list(cache.ledger.warnings) == [
        "features of tiny noise test are not cached: No space left on device (features)"
    ]
    monkeypatch.undo()
    assert files(cache) == []


def test_no_room_is_a_warning_and_leaves_nothing(asked, cache):
    small = FeatureCache(cache.root, 1000)
    assert same(asked(small), asked.plain())
    (warning,) = small.ledger.warnings
    assert "the feature cache may hold 1.0 kB" in warning
    assert list(cache.root.glob("*/*.f32")) == []


def test_a_folder_that_cannot_be_written_to_is_a_warning(asked, tmp_path):
    (tmp_path / "file").write_text("")
    cache = FeatureCache(tmp_path / "file")
    assert same(asked(cache), asked.plain())
    assert "is a file" in next(iter(cache.ledger.warnings))


def test_features_that_are_not_finite_are_not_kept(asked, cache, monkeypatch):
    real = Writer.put

    def put(self, row, addresses, features):
        features[2][:] = np.nan
        real(self, row, addresses, features)

    monkeypatch.setattr(Writer, "put", put)
    with pytest.raises(FeatureError, match=str(TAPS[2].id)):
        asked(cache)
    monkeypatch.undo()
    assert same(asked(cache), asked.plain())


def test_unless_all_are_kept_quick_ones_are_not(asked, cache, fresh, monkeypatch):
    auto = fresh(always=False)
    assert same(asked(auto), asked.plain())
    assert not cache.root.exists() or cache.entries() == []
    monkeypatch.setattr(module, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(module, "_MEASURED", 0.0)
    assert same(asked(fresh(always=False)), asked.plain())
    assert len(cache.entries()) == 1
    assert asked(fresh(always=False)).images == 0


def test_without_a_cache_nothing_is_written(asked, tmp_path, monkeypatch):
    monkeypatch.setenv("PROBEBENCH_CACHE", str(tmp_path / "default"))
    found = asked(None)
    assert same(found, asked.plain())
    assert found.images == 40
    assert not (tmp_path / "default").exists()


def test_one_tap_alone(asked, cache):
    tap = [Tap("final", "final")]
    assert same(asked(cache, tap), asked.plain(tap))
    assert asked(cache, tap).images == 0


def test_features_that_are_to_stay_on_the_device_do_also_if_they_are_kept(asked, cache, fresh, monkeypatch):
    found = asked(fresh(always=False), stay=True)
    assert all(isinstance(values, torch.Tensor) for values in found.values())
    assert same(found, asked.plain())
    monkeypatch.setattr(module, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(module, "_MEASURED", 0.0)
    kept = asked(fresh(always=False), stay=True)
    assert all(isinstance(values, torch.Tensor) for values in kept.values())
    assert same(kept, asked.plain())
    again = asked(fresh(always=False), stay=True)
    assert again.images == 0
    assert all(isinstance(values, torch.Tensor) for values in again.values())
    assert same(again, kept)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_full_disk_does_not_cost_what_came_from_the_device(asked, cache, small_shards, monkeypatch, after):
    real, calls = Entry.note, []

    def note(self, *args):
        calls.append(1)
        return real(self, *args) if len(calls) <= after else full()

    monkeypatch.setattr(Entry, "note", note)
    assert same(asked(cache, stay=True), asked.plain())
    assert len(cache.ledger.warnings) == 1
