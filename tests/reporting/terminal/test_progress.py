"""The stages of a long command where there is no terminal."""

from __future__ import annotations

import io

from probebench.reporting.terminal.progress import EVERY, _StageLines, stages


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
    assert file.getvalue().splitlines() == [
        "net on mine: weights of net, 343 MB",
        "net on mine: reading images and network",
        "net on mine: extraction, 5,000 images",
        "net on mine: extraction, 2,000 of 5,000 images",
        "net on mine: extraction, 4,000 of 5,000 images",
        "net on mine: screening, 1 tap",
    ]


def test_a_file_that_is_no_terminal_gets_lines():
    file = io.StringIO()
    with stages(file, "net on mine") as progress:
        progress.start("fit", 3)
    assert file.getvalue() == "net on mine: probing, 3 taps\n"
