from __future__ import annotations

import re
from pathlib import Path

from probebench.catalog import Catalog
from probebench.cli.catalog_tables import dataset_rows, write_table
from tests.cli.helpers import Out


def test_tables_fit_the_terminal_and_its_encoding(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    rows = dataset_rows(Catalog.default(), Path("/data"), grouped=True)
    plain = Out("ascii", terminal=False)
    write_table(rows, plain)
    assert plain.getvalue().isascii()
    assert "\x1b" not in plain.getvalue()
    assert max(map(len, plain.getvalue().splitlines())) > 150
    for width in (80, 100, 150):
        monkeypatch.setenv("COLUMNS", str(width))
        terminal = Out("utf-8", terminal=True)
        write_table(rows, terminal)
        text = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
        assert "─" in text
        assert max(map(len, text.splitlines())) <= width
        assert text.split()[0] == "name"
        assert {"size", "licence", "here"} < set(text.splitlines()[0].split())
        assert ("columns that do not fit the terminal: suites" in text) == (width < 150)
