"""Pictures for the documentation that tools/ makes."""

from __future__ import annotations

import sys
from xml.etree import ElementTree

from probebench.records import run_record
from tests.records.samples import right, stored
from tools import screenshot_terminal


def test_a_picture_of_a_terminal_is_the_leaderboard_as_text_and_loads_nothing(tmp_path, monkeypatch):
    taps = {"L05-act": right(790), "L12-rc2": right(646), "output": right(626)}
    run = stored({("glyphvit", "digits_inverted"): taps})
    run_record.save(run.record, tmp_path / "run.json", run.correct)
    picture = tmp_path / "new" / "board.svg"
    monkeypatch.setattr(sys, "argv", ["screenshot_terminal", str(tmp_path / "run.json"), str(picture)])
    screenshot_terminal.main()

    words = " ".join(ElementTree.parse(picture).getroot().itertext()).replace("\xa0", " ").split()
    assert {"digits_inverted", "L05-act", "79.0", "64.6", "+16.4", "layer"} <= {word.strip(":,") for word in words}
    svg = picture.read_text(encoding="utf-8")
    assert "url(http" not in svg
    assert "@font-face" not in svg


def test_a_picture_keeps_colours():
    svg = screenshot_terminal.picture("plain \x1b[38;5;196mred\x1b[0m \x1b[48;5;21mon blue\x1b[0m", "a title", 40)
    assert "fill: #ff0000" in svg
    assert 'fill="#0000ff"' in svg
    assert "a title" in svg.replace("&#160;", " ")
