"""What a run leaves on GitHub: a step summary, and one annotation for all of its cases.

GitHub shows ten annotations of a kind, so that one for each case would hide most of them.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from probebench._format import counted, first_lines, interval, percent, signed
from probebench.catalog.taps import Tap
from probebench.records.controls import controls
from probebench.records.ranking import Row, best_taps, rank
from probebench.records.tap_selection import selections
from probebench.records.trends import shift_trends
from probebench.records.types import Record
from probebench.reporting.sentences import controls_line, earliest, tally, trend_title, trends_line

LIMIT = 1024 * 1024  # bytes of a step's summary; GitHub drops a larger one whole
ROWS, FAILURES, LINES = 100, 20, 10  # shown of each table, of failures and of an annotation's complaints


def annotation(record: Record, complaints: Sequence[str], problems: Sequence[str]) -> str:
    """The workflow command: an error if something fails the run, else a notice.

    Args:
        complaints: what fails cases
        problems: what else fails the run, such as a file that could not be written
    """
    failures = [f"could not be measured: {failure['sweep']}: {_first(failure)}" for failure in record["failures"]]
    lines = [*failures, *complaints, *problems]
    bad = bool(lines) or record["interrupted"]
    if record["interrupted"]:
        lines.insert(0, "The run was interrupted; this is what had finished.")
    message = "\n".join([tally(record), *first_lines(lines, LINES)])
    return command("error" if bad else "notice", message, title="probebench")


def command(kind: str, message: str, title: str) -> str:
    """One workflow command, escaped as GitHub's runner unescapes it."""

    def escape(text: str) -> str:
        return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    return f"::{kind} title={escape(title).replace(':', '%3A').replace(',', '%2C')}::{escape(message)}"


def summary(record: Record, complaints: Sequence[str], notes: Sequence[str]) -> str:
    """The step summary in markdown.

    Args:
        complaints: what fails cases
        notes: what the run says at its end, such as where its record lies
    """
    counts = {v: [case for case in record["cases"] if case["verdict"] == v] for v in ("regressed", "improved")}
    found = [f"{len(cases)} {verdict}" for verdict, cases in counts.items() if cases]
    if record["failures"]:
        found.append(f"{counted(len(record['failures']), 'sweep')} could not be measured")
    compared = any(case["verdict"] not in ("new", "not comparable") for case in record["cases"])
    headline = ", ".join(found) or ("nothing moved" if compared else "nothing to compare with")
    protocols = sorted({f"{case['protocol']} ({case['fingerprint']})" for case in record["cases"]})
    parts = [
        f"## probebench: {headline}",
        f"{tally(record)}; protocol {', '.join(protocols) or 'none'}",
    ]
    if record["interrupted"]:
        parts.append("**The run was interrupted; this is what had finished.**")
    for verdict, cases in counts.items():
        if cases:
            parts += [f"### {verdict.capitalize()}", _moved(cases)]
    if record["failures"]:
        texts = [f"{failure['sweep']}: {_first(failure)}" for failure in record["failures"]]
        parts += ["### Could not be measured", _preformatted(texts)]
    others = [complaint for complaint in complaints if not complaint.startswith("regressed")]
    if others:
        parts += ["### Fails with `--probe-strict`", _preformatted(others)]
    ranking = rank(record)
    if best := best_taps(ranking):
        parts += ["### Best tap of each model", _best(best, selections(record))]
    if lines := [controls_line(found) for found in controls(record, ranking)]:
        parts += ["### Controls", _list(lines)]
    if lines := [f"{trend_title(regime)}: {trends_line(regime)}" for regime in shift_trends(record, ranking)]:
        parts += ["### As shift grows", _list(lines)]
    if notes:
        parts.append(_preformatted(notes))
    return "\n\n".join(parts) + "\n"


def append(path: Path, text: str) -> None:
    """Add to a step's summary what has room in it, at once and in whole lines.

    Raises:
        OSError: if it cannot be written
    """
    room = LIMIT - (path.stat().st_size if path.exists() else 0)
    data = text.encode("utf-8")
    if len(data) > room:
        cut = "\n\n(cut: a summary has room for 1 MiB; the run record has everything)\n"
        data = data[: max(0, room - len(cut))]
        data = data[: data.rfind(b"\n") + 1]
        if not data:
            return
        data += cut.encode("utf-8")
    with path.open("ab") as file:
        file.write(data)


def report(record: Record, complaints: Sequence[str], notes: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Write the step summary; returns the lines to print: the annotation, after a warning where there is one."""
    lines = []
    if where := environ.get("GITHUB_STEP_SUMMARY"):
        try:
            append(Path(where), summary(record, complaints, notes))
        except OSError as error:
            lines.append(f"WARNING: the step summary cannot be written ({error.strerror or error}): {where}")
    problems = [note for note in notes if note.startswith("ERROR")]
    return [*lines, annotation(record, complaints, problems)]


def _moved(cases: Sequence[Record]) -> str:
    cases = sorted(cases, key=lambda case: -abs(case["accuracy"] - case["baseline_accuracy"]))
    rows = [
        (case["dataset"], case["model"], Tap(case["layer"], case["site"]).id, percent(case["accuracy"]))
        + (percent(case["baseline_accuracy"]), signed(case["accuracy"] - case["baseline_accuracy"]))
        + (case["lost"], case["gained"], f"{case['p_value']:.1e}")
        for case in cases
    ]
    return _table(("dataset", "model", "tap", "accuracy %", "baseline %", "change", "lost", "gained", "p"), rows)


def _best(best: Sequence[Row], selected: Mapping[tuple[str, str], Record]) -> str:
    columns: dict[str, list[str]] = {
        "dataset": [row.case["dataset"] for row in best],
        "model": [row.case["model"] for row in best],
        "tap": [row.tap.id for row in best],
        "accuracy %": [percent(row.case["accuracy"]) for row in best],
        "95% CI": [interval(row.case["ci95"]) for row in best],
        "vs final": [signed(row.gain_final) for row in best],
        "vs rc2": [signed(row.gain_rc2) for row in best],
        "equal width": [signed(row.gain_equal_width) for row in best],
        "random": [signed(row.gain_random) for row in best],
    }
    own = [selected[row.case["model"], row.case["dataset"]] for row in best]
    columns |= {
        "tied": ["" if selection["tied"] is None else str(len(selection["tied"])) for selection in own],
        "earliest tied": [earliest(selection) for selection in own],
    }
    # What the record does not have takes no room.
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    return _table(list(columns), list(zip(*columns.values(), strict=True)))


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {html.escape(line, quote=False)}" for line in first_lines(lines, LINES))


def _table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    from tabulate import tabulate

    cells = [[html.escape(str(cell)).replace("|", "\\|") for cell in row] for row in rows[:ROWS]]
    text: str = tabulate(cells, headers=headers, tablefmt="github", disable_numparse=True)
    return text + (f"\n\nand {len(rows) - ROWS:,} more, in the run record" if len(rows) > ROWS else "")


def _preformatted(lines: Sequence[str]) -> str:
    shown = first_lines((line[:1000] for line in lines), FAILURES)
    # GitHub reads a blank line as the end of a block of HTML.
    text = "\n".join(line for line in "\n".join(shown).splitlines() if line.strip())
    return f"<pre>\n{html.escape(text)}\n</pre>"


def _first(failure: Record) -> str:
    return str(failure["error"]).partition("\n")[0]
