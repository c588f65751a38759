"""Measure one sweep on a node of a cluster, from nothing but a `Job`. Independent of Ray."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probebench._hardware import limit_threads
from probebench.catalog.protocols import get_protocol
from probebench.errors import EngineError, ProbebenchError
from probebench.measure.availability import Availability, RequestedNames
from probebench.measure.environment import hardware
from probebench.measure.outcome import SweepOutcome
from probebench.measure.run import Run
from probebench.records.environment import versions

if TYPE_CHECKING:
    from probebench.catalog import Catalog
    from probebench.catalog.cases import Sweep
    from probebench.catalog.taps import Tap
    from probebench.measure.options import Options
    from probebench.records.baselines import Baseline


@dataclass(frozen=True)
class Job:
    """Everything that another machine needs to measure a sweep, except packages, images and weights.

    Attributes:
        taps: the taps to measure
        baseline: the baseline to compare with; None if there is none
        catalog: the specs of the sweep, those of conftest files included
        options: of the run, with this sweep's device and cores
        family: number of cases that share the error level of the verdicts
        requested: names on the command line, which may be downloaded
        versions: versions of the packages on which numbers depend
        directory: where pytest was started; relative paths of weights start from it
        path: the import path, for the readers of a user's datasets
    """

    sweep: Sweep
    taps: tuple[Tap, ...]
    baseline: Baseline | None
    catalog: Catalog
    options: Options
    family: int
    requested: RequestedNames
    versions: Mapping[str, str]
    directory: Path
    path: tuple[str, ...]


@dataclass(frozen=True)
class JobResult:
    """The result of a job.

    Attributes:
        hardware: of the process that measured, as in run records
    """

    outcome: SweepOutcome
    hardware: Mapping[str, Any]


def measure(job: Job) -> JobResult:
    """Measure a sweep in this process. Changes its working directory and import path to those of the job."""
    sweep, here = job.sweep, socket.gethostname()
    try:
        _check_versions(job, here)
        if job.directory.is_dir():
            os.chdir(job.directory)
        sys.path += [entry for entry in job.path if entry not in sys.path]
        assert job.options.jobs is not None
        limit_threads(job.options.jobs)
        _check_here(job, here)
        run = Run(job.options, job.catalog, job.family, stored={sweep: job.baseline})
        outcome = run.measure(sweep, job.taps)
    except ProbebenchError as error:
        outcome = SweepOutcome(sweep, error=f"{type(error).__name__}: {error}")
    except Exception as error:
        # As in `Run.measure`; Ray should retry only if the process itself dies.
        outcome = SweepOutcome(sweep, error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
    return JobResult(outcome, hardware([outcome.record["device"]] if outcome.record else []))


def _check_versions(job: Job, here: str) -> None:
    """Check that packages have the versions that the run record is going to name."""
    found = versions()
    other = [
        f"{name} {found.get(name, 'missing')} instead of {job.versions.get(name, 'none')}"
        for name in sorted({*found, *job.versions})
        if found.get(name) != job.versions.get(name) and not name.startswith("pytest")
    ]
    if other:
        raise EngineError(
            f"node {here} has other versions than the process of pytest: {', '.join(other)}; install the same on both"
        )


def _check_here(job: Job, here: str) -> None:
    """Check that weights and images are here or may be downloaded; pytest's process has decided on the sweep."""
    options, catalog = job.options, job.catalog
    clean = get_protocol(job.sweep.protocol).train_on == "clean"
    availability = Availability(catalog, options.weights, job.requested, options.offline, (), clean)
    skipped = availability.decide(job.sweep, len(job.taps))
    if skipped is not None:
        missing = [f"the weights of {job.sweep.model}"] * skipped.missing_weights
        missing += [f"dataset {name}" for name in skipped.missing_datasets]
        raise EngineError(
            f"node {here} does not have {' and '.join(missing)}, which may not be downloaded. Put it there, or onto a "
            "file system that all nodes share; or, without --probe-offline, name it with --probe-model or "
            "--probe-dataset"
        )
