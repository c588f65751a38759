"""What a sweep gets of a cluster, and what the record says of it. Needs no Ray."""

from __future__ import annotations

import pytest

from probebench.errors import EngineError
from probebench.measure.ray.engine import describe_cluster, share

HEAD = {"node:__internal_head__": 1.0}


@pytest.mark.parametrize(
    ("nodes", "device", "jobs", "expected"),
    [
        ([{"CPU": 8.0}], "auto", None, ("cpu", 0, 8)),  # a whole node
        ([HEAD, {"CPU": 16.0}, {"CPU": 6.0}], "auto", None, ("cpu", 0, 6)),  # the smaller of two
        ([{"CPU": 8.0}], "auto", 2, ("cpu", 0, 2)),
        ([{"CPU": 32.0, "GPU": 4.0}], "auto", None, ("auto", 1, 8)),  # a GPU, and its share of the cores
        ([{"CPU": 64.0}, {"CPU": 32.0, "GPU": 4.0}, {"CPU": 9.0, "GPU": 2.0}], "cuda", None, ("cuda", 1, 4)),
        ([{"CPU": 2.0, "GPU": 8.0}], "auto", None, ("auto", 1, 1)),  # fewer cores than GPUs
        ([{"CPU": 32.0, "GPU": 4.0}], "cpu", None, ("cpu", 0, 32)),
        ([{"CPU": 32.0, "GPU": 4.0}], "auto", 32, ("auto", 1, 32)),
        ([{"CPU": 8.0}], "mps", None, ("mps", 0, 8)),
    ],
)
def test_what_a_sweep_gets(nodes, device, jobs, expected):
    assert share(nodes, device, jobs) == expected


@pytest.mark.parametrize(
    ("nodes", "device", "jobs", "message"),
    [
        ([{"CPU": 8.0}], "cuda", None, "no node of the Ray cluster has a GPU"),
        ([{"CPU": 8.0, "GPU": 2.0}], "cuda:1", None, "each sweep gets a free one: use cuda"),
        ([HEAD], "auto", None, "no node of the Ray cluster has processor cores$"),
        ([{"CPU": 8.0}, {"GPU": 1.0}], "auto", None, "has processor cores next to its GPU"),
        ([{"CPU": 8.0}, {"CPU": 2.0}], "auto", 9, "--probe-jobs=9: no node .* more than 8 processor cores"),
        ([{"CPU": 80.0}, {"CPU": 4.0, "GPU": 1.0}], "auto", 5, "--probe-jobs=5: no node .* more than 4"),
    ],
)
def test_what_no_node_can_give_is_an_error(nodes, device, jobs, message):
    with pytest.raises(EngineError, match=message):
        share(nodes, device, jobs)


def test_the_record_names_the_hardware_that_measured():
    nodes = [{"Resources": HEAD}, {"Resources": {"CPU": 8.0}}, {"Resources": {"CPU": 4.0}}]
    one = {"cpu": "B", "platform": "Linux", "threads": 4, "gpus": ["H100"], "devices": ["cuda"]}
    other = one | {"cpu": "A", "gpus": []}
    assert describe_cluster(nodes, [one, other, one]) == {
        "engine": "ray",
        "nodes": 3,
        "cores": 12,
        "cpu": "A; B",
        "platform": "Linux",
        "threads": 4,
        "gpus": ["H100"],
    }
    assert describe_cluster(nodes, []) == {"engine": "ray", "nodes": 3, "cores": 12}
