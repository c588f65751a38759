"""One sweep as it is measured on a machine of a cluster. Knows nothing of what brought it there."""

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
    """What a sweep needs to be measured elsewhere, beside the packages, the images and the weights.

    Attributes:
        taps: which are measured
        baseline: what they are compared with
        catalog: has the specs of the sweep, whoever added them
        options: of the run, with this sweep's device and cores
        family: number of cases that share the error level of the verdicts
        requested: names on the command line, which may be downloaded
        versions: of the packages that numbers depend on
        directory: where pytest was started, which relative paths of weights start from
        path: where modules are imported from, readers of one's own included
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
    """What comes back.

    Attributes:
        hardware: of the process that measured, as run records have it
    """

    outcome: SweepOutcome
    hardware: Mapping[str, Any]


def measure(job: Job) -> JobResult:
    """Measure a sweep in this process, which is left in the directory and with the import path of the job."""
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
        # As in `Run.measure`; nothing but the end of the process is to be tried again.
        outcome = SweepOutcome(sweep, error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
    return JobResult(outcome, hardware([outcome.record["device"]] if outcome.record else []))


def _check_versions(job: Job, here: str) -> None:
    """Numbers of other versions would pass for those of the record's."""
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
    """What is not on this machine, and may not be downloaded, is an error: pytest's process decided to measure it."""
    options, catalog = job.options, job.catalog
    clean = get_protocol(job.sweep.protocol).train_on == "clean"
    availability = Availability(catalog, options.weights, job.requested, options.offline, (), clean)
    skipped = availability.decide(job.sweep, len(job.taps))
    if skipped is not None:
        missing = [f"the weights of {job.sweep.model}"] * skipped.missing_weights
        missing += [f"dataset {name}" for name in skipped.missing_datasets]
        raise EngineError(
            f"node {here} lacks {' and '.join(missing)}, which may not be downloaded. Put it there, or onto a file system "
            "that all nodes share; or, without --probe-offline, name it with --probe-model or --probe-dataset"
        )
