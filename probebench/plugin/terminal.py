"""Print the first lines of a run, the leaderboards and notes at its end, and the report to GitHub."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from probebench.errors import Note, ProbebenchError
from probebench.plugin.reporter import Reporter, find_reporter, own_lines

if TYPE_CHECKING:
    from probebench.measure.outcome import SweepOutcome
    from probebench.plugin.session import ProbeSession
    from probebench.records.types import Record


def write_between(config: pytest.Config, line: str) -> None:
    """Write a line while a test runs."""
    reporter = find_reporter(config)
    if reporter is not None:
        with own_lines(config, reporter):
            reporter.write_line(line)


def show_finished(state: ProbeSession, outcome: SweepOutcome) -> None:
    """Write the line of a sweep that is over, once."""
    if state.finished is not None and (line := state.finished.add(outcome)) and state.config.get_verbosity() > -2:
        write_between(state.config, line)


def show_preparation(state: ProbeSession, model: str) -> None:
    """Write how images are prepared for a model whose weights have just been downloaded."""
    from probebench.catalog.protocols import get_protocol
    from probebench.reporting.availability import preprocessing_lines

    state.undescribed.discard(model)
    if state.config.get_verbosity() >= 0:
        spec, protocol = state.catalog.model(model), get_protocol(state.options.protocol)
        for line in preprocessing_lines([spec], protocol, {}):
            write_between(state.config, line)


def header(state: ProbeSession) -> list[str]:
    """The first lines of a run: what is going to be measured, and how images are prepared for each model.

    Raises:
        pytest.UsageError: for a spec that no network can be built from
    """
    config, options, collected = state.config, state.options, state.collected
    cases = collected.cases
    if not cases or config.get_verbosity() < -1:
        return []
    from probebench._format import counted
    from probebench.catalog.protocols import get_protocol

    protocol = get_protocol(options.protocol)
    what = f"{counted(len(cases), 'case')} in {counted(len(collected.taps), 'sweep')}"
    if options.shard is not None:
        part, count = options.shard
        whole = f"{counted(collected.family, 'case')} in {counted(collected.shard_sweeps, 'sweep')}"
        what += f" (shard {part}/{count} of {whole})"
    first = (
        f"probebench: {what}{state.engine.where}, protocol {protocol.name} ({protocol.fingerprint}), "
        f"device {options.device}, baselines {options.baselines}"
    )
    if config.option.collectonly:
        return [first]
    from probebench.reporting.availability import download_lines, preprocessing_lines

    models = dict.fromkeys(case.sweep.model for case in cases)
    own = {name: f"weights {path}" for name, path in options.weights.items()}
    try:
        described = [state.catalog.model(name) for name in models if name not in state.undescribed]
        lines = preprocessing_lines(described, protocol, own)
    except ProbebenchError as error:
        raise pytest.UsageError(str(error)) from error
    lines += download_lines(state.catalog.model(name) for name in models if name in state.undescribed)
    if (store := state.resume_store) is not None:
        if store.left:
            left = f"{counted(store.left, 'finished sweep')} from an interrupted run of these cases"
            them = "it" if store.left == 1 else "them"
            lines.append(f"Reusing {left}." if options.resume else f"Found {left}; --probe-resume reuses {them}.")
        elif options.resume:
            lines.append(f"--probe-resume: {store.why_none()}; all is measured")
    return [first] if config.get_verbosity() < 0 else [first, *lines]


def summary(reporter: Reporter, state: ProbeSession) -> None:
    """Print the leaderboards and the notes at the end of a run."""
    record, notes = state.record, state.notes
    if record is not None and not record["cases"] and not record["failures"]:
        record = None
    if record is None and not state.skipped and not notes:
        return
    text = ""
    if record is not None:
        from probebench.reporting.terminal import leaderboard

        encoding = getattr(reporter.file, "encoding", None) or "ascii"
        text = leaderboard.render(
            record,
            level=state.options.leaderboard,
            width=reporter.width if reporter.isatty else None,
            color=reporter.hasmarkup,
            ascii_only=not encoding.lower().startswith("utf"),
        )
    if state.skipped:
        from probebench.reporting.availability import skipped_lines

        every = state.config.get_verbosity() > 0
        groups = {each.skipped.sweep: each.group for each in state.collected.withheld}
        lines = skipped_lines(state.skipped.values(), state.catalog, groups, every=every)
        notes = [*notes, *(Note("info", line) for line in lines)]
    shown = notes
    if state.config.get_verbosity() < -1:
        shown = [note for note in notes if note.severity != "info"]
    if text or shown:
        reporter.section("probebench")
        if text:
            reporter.write(text)
        for note in shown:
            red, yellow = note.severity == "error", note.severity == "warning"
            reporter.write_line(str(note), red=red, yellow=yellow)
    if record is not None and os.environ.get("GITHUB_ACTIONS") == "true":
        _report_to_github(reporter, state, record, notes)


def _report_to_github(reporter: Reporter, state: ProbeSession, record: Record, notes: Sequence[Note]) -> None:
    from probebench.plugin.failures import list_failures
    from probebench.reporting import github

    for line in github.report(record, list_failures(state), notes, os.environ):
        reporter.write_line(line)
