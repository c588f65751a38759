"""Report a run on GitHub: a step summary, and one annotation for all of its cases.

GitHub shows at most ten annotations of a kind, so one per case would hide most of them.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from probebench._format import counted, first_lines
from probebench.catalog.tasks import CLASSIFICATION
from probebench.errors import Note
from probebench.records.cases import change_of, tap_of
from probebench.records.types import CaseRecord, FailureRecord, Record
from probebench.records.view import MOVED, RecordView
from probebench.reporting.columns import COLUMNS, has_metric_column
from probebench.reporting.contrasts import contrast_lines
from probebench.reporting.sentences import controls_line, missing_output_line, tally, trend_title, trends_line
from probebench.reporting.variants import combination_lines, pooling_lines

LIMIT = 1024 * 1024  # bytes of a step's summary; GitHub drops a larger one whole
ROWS, FAILURES, LINES = 100, 20, 10  # shown of each table, of failures and of an annotation's complaints

_BEST = (
    *("dataset", "model", "tap", "metric", "accuracy", "interval", "output", "rc2", "equal_width", "random"),
    *("tied", "earliest"),
)
_TITLES = {"earliest": "earliest tied"}  # other titles are those of all screens


def annotation(record: Record, complaints: Sequence[str], problems: Sequence[str]) -> str:
    """The workflow command: an error if something fails the run, else a notice.

    Args:
        complaints: reasons why tests fail, and sweeps that could not be measured
        problems: other reasons why the run fails, such as a file that could not be written
    """
    lines = [*complaints, *problems]
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
        complaints: reasons why tests fail
        notes: the notes that a run prints at its end, such as where its record is stored
    """
    view = RecordView(record)
    moved = {verdict: cases for verdict in MOVED if (cases := view.cases_with(verdict))}
    found = [f"{len(cases)} {verdict}" for verdict, cases in moved.items()]
    if record["failures"]:
        found.append(f"{counted(len(record['failures']), 'sweep')} could not be measured")
    if (record["failures"] or "regressed" in moved) and not complaints:
        found[-1] += " (no test fails)"
    compared = any(case["verdict"] not in ("new", "not comparable") for case in record["cases"])
    headline = ", ".join(found) or ("nothing moved" if compared else "nothing to compare with")
    protocols = sorted({f"{case['protocol']} ({case['fingerprint']})" for case in record["cases"]})
    parts = [
        f"## probebench: {headline}",
        f"{tally(record)}; protocol {', '.join(protocols) or 'none'}",
    ]
    if record["interrupted"]:
        parts.append("**The run was interrupted; this is what had finished.**")
    for verdict, cases in moved.items():
        parts += [f"### {verdict.capitalize()}", _moved(cases, view)]
    if record["failures"]:
        texts = [f"{failure['sweep']}: {_first(failure)}" for failure in record["failures"]]
        parts += ["### Could not be measured", _preformatted(texts)]
    told = ("regressed: ", "could not be measured: ")  # above
    for title, others in (
        ("### Failed tests", [each for each in complaints if each.startswith("failed: ")]),
        ("### Fails with `--probe-strict`", [each for each in complaints if not each.startswith((*told, "failed: "))]),
    ):
        parts += [title, _preformatted(others)] if others else []
    if view.best:
        parts += ["### Best tap of each model", _best(view)]
    if line := missing_output_line(view):
        parts.append(html.escape(line, quote=False))
    if lines := contrast_lines(view):
        parts += ["### Best place by shift", _list(lines)]
    if lines := [controls_line(found) for found in view.controls]:
        parts += ["### Controls", _list(lines)]
    if lines := [*pooling_lines(view), *combination_lines(view)]:
        parts += ["### Poolings and combinations", _list(lines)]
    if lines := [f"{trend_title(trend)}: {trends_line(trend)}" for trend in view.shift_trends]:
        parts += ["### As shift grows", _list(lines)]
    if notes:
        parts.append(_preformatted(notes))
    return "\n\n".join(parts) + "\n"


def append(path: Path, text: str) -> None:
    """Append to a step's summary as many whole lines as it has room for, in one write.

    Raises:
        OSError: if it cannot be written
    """
    room = LIMIT - (path.stat().st_size if path.exists() else 0)
    data = text.encode("utf-8")
    if len(data) > room:
        cut = "\n\n(Cut: a summary can hold 1 MiB. The run record has everything.)\n"
        data = data[: max(0, room - len(cut))]
        data = data[: data.rfind(b"\n") + 1]
        if not data:
            return
        data += cut.encode("utf-8")
    with path.open("ab") as file:
        file.write(data)


def report(record: Record, complaints: Sequence[str], notes: Sequence[Note], environ: Mapping[str, str]) -> list[str]:
    """Write the step summary; returns the lines to print: the annotation, after a warning where there is one."""
    lines = []
    if where := environ.get("GITHUB_STEP_SUMMARY"):
        try:
            append(Path(where), summary(record, complaints, [str(note) for note in notes]))
        except OSError as error:
            lines.append(f"WARNING: cannot write the step summary ({error.strerror or error}): {where}")
    problems = [str(note) for note in notes if note.severity == "error"]
    return [*lines, annotation(record, complaints, problems)]


def _score(view: RecordView) -> str:
    """The title of the column of scores."""
    return "accuracy %" if view.task is CLASSIFICATION else view.score_heading


def _moved(cases: Sequence[CaseRecord], view: RecordView) -> str:
    cases = sorted(cases, key=lambda case: -abs(change_of(case) or 0.0))
    rows = [
        (case["dataset"], case["model"], tap_of(case).id, view.tasks[case["dataset"]].number(case["accuracy"]))
        + (view.tasks[case["dataset"]].number(case["baseline_accuracy"]),)
        + (view.tasks[case["dataset"]].change(change_of(case)),)
        + (case["lost"], case["gained"], f"{case['p_value']:.1e}")
        for case in cases
    ]
    baseline = "baseline %" if view.task is CLASSIFICATION else "baseline"
    return _table(("dataset", "model", "tap", _score(view), baseline, "change", "lost", "gained", "p"), rows)


def _best(view: RecordView) -> str:
    titles = _TITLES | {"accuracy": _score(view)}
    columns = {
        titles.get(key, COLUMNS[key].title): [COLUMNS[key].text(row, view.by_key[row.key]) for row in view.best]
        for key in _BEST
        if key != "metric" or has_metric_column(view)
    }
    columns = {title: cells for title, cells in columns.items() if any(cells)}  # those that the record has
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


def _first(failure: FailureRecord) -> str:
    return str(failure["error"]).partition("\n")[0]
