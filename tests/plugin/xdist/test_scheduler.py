"""Which worker gets which tests, with workers that are not there."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace

import pytest

pytest.importorskip("xdist")

from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling, LoadScheduling

from probebench.plugin.xdist.scheduler import DeferredScheduler, SweepScheduling


class Node:
    """A worker as xdist's has it: it begins a test when it knows the one after it, or that there is none."""

    def __init__(self, name):
        self.gateway = SimpleNamespace(id=name)
        self.queue, self.shutting_down, self.ran = deque(), False, []

    def send_runtest_some(self, indices):
        self.queue.extend(indices)

    def shutdown(self):
        self.shutting_down = True

    def can_run(self):
        return len(self.queue) > 1 or (self.queue and self.shutting_down)


class Scene:
    """A run of some tests on some workers."""

    def __init__(self, sweeps, plain=(), workers=2, usual=LoadScheduling):
        self.ids = [f"test_cases.py::test_probe[{sweep}-{i}]" for sweep, n in sweeps.items() for i in range(n)]
        self.ids += plain
        option = SimpleNamespace(loadscopereorder=True, maxschedchunk=None, tx=["popen"] * workers)
        config = SimpleNamespace(option=option, getvalue=vars(option).get, getoption=vars(option).get)
        of = {nodeid: sweep for nodeid in self.ids for sweep in sweeps if f"[{sweep}-" in nodeid}
        log = Producer("test", enabled=False)
        self.nodes = [Node(f"gw{i}") for i in range(workers)]
        self.scheduler = SweepScheduling(
            config, log, of, usual(config, log), rank=lambda node: int(node.gateway.id.removeprefix("gw"))
        )
        for node in reversed(self.nodes):
            self.scheduler.add_node(node)
        for node in self.nodes:
            self.scheduler.add_node_collection(node, self.ids)
        self.scheduler.schedule()

    def step(self, node):
        index = node.queue.popleft()
        node.ran.append(self.ids[index])
        self.scheduler.mark_test_complete(node, index)

    def work(self, until=lambda node: False):
        """Let all workers run what they can, in turns."""
        while any(node.can_run() and not until(node) for node in self.nodes):
            for node in self.nodes:
                if node.can_run() and not until(node):
                    self.step(node)

    def die(self, node):
        """A worker dies in its next test, and is replaced; the test that it died in."""
        crashed = self.scheduler.remove_node(node)
        self.nodes.remove(node)
        clone = Node(f"gw{9 + len(self.nodes)}")
        self.nodes.append(clone)
        self.scheduler.add_node(clone)
        return crashed, clone

    def replace(self, clone):
        self.scheduler.add_node_collection(clone, self.ids)
        self.scheduler.schedule()


def sweeps_of(node):
    return list(dict.fromkeys(nodeid.partition("[")[2].rpartition("-")[0] for nodeid in node.ran))


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [1, 2, 3, 20])
def test_every_test_runs_once_and_every_sweep_in_one_worker(workers, size):
    scene = Scene({f"s{i}": size + i % 2 for i in range(7)}, ["test_a.py::test_1", "test_a.py::test_2"], workers)
    scene.work()
    ran = [nodeid for node in scene.nodes for nodeid in node.ran]
    assert sorted(ran) == sorted(scene.ids)
    found = [sweep for node in scene.nodes for sweep in sweeps_of(node) if sweep]
    assert len(found) == len(set(found)) == 7
    assert scene.scheduler.tests_finished
    assert not scene.scheduler.has_pending


def test_the_largest_sweeps_come_first_and_no_worker_hoards():
    scene = Scene({"small": 2, "large": 30, "medium": 10, "tiny": 2})
    first, second = scene.nodes
    assert len(first.queue) == 30
    assert len(second.queue) == 10
    # Nothing is handed out ahead before the last test of a sweep is.
    while len(second.queue) > 2:
        scene.step(second)
    scene.step(second)
    assert len(second.queue) == 1 + 2
    scene.work()
    assert (sweeps_of(first), sweeps_of(second)) == (["large"], ["medium", "small", "tiny"])


def test_where_there_are_more_workers_than_sweeps_the_first_are_kept():
    scene = Scene({"a": 3, "b": 3}, workers=4)
    assert [node.shutting_down and not node.queue for node in scene.nodes] == [False, False, True, True]


@pytest.mark.parametrize(("usual", "scopes"), [(LoadScheduling, 4), (LoadFileScheduling, 2)])
def test_other_tests_go_as_the_usual_scheduler_would_have_it(usual, scopes):
    plain = ["test_a.py::test_1", "test_a.py::test_2", "test_b.py::test_1", "test_b.py::test_2"]
    scheduler = Scene({"s": 3}, plain, usual=usual).scheduler
    assert len({scheduler._split_scope(nodeid) for nodeid in plain}) == scopes


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_what_a_dead_worker_had_left_runs_elsewhere_less_what_it_died_in(workers, size):
    scene = Scene({f"s{i}": size for i in range(5)}, workers=workers)
    dead = scene.nodes[0]
    scene.step(dead)
    dying = scene.ids[dead.queue[0]]
    crashed, clone = scene.die(dead)
    assert crashed == dying
    scene.replace(clone)
    scene.work()
    ran = [nodeid for node in [dead, *scene.nodes] for nodeid in node.ran]
    assert sorted([*ran, crashed]) == sorted(scene.ids)


def test_two_may_die_before_the_first_is_replaced():
    scene = Scene({f"s{i}": 4 for i in range(6)})
    crashed_1, clone_1 = scene.die(scene.nodes[0])
    crashed_2, clone_2 = scene.die(scene.nodes[0])
    scene.replace(clone_1)
    scene.replace(clone_2)
    scene.work()
    ran = [nodeid for node in scene.nodes for nodeid in node.ran]
    assert sorted([*ran, crashed_1, crashed_2]) == sorted(scene.ids)


def test_a_death_in_the_last_test_of_all_ends_the_run():
    scene = Scene({"s": 3}, workers=1)
    (node,) = scene.nodes
    scene.step(node)
    scene.step(node)
    crashed, clone = scene.die(node)
    assert crashed == scene.ids[-1]
    scene.replace(clone)
    assert clone.shutting_down
    assert scene.scheduler.tests_finished


def test_a_worker_that_finds_other_tests_is_sent_away():
    scene = Scene({"s": 5, "t": 5, "u": 5})
    _, clone = scene.die(scene.nodes[0])
    scene.scheduler.add_node_collection(clone, scene.ids[:-1])
    scene.scheduler.schedule()
    assert clone.shutting_down
    scene.work()
    # The other does all but the test of the crash.
    assert len(scene.nodes[0].ran) == 14


def test_before_it_is_known_what_there_is_workers_only_come_and_go():
    undecided, a, b = DeferredScheduler(), Node("gw0"), Node("gw1")
    undecided.add_node(a)
    undecided.add_node(b)
    assert undecided.remove_node(a) is None
    assert undecided.nodes == [b]
    assert not undecided.tests_finished
    with pytest.raises(KeyError):
        undecided.remove_node(a)
