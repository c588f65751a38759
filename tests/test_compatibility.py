"""The table of other plugins in docs/ci.md says what tools/compatibility.py tries."""

from __future__ import annotations

import re

from tools.compatibility import BEGIN, DIFFERS, END, MATRIX, PAGE, REFUSED, WORKS, refused


def test_the_table_has_the_rows_that_the_script_tries():
    part = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    first, _, _, *rows = (line for line in part.splitlines() if line)
    assert re.fullmatch(
        r"Tried on 20\d\d-\d\d-\d\d with pytest \d+\.\d+\.\d+ by `python tools/compatibility.py`, .*:", first
    )
    assert len(rows) == len(MATRIX)
    for line, row in zip(rows, MATRIX, strict=True):
        title, version, result, note = (cell.strip() for cell in line.strip("|").split("|"))
        assert (title, result, note) == (row.title, row.result, row.note)
        assert bool(re.fullmatch(r"\d+(\.\d+)+", version)) is bool(row.plugin)


def test_what_does_not_simply_work_is_explained():
    assert {row.result for row in MATRIX} == {WORKS, DIFFERS, REFUSED}
    assert all(row.note for row in MATRIX if row.result != WORKS)
    assert all((row.check is refused) is (row.result == REFUSED) for row in MATRIX)
