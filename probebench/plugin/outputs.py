"""Write the files of a run (record, leaderboards, report, baselines), and check beforehand that this is possible."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from probebench import _files
from probebench._files import relative
from probebench.errors import StoreError
from probebench.records import baselines, run_record
from probebench.records.find import LATEST
from probebench.reporting import export, html

if TYPE_CHECKING:
    from probebench.measure.options import Options
    from probebench.measure.run import Run
    from probebench.records.types import Record


def check_writable(options: Options) -> None:
    """Check before any work that everything that a run is going to write can be written.

    Raises:
        ProbebenchError: naming the option to change
    """
    if options.json is not None:
        _files.check_writable(options.json, "--probe-json")
    for path in options.leaderboard_files:
        _files.check_writable(path, "--probe-leaderboard-file")
    if options.cache == "on":
        from probebench.features.cache import FeatureCache

        FeatureCache(options.cache_root, options.cache_size).check("--probe-cache")
    if options.report is not None:
        html.check(options.report, "--probe-report")
    if options.update is not None or options.prune:
        option = "--probe-prune" if options.update is None else "--probe-update"
        _files.check_writable(options.baselines / options.protocol / "any", f"{option} (see --probe-baselines)")


def save_record(run: Run, record: Record) -> tuple[Path | None, list[str], list[str]]:
    """Write the record, and which test images were right, to .probebench/runs/ and to the file of --probe-json.

    Returns:
        the file that was written; warnings, if .probebench/runs/ cannot be written to; errors, if the file of
        --probe-json cannot
    """
    options = run.options
    home = options.root / ".probebench"
    name = f"{run.started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}.json"
    warnings, problems, saved = [], [], None
    correct = {case: bits for outcome in run.outcomes() for case, bits in outcome.correct.items()}
    try:
        _files.keep_out_of_git(home)
        run_record.save(record, home / "runs" / name, correct)
        saved = home / "runs" / name
        with suppress(StoreError):
            _files.write(home / "runs" / LATEST, name + "\n")
    except StoreError as error:
        elsewhere = ", so that this run has no record; --probe-json=FILE writes one"
        warnings.append(f"{error}{'' if options.json is not None else elsewhere}")
    if options.json is not None:
        try:
            run_record.save(record, options.json, correct)
            saved = options.json
        except StoreError as error:
            problems.append(str(error))
    return saved, warnings, problems


def save_leaderboards(run: Run, record: Record) -> list[str]:
    """Write the files of --probe-leaderboard-file; return an error for each that cannot be written."""
    problems = []
    for path in run.options.leaderboard_files:
        try:
            _files.write(path, export.to_text(record, path.suffix.removeprefix(".")))
        except StoreError as error:
            problems.append(str(error))
    return problems


def save_report(run: Run, record: Record, saved: Path | None) -> list[str]:
    """Write the report of --probe-report; return an error if it cannot be made or written.

    Args:
        saved: the file of the record; None if it could not be written
    """
    path = run.options.report
    if path is None:
        return []
    try:
        html.write(record, path, relative(saved) if saved is not None else "")
    except StoreError as error:
        return [str(error)]
    except Exception as error:
        # A plugin may have broken the record. The record is saved, so that the report can be made later.
        return [f"{path} could not be made ({type(error).__name__}: {error})"]
    return []


def update_baselines(run: Run) -> tuple[list[Path], list[str]]:
    """Store the complete sweeps of a run as baselines, as --probe-update says.

    Returns:
        the files written, and an error for each baseline that could not be updated
    """
    options, written, problems = run.options, [], []
    assert options.update is not None
    for outcome in run.outcomes():
        if not outcome.complete:
            continue
        try:
            model = run.catalog.model(outcome.sweep.model)
            if baselines.update(options.baselines, outcome.baseline(), model, options.update, options.tests):
                written.append(baselines.paths(options.baselines, outcome.sweep)[0])
        except StoreError as error:
            problems.append(str(error))
    return written, problems
