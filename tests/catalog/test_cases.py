from __future__ import annotations

import pytest

from probebench.catalog import Catalog
from probebench.catalog.cases import Case, CaseFilter, expand, parse_layers
from probebench.errors import UnknownName

CATALOG = Catalog.default()


def cases(**chosen):
    found = expand(CATALOG, ["glyphvit"], ["digits"], "paper@1", [CaseFilter.parse(CATALOG, **chosen)])
    return [Case(sweep, tap) for sweep, taps in found.items() for tap in taps]


def test_every_tap_is_a_case_with_a_readable_id():
    ids = [case.id for case in cases()]
    assert len(ids) == 99
    assert {"glyphvit-digits-L06-act", "glyphvit-digits-embed", "glyphvit-digits-final"} <= set(ids)


def test_suites_expand_and_repeated_names_count_once():
    found = expand(CATALOG, ["glyphvit", "glyphvit"], ["digits", "embedded"], "paper@1")
    assert [len(taps) for taps in found.values()] == 6 * [99]


@pytest.mark.parametrize(
    ("chosen", "count"),
    [
        ({"layers": ["6"]}, 8),
        ({"layers": ["4-6"], "sites": ["act", "rc2"]}, 6),
        ({"sites": ["act"]}, 12),
        ({"sites": ["act", "final"]}, 13),
        ({"layers": ["final"]}, 1),
        ({"layers": ["12", "final"], "sites": ["rc2"]}, 2),
        ({"models": ["glyphvit_random"]}, 0),
        ({"datasets": ["embedded"]}, 99),
        ({"datasets": ["glyphs"]}, 0),
    ],
)
def test_selections_keep_what_they_name(chosen, count):
    assert len(cases(**chosen)) == count


@pytest.mark.parametrize(("text", "layers"), [("6", [6]), ("L06", [6]), ("2-4", [2, 3, 4]), ("embed", ["embed"])])
def test_layers_are_read_as_people_write_them(text, layers):
    assert parse_layers(text, 12) == layers


@pytest.mark.parametrize("text", ["0", "13", "5-3", "2-13", "six", "-1", "L", "1-2-3"])
def test_layers_that_do_not_exist_are_refused(text):
    with pytest.raises(UnknownName, match="unknown layer"):
        parse_layers(text, 12)


def test_marks_carry_what_cases_are_selected_by():
    (case,) = cases(layers=["6"], sites=["act"])
    assert case.marks == {"model": "glyphvit", "dataset": "digits", "layer": 6, "site": "act"}
