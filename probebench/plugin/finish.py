"""Write the files of a run when it ends: baselines, leaderboards, the run record and its report; note what was done."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from probebench import _files
from probebench._files import relative
from probebench._format import counted
from probebench.errors import Note, StoreError
from probebench.plugin import junit, unused_baselines
from probebench.records import baselines, run_record
from probebench.reporting import export, html
from probebench.reporting.availability import skipped_entries

if TYPE_CHECKING:
    from probebench.measure.run import Run
    from probebench.plugin.session import ProbeSession
    from probebench.records.types import Record


def finish(session: pytest.Session, state: ProbeSession, run: Run, interrupted: bool) -> None:
    """Save what was measured, and note what was done. A file that cannot be written fails the session.

    Args:
        interrupted: True if the session was stopped from outside, or by an error of its own
    """
    asked = run.options.json or run.options.leaderboard_files or run.options.report
    if not asked and not any(outcome.record or outcome.error for outcome in run.outcomes()):
        return
    config, notes = state.config, state.notes
    withheld = skipped_entries(state.skipped.values(), state.catalog)
    record = state.record = run.record(interrupted, withheld)
    problems: list[str] = []
    if run.options.update is not None:
        if interrupted:
            notes.append(Note("info", "baselines: not updated, because the run was interrupted"))
        else:
            written, problems = update_baselines(run)
            text = f"baselines: {counted(len(written), 'file')} updated in {relative(run.options.baselines)}"
            notes.append(Note("info", text))
    problems += save_leaderboards(run, record)
    try:
        config.hook.pytest_probebench_record(config=config, record=record)
        run_record.to_json(record)
    except Exception as error:
        # An error in a user's hook must not cost the measurement.
        problems.append(f"pytest_probebench_record failed, its additions are dropped ({type(error).__name__}: {error})")
        record = state.record = run.record(interrupted, withheld)
    notes += dict.fromkeys(note for outcome in run.outcomes() for note in outcome.notes)
    saved, warnings, unsaved = save_record(run, record)
    unreported = save_report(run, record, saved)
    problems += unsaved + unreported
    junit.add(config.pluginmanager.get_plugins(), junit.suite_properties(record, relative(saved) if saved else None))
    if saved is not None:
        what = " (interrupted: what had finished)" if interrupted else ""
        notes.append(Note("info", f"run record: {relative(saved)}{what}"))
    if state.resume_store is not None:
        if not interrupted and saved is not None:
            state.resume_store.remove()
        elif state.resume_store.holds:
            notes.append(Note("info", "To continue this run, repeat the command with --probe-resume."))
    if run.options.report is not None and not unreported:
        notes.append(Note("info", f"report: {relative(run.options.report)}"))
    notes += run.cache.notes() if run.cache is not None else []
    notes += [Note("warning", warning) for warning in warnings]
    stale = [] if run.options.prune else record["stale"]
    if stale:
        text = (
            f"stale: {counted(len(stale), 'baseline')} without a case, such as {stale[0]}. A run of all cases with "
            "--probe-prune removes them, and so does --probe-update=all of their sweep"
        )
        notes.append(Note("info", text))
    unused = [unused_baselines.explain(run.options, folder) for folder in state.collected.unused_baselines]
    if run.options.strict:
        problems += unused
    else:
        notes += [Note("warning", each) for each in unused]
    notes += [Note("error", problem) for problem in problems]
    failed = problems or (run.options.strict and stale)
    if failed and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def check_writable(run: Run) -> None:
    """Check before any work that everything that a run is going to write can be written.

    Raises:
        ProbebenchError: naming the option to change
    """
    options = run.options
    if options.json is not None:
        _files.check_writable(options.json, "--probe-json")
    for path in options.leaderboard_files:
        _files.check_writable(path, "--probe-leaderboard-file")
    if run.cache is not None and options.cache == "on":
        run.cache.check("--probe-cache")
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
