from __future__ import annotations

import pytest

from probebench.catalog.taps import EMBED, FINAL, SITES, Tap, all_taps
from probebench.errors import UnknownName


def test_all_taps_are_eight_a_layer_and_two_references_in_the_order_of_the_data():
    taps = all_taps(12)
    assert len(taps) == 98
    assert taps[0].id == "embed"
    assert [tap.id for tap in taps[1:9]] == [f"L01-{site}" for site in SITES]
    assert taps[-1].id == "final"
    assert sorted(set(taps)) == taps


@pytest.mark.parametrize("tap", all_taps(12), ids=lambda tap: tap.id)
def test_an_id_parses_back_to_its_tap(tap):
    assert Tap.parse(tap.id) == tap


@pytest.mark.parametrize("text", ["", "L06", "06-act", "L06-acts", "Lx-act", "rc2", "L00-act"])
def test_what_is_no_id_is_refused(text):
    with pytest.raises(UnknownName):
        Tap.parse(text)


def test_a_misspelt_site_gets_the_nearest_names():
    with pytest.raises(UnknownName, match="Did you mean 'act'"):
        Tap(3, "atc")


def test_reference_taps_have_their_name_as_site():
    assert Tap(EMBED, EMBED) < Tap(1, "ln1") < Tap(99, "rc2") < Tap(FINAL, FINAL)
    with pytest.raises(UnknownName):
        Tap(EMBED, "act")
