"""What a run prints: its first lines, the leaderboards and notes at its end, and what GitHub is told."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from probebench.errors import Note, ProbebenchError

if TYPE_CHECKING:
    from probebench.catalog.cases import Case
    from probebench.plugin.session import ProbeSession
    from probebench.records.types import Record


def header(state: ProbeSession, cases: Collection[Case]) -> list[str]:
    """What is going to be measured, and how images are prepared for each model.

    Raises:
        pytest.UsageError: for a spec that no network can be built from
    """
    config, options = state.config, state.options
    if not cases or config.get_verbosity() < -1:
        return []
    from probebench._format import counted
    from probebench.catalog.protocols import get_protocol

    protocol = get_protocol(options.protocol)
    what = f"{counted(len(cases), 'case')} in {counted(len({case.sweep for case in cases}), 'sweep')}"
    if state.sharding is not None and options.shard is not None:
        part, count = options.shard
        whole = f"{counted(state.family, 'case')} in {counted(state.sharding.sweeps, 'sweep')}"
        what += f" (shard {part}/{count} of {whole})"
    if state.controller is not None:
        what += f" on {counted(state.controller.workers, 'worker')}"
    if state.engine is not None and not config.option.collectonly:
        what += f" {state.engine.where}"
    first = (
        f"probebench: {what}, protocol {protocol.name} ({protocol.fingerprint}), device {options.device}, "
        f"baselines {options.baselines}"
    )
    if config.option.collectonly:
        return [first]
    from probebench.reporting.availability import preprocessing_lines

    models = dict.fromkeys(case.sweep.model for case in cases)
    own = {name: f"weights {path}" for name, path in options.weights.items()}
    try:
        lines = preprocessing_lines([state.catalog.model(name) for name in models], protocol, own)
    except ProbebenchError as error:
        raise pytest.UsageError(str(error)) from error
    if state.journal is not None and (left := state.journal.left):
        taken = "is taken as it is" if left == 1 else "are taken as they are"
        here = f"{'is' if left == 1 else 'are'} here: see --probe-resume"
        those = f"{counted(left, 'sweep')} of a run of these cases that ended early"
        lines.append(f"{those} {taken if options.resume else here}")
    elif state.journal is not None and options.resume:
        lines.append(f"--probe-resume: {state.journal.why_none()}; all is measured")
    return [first] if config.get_verbosity() < 0 else [first, *lines]


def summary(terminalreporter: Any, state: ProbeSession) -> None:
    """The leaderboards, and the notes of the run."""
    record, notes = state.record, state.notes
    if record is not None and not record["cases"] and not record["failures"]:
        record = None
    if record is None and not state.withheld and not notes:
        return
    writer, text = terminalreporter._tw, ""
    if record is not None:
        from probebench.reporting.terminal import leaderboard

        encoding = getattr(writer._file, "encoding", None) or "ascii"
        text = leaderboard.render(
            record,
            level=state.options.leaderboard,
            width=writer.fullwidth if terminalreporter.isatty else None,
            color=writer.hasmarkup,
            ascii_only=not encoding.lower().startswith("utf"),
        )
    if state.withheld:
        from probebench.reporting.availability import skipped_lines

        every = state.config.get_verbosity() > 0
        lines = skipped_lines(state.withheld.values(), state.catalog, every=every)
        notes = notes + [Note("info", line) for line in lines]
    shown = notes
    if state.config.get_verbosity() < -1:
        shown = [note for note in notes if note.severity != "info"]
    if text or shown:
        terminalreporter.section("probebench", sep="=")
        if text:
            writer.write(text)
        for note in shown:
            red, yellow = note.severity == "error", note.severity == "warning"
            terminalreporter.write_line(str(note), red=red, yellow=yellow)
    if record is not None and os.environ.get("GITHUB_ACTIONS") == "true":
        _report_to_github(terminalreporter, state, record, notes)


def _report_to_github(terminalreporter: Any, state: ProbeSession, record: Record, notes: Sequence[Note]) -> None:
    from probebench.reporting import github

    assert state.run is not None
    complaints = state.run.complaints() + [
        f"was asked for and could not be measured: {name}: {withheld.reason or 'not on this machine'}"
        for name, withheld in state.withheld.items()
        if withheld.requested and state.options.strict
    ]
    for line in github.report(record, complaints, notes, os.environ):
        terminalreporter.write_line(line)
