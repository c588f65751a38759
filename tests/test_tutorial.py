"""Write the tutorial's files, run its commands, and compare their output with the one that it shows."""

from __future__ import annotations

import io
import re
import runpy
import shlex
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from probebench.cli import main

PAGE = Path(__file__).parent.parent / "docs" / "tutorial.md"


@dataclass(frozen=True)
class Step:
    """A file to write (`name` and `text`), or commands (`text`) and the output that is shown for the last of them."""

    line: int
    text: str
    name: str = ""
    shown: str | None = None


def steps(markdown: str) -> list[Step]:
    """List the steps of a reader: blocks below a line with a file's name in backquotes, and bash blocks."""
    found: list[Step] = []
    name, skipped, follows = "", False, False
    for token in MarkdownIt().parse(markdown):
        if token.type == "html_block":
            skipped = token.content.strip() == "<!-- not run -->"
        elif token.type == "inline":
            match = re.fullmatch(r"`([\w.]+)`:", token.content)
            name, follows = (match[1] if match else ""), False
        elif token.type == "fence":
            line = token.map[0] + 1
            if name:
                found.append(Step(line, token.content, name))
            elif token.info == "text":
                assert follows, f"line {line}: an output without a command before it"
                last = found.pop()
                found.append(Step(last.line, last.text, shown=token.content))
            else:
                assert token.info == "bash", f"line {line}: a block of {token.info!r} that is no file"
                if not skipped:
                    found.append(Step(line, token.content))
            follows = token.info == "bash" and not skipped
            name, skipped = "", False
    return found


def run(command: str, pytester: pytest.Pytester) -> tuple[int, str]:
    """Run a command in this process, because a new one would load torch again; return its exit code and output."""
    program, *args = shlex.split(command)
    if program == "pytest":
        result = pytester.runpytest_inprocess("--probe-jobs=1", *args)
        return int(result.ret), "\n".join(result.outlines)
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        if program == "probebench":
            code = main(args)
        else:
            assert program == "python", f"the tutorial runs {program}, which its test cannot"
            runpy.run_path(args[0], run_name="__main__")
            code = 0
    return code, out.getvalue()


def agrees(shown: str, printed: str) -> bool:
    """Compare an output with the one shown. A line ``...`` stands for any lines, ``...`` in a line for any text.

    On another processor the prediction of one or two images may differ. So percentages and points, which have one
    decimal, agree within 0.3, counts of more than 20 within a twentieth, and p-values in their order of magnitude.
    Other numbers must be equal.
    """
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    place, anywhere = 0, False
    for wanted in (line.strip() for line in shown.splitlines() if line.strip()):
        if wanted == "...":
            anywhere = True
            continue
        last = len(lines) if anywhere else place + 1
        found = next((i for i in range(place, min(last, len(lines))) if _line_agrees(wanted, lines[i])), None)
        if found is None:
            return False
        place, anywhere = found + 1, False
    return anywhere or place == len(lines)


_NUMBER = r"(?<![\w.])[+-]?\d+(?:\.\d+)?(?:e-\d+)?(?!\w)"


def _line_agrees(wanted: str, line: str) -> bool:
    pattern, numbers = "", []
    for part in filter(None, re.split(rf"(\.\.\.|\s+|{_NUMBER})", wanted)):
        if part == "...":
            pattern += ".*"
        elif part.isspace():
            pattern += r"\s+"
        elif re.fullmatch(_NUMBER, part):
            pattern += f"({_NUMBER})"
            numbers.append(part)
        else:
            pattern += re.escape(part)
    match = re.fullmatch(pattern, line)
    return match is not None and all(map(_close, numbers, match.groups()))


def _close(wanted: str, found: str) -> bool:
    a, b = float(wanted), float(found)
    if re.fullmatch(r"[+-]?\d+\.\d", wanted):
        return abs(a - b) < 0.35
    if wanted.isdecimal():
        return abs(a - b) <= (a / 20 if a > 20 else 0)
    return a == b or ("e-" in wanted and 0.1 < b / a < 10)


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a\n...\nd 85.8  x", "a\nb\nc\nd 85.9 x", True),
        ("a\nd 85.8", "a\nb\nd 85.8", False),
        ("d 85.8", "d 86.2", False),
        ("d 85.8", "d 85.8\ne", False),
        ("d 85.8\n...", "d 85.8\ne", True),
        ("L06-act 83.3-87.9 +3.9", "L06-act 83.4-88.0 +4.0", True),
        ("L06-act +3.9", "L07-act +3.9", False),
        ("L06-act +3.9", "L06-act -3.9", False),
        ("3 same", "4 same", False),
        ("98 lost, p = 8.3e-07", "97 lost, p = 7.9e-07", True),
        ("p = 8.3e-07", "p = 8.3e-01", False),
        ("5 passed in ...", "5 passed in 3.21s", True),
        ("...\nd", "a\nb", False),
    ],
)
def test_outputs_are_compared(shown, printed, same):
    assert agrees(shown, printed) is same


def test_the_tutorial_does_what_it_shows(pytester, monkeypatch):
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    # To start processes would take longer than these fits.
    monkeypatch.setattr("probebench.recommendation.recommender.available_cores", lambda: 1)
    for step in steps(PAGE.read_text(encoding="utf-8")):
        where = f"{PAGE.name}, line {step.line}"
        if step.name:
            Path(step.name).write_text(step.text, encoding="utf-8")
            continue
        commands = step.text.splitlines()
        for command in commands:
            code, printed = run(command, pytester)
            fails = command == commands[-1] and " failed, " in (step.shown or "")
            assert code == fails, f"{where}: {command} ended with {code}:\n{printed}"
        if step.shown is not None:
            assert agrees(step.shown, printed), f"{where}: this was printed instead:\n{printed}"
