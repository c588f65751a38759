"""Schedule tests on the workers of pytest-xdist, each sweep on one of them.

The only file that imports xdist, and the only one that uses its private names: `_split_scope`, `_reschedule`,
`_pending_of`, `_assign_work_unit`, the plugin ``dsession`` and its attributes. Tested with pytest-xdist 3.8.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling, Scheduling
from xdist.workermanage import WorkerController


class SweepScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives whole sweeps to workers, the one with most cases first, and other tests as another scheduler would.

    Args:
        sweeps: by node id of a case, the id of its sweep
        usual: the scheduler that the run would have without cases
        rank: of a worker, in the order in which workers are kept where there is not enough work for all of them
        died: called with the node id of a case and the worker that has died of it, before others get its sweep
    """

    def __init__(
        self,
        config: pytest.Config,
        log: Producer,
        sweeps: Mapping[str, str],
        usual: Scheduling,
        rank: Callable[[WorkerController], int],
        died: Callable[[str, WorkerController], None] = lambda nodeid, node: None,
    ) -> None:
        super().__init__(config, log)
        self._sweeps, self._rank, self._died = sweeps, rank, died
        # Those that do not go by scope hand out test by test.
        self._usual_scope: Callable[[str], str] = (
            usual._split_scope if isinstance(usual, LoadScopeScheduling) else lambda nodeid: nodeid
        )

    def _split_scope(self, nodeid: str) -> str:
        sweep = self._sweeps.get(nodeid)
        return self._usual_scope(nodeid) if sweep is None else f"probebench: {sweep}"

    def schedule(self) -> None:
        """Begin, or go on."""
        for node in sorted(self.nodes, key=self._rank):
            self.assigned_work[node] = self.assigned_work.pop(node)
        super().schedule()

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        """A worker has collected. One that replaces another, and finds other tests than it did, is sent away."""
        super().add_node_collection(node, collection)
        if node not in self.registered_collections:
            node.shutdown()

    def _reschedule(self, node: WorkerController) -> None:
        """Hand out as little as possible ahead: a worker begins a test when it knows the one after it."""
        if node.shutting_down or node not in self.registered_collections:
            return
        while self.workqueue and self._pending_of(self.assigned_work[node]) < 2:
            self._assign_work_unit(node)
        if not self.workqueue:
            node.shutdown()

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        """Forgets a scope that is done: of a run with many ordinary tests, each its own, there are many."""
        nodeid = self.registered_collections[node][item_index]
        work, scope = self.assigned_work[node], self._split_scope(nodeid)
        work[scope][nodeid] = True
        if all(work[scope].values()):
            del work[scope]
        self._reschedule(node)

    def remove_node(self, node: WorkerController) -> str | None:
        """Gives what a dead worker had left to others, less the test that it died of: that one is not run again.

        Returns:
            that test, if there is one
        """
        crashed: str | None = None
        for scope, tests in self.assigned_work.pop(node).items():
            pending = [nodeid for nodeid, done in tests.items() if not done]
            if crashed is None and pending:
                crashed = pending.pop(0)
            if pending:
                self.workqueue[scope] = dict.fromkeys(pending, False)
                self.workqueue.move_to_end(scope, last=False)
        if crashed is not None and crashed in self._sweeps:
            self._died(crashed, node)
        for other in self.assigned_work:
            self._reschedule(other)
        return crashed


class DeferredScheduler:
    """Stands in for a scheduler until the first worker has collected: before, nobody knows whether there are cases."""

    collection_is_completed = tests_finished = has_pending = False

    def __init__(self) -> None:
        self.nodes: list[WorkerController] = []

    def add_node(self, node: WorkerController) -> None:
        self.nodes.append(node)

    def remove_node(self, node: WorkerController) -> str | None:
        if node not in self.nodes:
            raise KeyError(node)  # as others do, and their caller expects
        self.nodes.remove(node)
        return None


def replace_scheduler(config: pytest.Config, scheduler: Scheduling) -> None:
    """Give the workers of a session's `DeferredScheduler` to another scheduler, which xdist uses from now on."""
    session: Any = config.pluginmanager.getplugin("dsession")
    for node in session.sched.nodes:
        scheduler.add_node(node)
    session.sched = scheduler


def end_workers(config: pytest.Config) -> None:
    """Let all workers end, and wait for them, as xdist does when its own hook is called later."""
    session: Any = config.pluginmanager.getplugin("dsession")
    session.pytest_sessionfinish()
