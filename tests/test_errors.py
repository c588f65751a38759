from __future__ import annotations

import pytest

from probebench.errors import describe, first_line


@pytest.mark.parametrize(
    ("error", "line", "described"),
    [
        (ValueError("no such size\nof many lines"), "no such size", "ValueError: no such size"),
        (ValueError(), "ValueError", "ValueError"),
        (OSError(2, "No such file"), "[Errno 2] No such file", "FileNotFoundError: [Errno 2] No such file"),
    ],
)
def test_errors_take_one_line_in_a_message(error, line, described):
    assert first_line(error) == line
    assert describe(error) == described
