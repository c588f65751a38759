from __future__ import annotations

import pytest

from probebench.wording import signed


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.039, "+3.9"), (-0.1, "-10.0"), (-0.0005001, "-0.1"), (-0.0004, "+0.0"), (0.0, "+0.0"), (None, "")],
)
def test_a_difference_that_rounds_to_zero_has_one_sign(value, text):
    assert signed(value) == text
