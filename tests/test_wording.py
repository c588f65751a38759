from __future__ import annotations

import pytest

from probebench.wording import counted, signed


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
