from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probebench.reporting.html.axes import Frame, band, line, padded, steps

FRAME = Frame(100, 80, 10, 90, 5, 65, 0.0, 2.0, -1.0, 3.0)


def test_values_lie_between_the_edges():
    assert (FRAME.x(0), FRAME.x(1), FRAME.x(2)) == (10, 50, 90)
    assert (FRAME.y(-1), FRAME.y(1), FRAME.y(3)) == (65, 35, 5)  # up is less, in SVG


@given(st.floats(-100, 100), st.floats(0.01, 1000), st.integers(2, 8))
def test_ticks_are_even_inside_and_about_as_many_as_asked(low, length, count):
    found = steps(low, low + length, count)
    slack = 1e-6 * (abs(low) + length)
    assert all(low - slack <= value <= low + length + slack for value in found)
    gaps = np.diff(found)
    assert np.allclose(gaps, gaps[:1], rtol=1e-4)
    assert count // 2 - 1 <= len(found) <= count + 1
    if len(gaps):
        mantissa = float(f"{gaps[0]:.3e}".split("e")[0])
        assert any(mantissa == pytest.approx(m, rel=1e-2) for m in (1, 2, 2.5, 5, 10))


def test_an_axis_is_no_shorter_than_asked_and_stays_in_its_bounds():
    assert padded([0.5, 0.5], 0.2) == pytest.approx((0.4, 0.6))
    assert padded([0.0, 1.0], 0.2, (0.0, 1.0)) == (0.0, 1.0)
    low, high = padded([0.2, 0.8], 0.2)
    assert low < 0.2
    assert high > 0.8


def test_paths_have_gaps():
    assert line([(0, 1), (2, 3.5), None, (4, 5)]) == "M0,1L2,3.5M4,5"
    assert band([(0, 2, 1), (1, 4, 3), None, (2, 6, 5)]) == "M0,1L1,3L1,4L0,2ZM2,5L2,6Z"
    assert line([None, None]) == band([None]) == ""
