from __future__ import annotations

import pytest

from probebench._format import counted, signed
from probebench.reporting.sentences import selection_line


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.039, "+3.9"), (-0.1, "-10.0"), (-0.0005001, "-0.1"), (-0.0004, "+0.0"), (0.0, "+0.0"), (None, "")],
)
def test_a_difference_that_rounds_to_zero_has_one_sign(value, text):
    assert signed(value) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 other taps"), (1, "1 other tap"), (2, "2 other taps"), (1764, "1,764 other taps")]
)
def test_one_of_a_thing_is_singular(number, text):
    assert counted(number, "other tap") == text


@pytest.mark.parametrize(
    ("tied", "taps", "text"),
    [
        ([], 2, "0 of 1 other tap is tied with it"),
        ([], 3, "0 of 2 other taps are tied with it"),
        (["L01-act"], 3, "1 of 2 other taps is tied with it, none earlier"),
    ],
)
def test_ties_are_counted_in_grammar(tied, taps, text):
    selection = {"tap": "L01-ln1", "by": "held_out", "accuracy": 0.9, "tied": tied, "worse": taps - 1 - len(tied)}
    assert selection_line(selection | {"better": 0, "best": "L01-ln1", "optimism": 0.0}, (0.8, 0.95), taps).endswith(
        text
    )
