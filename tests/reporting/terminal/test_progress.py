"""The progress bar fits into its terminal."""

from __future__ import annotations

import re

import pytest

from probebench.reporting.terminal.progress import bar
from tests.cli.helpers import Out


@pytest.mark.parametrize(("columns", "rate"), [(40, False), (100, True)])
def test_a_narrow_terminal_gets_no_rate_and_no_second_line(monkeypatch, columns, rate):
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal = Out("utf-8", terminal=True)
    with bar(terminal, "glyphvit") as shown:
        shown.start("extract", 2695)
        shown.advance(1000)
        shown.advance(1000)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", terminal.getvalue())
    drawn = [line for line in re.split(r"[\r\n]+", text) if "/2695" in line]
    assert drawn
    assert max(map(len, drawn)) <= columns
    assert "2000/2695" in text
    assert ("images/s" in text) is rate
