"""Which part of a machine is a worker's."""

from __future__ import annotations

import pytest

from probebench.plugin.xdist.worker import assign_device, count_cores, count_on_one_gpu


@pytest.mark.parametrize(("cores", "sharers"), [(8, 2), (9, 2), (7, 3), (64, 5), (4, 4)])
def test_cores_are_divided_among_the_workers(cores, sharers):
    parts = [count_cores(place, sharers, cores) for place in range(sharers)]
    assert sum(parts) == cores
    assert max(parts) - min(parts) <= 1


def test_a_worker_has_a_core_though_there_are_too_few():
    assert [count_cores(place, 4, 2) for place in range(4)] == [1, 1, 1, 1]


def test_gpus_go_round_unless_one_is_named():
    assert [assign_device(place, "auto", 3) for place in range(5)] == ["cuda:0", "cuda:1", "cuda:2", "cuda:0", "cuda:1"]
    assert assign_device(2, "cuda", 4) == "cuda:2"
    assert assign_device(2, "cuda:1", 4) == "cuda:1"
    assert assign_device(2, "cpu", 4) == "cpu"
    assert assign_device(2, "auto", 0) == "auto"
    assert assign_device(2, "cuda", 0) == "cuda"  # which is an error where it is used


def test_memory_of_a_gpu_is_divided_among_the_workers_on_it():
    assert [count_on_one_gpu(sharers, "auto", 4) for sharers in (1, 4, 5, 8)] == [1, 1, 2, 2]
    assert count_on_one_gpu(3, "cuda:1", 4) == 3
