"""Measure sweeps as tasks of a Ray cluster, one task a sweep. Cases are reported, and files written, by the caller.

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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probebench._format import counted
from probebench.errors import EngineError, ProbebenchError
from probebench.measure.options import RAY_ADDRESS
from probebench.records.environment import versions

if TYPE_CHECKING:
    from probebench.catalog import Catalog
    from probebench.catalog.cases import Sweep
    from probebench.catalog.taps import Tap
    from probebench.measure.availability import RequestedNames
    from probebench.measure.options import Options
    from probebench.measure.outcome import SweepOutcome
    from probebench.measure.ray.task import Job, JobResult
    from probebench.measure.run import Run

RETRIES = 3
"""How often a sweep is started again when its process or its node dies."""

CONNECT_SECONDS = 5.0
"""Time within which a cluster must answer."""

PATIENCE_SECONDS = 300.0
"""How long sweeps wait while no node of the cluster can run one."""

_AT_LEAST = 32  # sweeps that are submitted in any case, so that a cluster that grows on demand sees work
_POLL_SECONDS = 10.0  # between checks of the nodes, while waiting


def check_installed() -> None:
    """Raises EngineError if Ray is not installed."""
    if find_spec("ray") is None:
        raise EngineError("--probe-engine=ray needs Ray: pip install 'probebench[ray]'")


class RayEngine:
    """Measures the sweeps of one run on a cluster.

    Args:
        taps: of each sweep, in the order in which their cases are reported
        family: number of cases that share the error level of the verdicts
        requested: names on the command line, which the nodes may download
        directory: where pytest was started; relative paths of weights start from it
        finished: called with each sweep that is over

    Attributes:
        places: number of sweeps that the cluster could measure at a time when it was connected to
    """

    def __init__(
        self,
        options: Options,
        catalog: Catalog,
        taps: Mapping[Sweep, Sequence[Tap]],
        family: int,
        requested: RequestedNames,
        directory: Path,
        finished: Callable[[SweepOutcome], None] | None = None,
    ) -> None:
        self._options, self._catalog, self._taps = options, catalog, taps
        self._family, self._requested, self._directory = family, requested, directory
        self._finished = finished
        self.places = 1
        self._ray: Any = None
        self._owns_connection = False
        self._task: Any = None
        self._cores, self._gpus, self._device = 1, 0, "cpu"
        self._nodes: list[dict[str, Any]] = []
        self._waiting: deque[Sweep] = deque()
        self._running: dict[Any, Sweep] = {}
        self._hardware: list[Mapping[str, Any]] = []
        self._none_fits_since: float | None = None

    @property
    def where(self) -> str:
        """The place of measurement, such as ``on 4 Ray nodes``."""
        sharing = f"{counted(self._cores, 'core')}{' and a GPU' if self._gpus else ''} a sweep"
        return f"on {counted(len(self._nodes), 'Ray node')} ({sharing})"

    # Before the run

    def connect(self) -> None:
        """Connect to the cluster, or start one, and find out what it gives to a sweep.

        Raises:
            EngineError: if it cannot be reached, or has no node for a sweep
        """
        import ray

        from probebench.measure.ray.task import measure

        self._ray = ray
        options = self._options
        if not ray.is_initialized():
            _connect(ray, options.ray_address or os.environ.get("RAY_ADDRESS") or "local")
            self._owns_connection = True
        self._nodes = _list_alive(ray)
        self._device, self._gpus, self._cores = share(
            [node["Resources"] for node in self._nodes], options.device, options.jobs
        )
        self.places = max(1, self._count_places())
        self._task = ray.remote(max_retries=RETRIES, num_cpus=self._cores, num_gpus=self._gpus)(measure)

    # While it runs

    def submit(self, run: Run) -> None:
        """Submit all sweeps but those that an earlier run has finished."""
        for sweep in self._taps:
            if (recalled := run.recall(sweep)) is None:
                self._waiting.append(sweep)
            elif self._finished is not None:
                self._finished(recalled)
        self._submit_waiting(run)

    def outcome(self, run: Run, sweep: Sweep) -> SweepOutcome:
        """Wait until a sweep has been measured."""
        while (done := run.over(sweep)) is None:
            self._submit_waiting(run)
            if not self._take_finished(run, _POLL_SECONDS):
                self._give_up_without_nodes(run)
        return done

    def _submit_waiting(self, run: Run) -> None:
        """Keep enough tasks running or queued for the whole cluster, without sending all baselines at once."""
        from probebench.measure.outcome import SweepOutcome

        if not self._waiting:
            return
        enough = max(_AT_LEAST, 2 * self._count_places())
        while self._waiting and len(self._running) < enough:
            sweep = self._waiting.popleft()
            try:
                job = self._make_job(run, sweep)
            except ProbebenchError as error:
                run.take(SweepOutcome(sweep, error=f"{type(error).__name__}: {error}"))
                continue
            self._running[self._task.options(name=f"probebench {sweep.id}").remote(job)] = sweep

    def _make_job(self, run: Run, sweep: Sweep) -> Job:
        from probebench.catalog import Catalog
        from probebench.measure.ray.task import Job

        catalog, taps = self._catalog, self._taps[sweep]
        model, dataset = catalog.model(sweep.model), catalog.dataset(sweep.dataset)
        read = [dataset, catalog.clean(dataset), catalog.reference(model)]
        return Job(
            sweep=sweep,
            taps=tuple(taps),
            baseline=run.baseline(sweep, taps),
            catalog=Catalog(
                {sweep.model: model}, {spec.name: spec for spec in read if spec is not None}, {}, catalog.complete
            ),
            options=replace(self._options, device=self._device, jobs=self._cores),
            family=self._family,
            requested=self._requested,
            versions=versions(),
            directory=self._directory,
            path=tuple(os.path.abspath(entry) for entry in sys.path),
        )

    def _take_finished(self, run: Run, timeout: float) -> bool:
        """Take over tasks that have finished; returns False if none does within the timeout, in seconds."""
        found = False
        while self._running:
            ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=0 if found else timeout)
            if not ready:
                break
            found = True
            self._take(run, ready[0], self._running[ready[0]])
            del self._running[ready[0]]
        return found

    def _take(self, run: Run, task: Any, sweep: Sweep) -> None:
        from probebench.measure.outcome import SweepOutcome

        errors = self._ray.exceptions
        try:
            result: JobResult = self._ray.get(task)
        except errors.RayTaskError as error:
            # The task catches what the sweep raises, so this was raised before it, or while Ray sent or received it.
            explained = (
                "EngineError: a node of the Ray cluster could not start the sweep; probebench, and the packages "
                f"that it and the datasets' readers need, must be installed on every node ({_last_line(error)})"
            )
            run.take(SweepOutcome(sweep, error=explained, traceback=_strip_colours(str(error))))
        except errors.RayError as error:
            explained = (
                f"WorkerDied: the process that measured this sweep, or its node, ended, and {RETRIES} more did "
                f"({type(error).__name__}: {_last_line(error)})"
            )
            run.take(SweepOutcome(sweep, error=explained))
        else:
            self._hardware.append(result.hardware)
            run.take(result.outcome)
            if self._finished is not None:
                self._finished(result.outcome)

    def _count_places(self) -> int:
        """Count the sweeps that the cluster can measure at a time, as it is now."""
        return sum(_count_fitting(node["Resources"], self._cores, self._gpus) for node in _list_alive(self._ray))

    def _give_up_without_nodes(self, run: Run) -> None:
        """Fail the remaining sweeps if no node has been able to run one for `PATIENCE_SECONDS`."""
        from probebench.measure.outcome import SweepOutcome

        if self._count_places():
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
        left = [*self._running.values(), *self._waiting]
        self._cancel()
        for sweep in left:
            run.take(SweepOutcome(sweep, error=error))

    # After it

    def gather(self, run: Run) -> None:
        """Take over what has finished, cancel the rest, and close the connection."""
        self._take_finished(run, 0)
        self._cancel()
        run.sort(self._taps)
        run.hardware |= describe_cluster(self._nodes, self._hardware)
        self.close()

    def _cancel(self) -> None:
        self._waiting.clear()
        for task in self._running:
            with suppress(self._ray.exceptions.RayError):
                self._ray.cancel(task, force=True)
        self._running.clear()

    def close(self) -> None:
        """Close the connection, if this engine made it."""
        if self._owns_connection:
            self._ray.shutdown()
            self._owns_connection = False


def share(nodes: Collection[Mapping[str, float]], device: str, jobs: int | None) -> tuple[str, int, int]:
    """Divide the nodes of a cluster among sweeps.

    Without a number of cores, a sweep gets a whole node, or one GPU and its share of the cores; if nodes differ, the
    smallest such share.

    Args:
        nodes: the resources of each
        device, jobs: the options

    Returns:
        the torch device inside a task, the number of GPUs and that of processor cores

    Raises:
        EngineError: if no node has that much
    """
    if device.startswith("cuda:"):
        raise EngineError(f"--probe-device={device} names a GPU, and on Ray each sweep gets a free one: use cuda")
    with_gpu = [node for node in nodes if node.get("GPU", 0) >= 1]
    if device == "cuda" and not with_gpu:
        raise EngineError("--probe-device=cuda: no node of the Ray cluster has a GPU")
    gpus = int(bool(with_gpu) and device in ("auto", "cuda"))
    usable = [node for node in (with_gpu if gpus else nodes) if node.get("CPU", 0) >= 1]
    if not usable:
        raise EngineError(f"no node of the Ray cluster has processor cores{' next to its GPU' if gpus else ''}")
    shares = [int(node["CPU"] // max(1, node.get("GPU", 0) * gpus)) for node in usable]
    cores = jobs or max(1, min(shares))
    if not any(_count_fitting(node, cores, gpus) for node in usable):
        most = max(int(node["CPU"]) for node in usable)
        raise EngineError(
            f"--probe-jobs={cores}: no node of the Ray cluster has more than {counted(most, 'processor core')}"
        )
    if gpus:
        return device, gpus, cores
    return "cpu" if device == "auto" else device, gpus, cores


def _count_fitting(node: Mapping[str, float], cores: int, gpus: int) -> int:
    """Count the sweeps that a node can measure at a time."""
    places = int(node.get("CPU", 0) // cores)
    return min(places, int(node.get("GPU", 0))) if gpus else places


def describe_cluster(nodes: Collection[Mapping[str, Any]], measured: Collection[Mapping[str, Any]]) -> dict[str, Any]:
    """Describe the cluster for the run record.

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


def _list_alive(ray: Any) -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _strip_colours(text: str) -> str:
    """Remove the terminal colours from a text."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _last_line(error: BaseException) -> str:
    """The last line of an error message that is not blank."""
    lines = [line.strip() for line in _strip_colours(str(error)).splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def _connect(ray: Any, address: str) -> None:
    """Connect to a cluster. Raises EngineError if it does not exist, or cannot be used."""
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
    """Start Ray without usage reports, unless the environment allows them."""
    name = "RAY_USAGE_STATS_ENABLED"
    if name in os.environ:
        yield
        return
    os.environ[name] = "0"
    try:
        yield
    finally:
        del os.environ[name]
