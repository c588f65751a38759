from __future__ import annotations

import pytest

from probebench._format import duration, first_lines, list_some


@pytest.mark.parametrize(
    ("items", "text"),
    [([], ""), ("a", "a"), ("abc", "a, b, c"), ("abcd", "a, b, c and 1 more"), (range(7), "0, 1, 2 and 4 more")],
)
def test_the_first_of_many_are_listed_and_the_others_counted(items, text):
    assert list_some(items) == text


def test_how_many_are_listed_and_what_is_between_them_can_be_chosen():
    assert list_some(iter("abc"), most=2, separator="; ") == "a; b and 1 more"


def test_the_first_of_many_lines_are_kept_and_the_others_counted():
    assert first_lines(["a", "b"], 2) == ["a", "b"]
    assert first_lines(iter("abcd"), 2) == ["a", "b", "and 2 more"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (94.2, "94 s"), (720, "12 min"), (9000, "2.5 h")]
)
def test_times_are_as_people_write_them(seconds, text):
    assert duration(seconds) == text
