"""The memory plan; that it holds is measured by benchmarks/performance/probe_memory.py."""

from __future__ import annotations

import pytest

from probebench._hardware import free_memory
from probebench.errors import FeatureError
from probebench.probes.memory import SMALL, make_plan, path_bytes


def test_more_of_anything_takes_more():
    base = path_bytes(5000, 768, 10, 10)
    assert base > 4 * 5000 * 768
    for bigger in ((50000, 768, 10, 10), (5000, 1024, 10, 10), (5000, 768, 100, 10), (5000, 768, 10, 40)):
        assert path_bytes(*bigger) > base


def test_the_paper_sized_tap_takes_less_than_a_gigabyte_and_a_half():
    assert path_bytes(50_000, 768, 10, 10) < 1.0e9
    assert path_bytes(50_000, 3072, 10, 10) < 1.5e9


def test_small_taps_are_batched_and_large_ones_are_not():
    assert make_plan(200, 64, 4, 10, 1 << 33, "cpu").taps > 5
    assert make_plan(50_000, 768, 10, 10, 1 << 33, "cpu").taps == 1
    plan = make_plan(200, 64, 4, 10, 1 << 33, "cpu")
    assert plan.taps * 4 * 200 * 64 <= SMALL


def test_the_batch_stays_within_the_budget():
    one = path_bytes(2000, 768, 10, 10) + 4 * 2000 * 768  # with the features, which are sent there
    on_gpu = make_plan(2000, 768, 10, 10, 5 * one, "cuda")
    assert (on_gpu.taps, on_gpu.bytes) == (5, 5 * one)


def test_a_tap_that_does_not_fit_is_refused_with_numbers():
    with pytest.raises(
        FeatureError, match=r"50000 x 3072 features with 10 classes takes .* GB of memory, but only 0\.1 GB"
    ):
        make_plan(50_000, 3072, 10, 10, 10**8, "cpu")


def test_some_memory_is_free():
    assert free_memory("cpu") > 1 << 26


def test_what_torch_holds_of_a_gpu_for_later_is_free(monkeypatch):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (10, 100))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda device: 50)
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda device: 20)
    assert free_memory("cuda:1") == 40
