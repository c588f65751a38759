"""Sweeps as tasks of a Ray cluster: one task a sweep; its cases are reported, and all is written, by pytest's process.

Ray itself is imported when the run begins.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from probebench._format import counted
from probebench.errors import EngineError, ProbebenchError
from probebench.measure.options import RAY_ADDRESS
from probebench.plugin.items import cases_of
from probebench.records.environment import versions

if TYPE_CHECKING:
    from probebench.catalog.cases import Case, Sweep
    from probebench.catalog.taps import Tap
    from probebench.measure.outcome import SweepOutcome
    from probebench.measure.ray.task import Job, JobResult
    from probebench.measure.run import Run
    from probebench.plugin.session import ProbeSession

RETRIES = 3
"""How often a sweep is begun anew when its process or its node dies."""

CONNECT_SECONDS = 5.0
"""How long a cluster may take to answer."""

PATIENCE_SECONDS = 300.0
"""How long sweeps wait while no node of the cluster could run one."""

_AT_LEAST = 32  # sweeps that are submitted ahead, so that a cluster which grows on demand sees some
_LOOK_SECONDS = 10.0  # between looks at the nodes, while waiting


def check_installed() -> None:
    """Raises EngineError where Ray is missing."""
    if find_spec("ray") is None:
        raise EngineError("--probe-engine=ray needs Ray: pip install 'probebench[ray]'")


class RayEngine:
    """A pytest plugin, registered where ``--probe-engine=ray`` is given."""

    def __init__(self, state: ProbeSession) -> None:
        self._state = state
        self._ray: Any = None
        self._ours = False  # the connection
        self._task: Any = None
        self._cores, self._gpus, self._device = 1, 0, "cpu"
        self._nodes: list[dict[str, Any]] = []
        self._taps: dict[Sweep, list[Tap]] = {}
        self._waiting: deque[Sweep] = deque()
        self._flying: dict[Any, Sweep] = {}
        self._hardware: list[Mapping[str, Any]] = []
        self._none_fits_since: float | None = None

    @property
    def where(self) -> str:
        """As in ``on 4 Ray nodes``."""
        sharing = f"{counted(self._cores, 'core')}{' and a GPU' if self._gpus else ''} a sweep"
        return f"on {counted(len(self._nodes), 'Ray node')} ({sharing})"

    # Before the run

    def begin(self, cases: Collection[Case]) -> None:
        """Connect to the cluster, or start one, and find out what a sweep gets of it.

        Raises:
            EngineError: if it cannot be reached, or has no node for a sweep
        """
        for case in cases:
            self._taps.setdefault(case.sweep, []).append(case.tap)
        import ray

        from probebench.measure.ray.task import measure

        self._ray = ray
        options = self._state.options
        if not ray.is_initialized():
            _connect(ray, options.ray_address or os.environ.get("RAY_ADDRESS") or "local")
            self._ours = True
        self._nodes = _alive(ray)
        self._device, self._gpus, self._cores = share(
            [node["Resources"] for node in self._nodes], options.device, options.jobs
        )
        self._task = ray.remote(max_retries=RETRIES, num_cpus=self._cores, num_gpus=self._gpus)(measure)

    # While it runs

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Submit the sweeps, in the order in which their cases come."""
        ends_here = session.testsfailed and not session.config.option.continue_on_collection_errors
        if self._task is None or ends_here:
            return
        order = dict.fromkeys(case.sweep for case in cases_of(session.items))
        self._waiting.extend(sweep for sweep in order if sweep in self._taps and self._run.recall(sweep) is None)
        self._submit()

    def outcome(self, sweep: Sweep) -> SweepOutcome:
        """Wait until a sweep is over."""
        run = self._run
        while (done := run.over(sweep)) is None:
            self._submit()
            if not self._land(_LOOK_SECONDS):
                self._give_up_without_nodes()
        return done

    @property
    def _run(self) -> Run:
        assert self._state.run is not None
        return self._state.run

    def _submit(self) -> None:
        """Keep enough tasks in flight for the whole cluster; what is sent with the others need not be read yet."""
        from probebench.measure.outcome import SweepOutcome

        if not self._waiting:
            return
        enough = max(_AT_LEAST, 2 * self._places())
        while self._waiting and len(self._flying) < enough:
            sweep = self._waiting.popleft()
            try:
                job = self._job(sweep)
            except ProbebenchError as error:
                self._run.take(SweepOutcome(sweep, error=f"{type(error).__name__}: {error}"))
                continue
            self._flying[self._task.options(name=f"probebench {sweep.id}").remote(job)] = sweep

    def _job(self, sweep: Sweep) -> Job:
        from probebench.catalog import Catalog
        from probebench.measure.ray.task import Job

        state, catalog, taps = self._state, self._state.catalog, sorted(set(self._taps[sweep]))
        model, dataset = catalog.model(sweep.model), catalog.dataset(sweep.dataset)
        read = [dataset, catalog.clean(dataset), catalog.reference(model)]
        return Job(
            sweep=sweep,
            taps=tuple(taps),
            baseline=self._run.baseline(sweep, taps),
            catalog=Catalog(
                {sweep.model: model}, {spec.name: spec for spec in read if spec is not None}, {}, catalog.complete
            ),
            options=replace(state.options, device=self._device, jobs=self._cores),
            family=state.family,
            requested=state.asked,
            versions=versions(),
            directory=state.config.invocation_params.dir,
            path=tuple(os.path.abspath(entry) for entry in sys.path),
        )

    def _land(self, timeout: float) -> bool:
        """Take over tasks that have ended; False if none did in time."""
        landed = False
        while self._flying:
            ready, _ = self._ray.wait(list(self._flying), num_returns=1, timeout=0 if landed else timeout)
            if not ready:
                break
            landed = True
            self._take(ready[0], self._flying[ready[0]])
            del self._flying[ready[0]]
        return landed

    def _take(self, task: Any, sweep: Sweep) -> None:
        from probebench.measure.outcome import SweepOutcome

        errors = self._ray.exceptions
        try:
            done: JobResult = self._ray.get(task)
        except errors.RayTaskError as error:
            # The function catches what a sweep raises, so this is raised before it, or at its edges.
            explained = (
                "EngineError: a node of the Ray cluster could not begin with the sweep; probebench, and the packages "
                f"that it and the datasets' readers need, must be installed on every node ({_reason(error)})"
            )
            self._run.take(SweepOutcome(sweep, error=explained, traceback=_plain(str(error))))
        except errors.RayError as error:
            explained = (
                f"WorkerDied: the process that measured this sweep, or its node, ended, and {RETRIES} more did "
                f"({type(error).__name__}: {_reason(error)})"
            )
            self._run.take(SweepOutcome(sweep, error=explained))
        else:
            self._hardware.append(done.hardware)
            self._run.take(done.outcome)

    def _places(self) -> int:
        """How many sweeps the cluster can measure at a time, as it is now."""
        return sum(_fits(node["Resources"], self._cores, self._gpus) for node in _alive(self._ray))

    def _give_up_without_nodes(self) -> None:
        """When nodes have gone, and nobody replaces them, what is left could wait for ever."""
        from probebench.measure.outcome import SweepOutcome

        if self._places():
            self._none_fits_since = None
            return
        now = time.monotonic()
        self._none_fits_since = self._none_fits_since or now
        if now - self._none_fits_since < PATIENCE_SECONDS:
            return
        error = (
            f"EngineError: the Ray cluster has had no node with {counted(self._cores, 'processor core')}"
            f"{' and a GPU' if self._gpus else ''} for {PATIENCE_SECONDS:.0f} seconds"
        )
        left = [*self._flying.values(), *self._waiting]
        self._cancel()
        for sweep in left:
            self._run.take(SweepOutcome(sweep, error=error))

    # After it

    def gather(self, run: Run) -> None:
        """Take over what had finished, cancel the rest, and let go of the cluster."""
        if self._ray is None:
            return
        self._land(0)
        self._cancel()
        run.sort(self._taps)
        run.hardware |= described(self._nodes, self._hardware)
        self._close()

    def _cancel(self) -> None:
        self._waiting.clear()
        for task in self._flying:
            with suppress(self._ray.exceptions.RayError):
                self._ray.cancel(task, force=True)
        self._flying.clear()

    def pytest_unconfigure(self) -> None:
        """Also when the run did not begin."""
        self._close()

    def _close(self) -> None:
        if self._ours:
            self._ray.shutdown()
            self._ours = False


def share(nodes: Collection[Mapping[str, float]], device: str, jobs: int | None) -> tuple[str, int, int]:
    """What one sweep gets.

    Without a number of cores it gets a node, or as many of its cores as it has of its GPUs, where nodes differ, as
    much as each can give.

    Args:
        nodes: the resources of each
        device, jobs: the options

    Returns:
        the torch device inside a task, the number of GPUs and that of processor cores

    Raises:
        EngineError: if no node can give that
    """
    if device.startswith("cuda:"):
        raise EngineError(f"--probe-device={device} names a GPU, and on Ray each sweep gets a free one: give cuda")
    with_gpu = [node for node in nodes if node.get("GPU", 0) >= 1]
    if device == "cuda" and not with_gpu:
        raise EngineError("--probe-device=cuda: no node of the Ray cluster has a GPU")
    gpus = int(bool(with_gpu) and device in ("auto", "cuda"))
    usable = [node for node in (with_gpu if gpus else nodes) if node.get("CPU", 0) >= 1]
    if not usable:
        raise EngineError(f"no node of the Ray cluster has processor cores{' beside its GPU' if gpus else ''}")
    shares = [int(node["CPU"] // max(1, node.get("GPU", 0) * gpus)) for node in usable]
    cores = jobs or max(1, min(shares))
    if not any(_fits(node, cores, gpus) for node in usable):
        most = max(int(node["CPU"]) for node in usable)
        raise EngineError(
            f"--probe-jobs={cores}: no node of the Ray cluster has more than {counted(most, 'processor core')}"
        )
    if gpus:
        return device, gpus, cores
    return "cpu" if device == "auto" else device, gpus, cores


def _fits(node: Mapping[str, float], cores: int, gpus: int) -> int:
    """How many sweeps a node can measure at a time."""
    places = int(node.get("CPU", 0) // cores)
    return min(places, int(node.get("GPU", 0))) if gpus else places


def described(nodes: Collection[Mapping[str, Any]], measured: Collection[Mapping[str, Any]]) -> dict[str, Any]:
    """What the run record says of the cluster.

    Args:
        nodes: as Ray lists them
        measured: of each sweep, the hardware of the process that measured it
    """
    found: dict[str, Any] = {
        "engine": "ray",
        "nodes": len(nodes),
        "cores": max(1, int(sum(node["Resources"].get("CPU", 0) for node in nodes))),
    }
    if measured:
        for key in ("cpu", "platform"):
            found[key] = "; ".join(sorted({each[key] for each in measured}))
        found["threads"] = max(each["threads"] for each in measured)
        found["gpus"] = sorted({name for each in measured for name in each["gpus"]})
    return found


def _alive(ray: Any) -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _plain(text: str) -> str:
    """Without the colours of a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _reason(error: BaseException) -> str:
    """The last line of an error that has something to say."""
    lines = [line.strip() for line in _plain(str(error)).splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def _connect(ray: Any, address: str) -> None:
    """Raises EngineError if there is no cluster, or it cannot be used."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    given = f"Ray cluster {address}"
    if found := RAY_ADDRESS.fullmatch(address):
        try:
            # Ray itself tries for two minutes, and then ends the process.
            socket.create_connection((found[1] or found[2], int(found[3])), CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise EngineError(
                f"{given} cannot be reached ({error}); --probe-ray-address or RAY_ADDRESS names it, and without either "
                "a Ray is started on this machine"
            ) from error
    try:
        if address == "local":
            from probebench._hardware import available_cores

            with _without_reports():
                ray.init(address="local", num_cpus=available_cores(), include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (Exception, SystemExit) as error:
        hint = ": pip install 'ray[client]'" if "ray[client]" in str(error) else ""
        first = next(iter(str(error).splitlines()), "")
        raise EngineError(f"{given} cannot be used{hint} ({type(error).__name__}: {first})") from error


@contextmanager
def _without_reports() -> Iterator[None]:
    """A Ray that is started does not tell its makers, unless somebody said that it may."""
    name = "RAY_USAGE_STATS_ENABLED"
    if name in os.environ:
        yield
        return
    os.environ[name] = "0"
    try:
        yield
    finally:
        del os.environ[name]
