from __future__ import annotations

import pytest

from probebench.catalog.taps import COMBINATIONS, EMBED, FINAL, SITES, Tap, all_taps
from probebench.errors import UnknownName


def test_all_taps_are_eight_a_layer_and_three_references_in_the_order_of_the_data():
    taps = all_taps(12)
    assert len(taps) == 99
    assert taps[0].id == "embed"
    assert [tap.id for tap in taps[1:9]] == [f"L01-{site}" for site in SITES]
    assert [tap.id for tap in taps[-2:]] == ["final", "output"]
    assert sorted(set(taps)) == taps


EVERY = all_taps(12, ("cls", "cls+patch_mean"), COMBINATIONS)


def test_poolings_follow_their_tap_and_combinations_come_last():
    assert len(EVERY) == 3 * 98 + 1 + 3 + 2
    assert [tap.id for tap in EVERY[:4]] == ["embed", "embed.cls", "embed.cls+patch_mean", "L01-ln1"]
    assert [tap.id for tap in EVERY[-6:]] == ["output", "last4", "last4.cls", "last4.cls+patch_mean", "pair", "triple"]
    assert EVERY[1].plain == EVERY[0]


@pytest.mark.parametrize("tap", EVERY, ids=lambda tap: tap.id)
def test_an_id_parses_back_to_its_tap(tap):
    assert Tap.parse(tap.id) == tap


@pytest.mark.parametrize(
    "text", ["", "L06", "06-act", "L06-acts", "Lx-act", "rc2", "L00-act", "L01-act.max", "output.cls", "pair.mean"]
)
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
