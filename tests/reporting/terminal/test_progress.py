"""Progress fits into its terminal, and is plain lines where there is none."""

from __future__ import annotations

import io
import re

import pytest

from probebench.reporting.terminal.progress import EVERY, _StageLines, bar, stages
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


def test_a_stage_has_a_line_at_its_start_and_then_seldom():
    file, now = io.StringIO(), [0.0]
    lines = _StageLines(file, "net on mine", clock=lambda: now[0])
    lines.start("weights of net", 343_000_000)
    lines.start("read", 0)
    lines.start("extract", 5000)
    for done in range(10):
        now[0] += EVERY / 4
        lines.advance(500)
        assert done < 9 or now[0] > 2 * EVERY
    lines.start("screen", 1)
    lines.start("search for the best pair", 8)
    assert file.getvalue().splitlines() == [
        "net on mine: weights of net, 343 MB",
        "net on mine: reading images and network",
        "net on mine: extraction, 5,000 images",
        "net on mine: extraction, 2,000 of 5,000 images",
        "net on mine: extraction, 4,000 of 5,000 images",
        "net on mine: screening, 1 tap",
        "net on mine: search for the best pair, 8 pairs",
    ]


def test_a_file_that_is_no_terminal_gets_lines():
    file = io.StringIO()
    with stages(file, "net on mine") as progress:
        progress.start("fit", 3)
    assert file.getvalue() == "net on mine: probing, 3 taps\n"
