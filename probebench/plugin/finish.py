"""Write the files of a run when it ends: baselines, leaderboards, the run record and its report; note what was done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probebench._files import relative
from probebench._format import counted
from probebench.errors import Note
from probebench.plugin import junit, unused_baselines
from probebench.plugin.outputs import save_leaderboards, save_record, save_report, update_baselines
from probebench.records import run_record
from probebench.reporting.availability import skipped_entries

if TYPE_CHECKING:
    from probebench.measure.run import Run
    from probebench.plugin.session import ProbeSession


def finish(state: ProbeSession, run: Run, interrupted: bool) -> bool:
    """Save what was measured, and note what was done.

    Args:
        interrupted: True if the run was stopped before its end, from outside, by failures or by an error of its own

    Returns:
        True if the session fails: a file cannot be written, or --probe-strict is given and a baseline is stale or
        unused
    """
    if not run.options.outputs and not any(outcome.record or outcome.error for outcome in run.outcomes()):
        return False
    config, notes = state.config, state.notes
    command = ["pytest", *map(str, config.invocation_params.args)]
    withheld = skipped_entries(state.skipped.values(), state.catalog)
    record = state.record = run.record(command, interrupted, withheld)
    problems: list[str] = []
    if run.options.update is not None:
        if interrupted:
            notes.append(Note("info", "baselines: not updated, because the run did not get to its end"))
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
        record = state.record = run.record(command, interrupted, withheld)
    notes += dict.fromkeys(note for outcome in run.outcomes() for note in outcome.notes)
    saved, warnings, unsaved = save_record(run, record)
    unreported = save_report(run, record, saved)
    problems += unsaved + unreported
    junit.add(config.pluginmanager.get_plugins(), junit.suite_properties(record, relative(saved) if saved else None))
    if saved is not None:
        what = " (interrupted: what had finished)" if interrupted else ""
        notes.append(Note("info", f"run record: {relative(saved)}{what}"))
    if state.resume_store is not None:
        stopped = any(outcome.stopped for outcome in run.outcomes())
        if not interrupted and not stopped and saved is not None:
            state.resume_store.remove()
        elif state.resume_store.holds:
            without = " and without -x or --maxfail" if interrupted and config.getoption("maxfail", 0) else ""
            notes.append(Note("info", f"To continue this run, repeat the command with --probe-resume{without}."))
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
    return bool(problems or (run.options.strict and stale))
