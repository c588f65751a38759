from __future__ import annotations

from dataclasses import fields, replace

import pytest

from probebench.errors import UnknownName
from probebench.protocols import PAPER, PROTOCOLS, get_protocol


def test_published_protocols_never_change():
    # Baselines everywhere are tied to these: a change of meaning needs a new version, not a new hash here.
    assert {name: protocol.fingerprint for name, protocol in PROTOCOLS.items()} == {"paper@1": "c00866c85570afbe"}


@pytest.mark.parametrize("name", [field.name for field in fields(PAPER)])
def test_every_field_changes_the_fingerprint(name):
    assert replace(PAPER, **{name: "other"}).fingerprint != PAPER.fingerprint


def test_unknown_protocols_get_the_nearest_name():
    with pytest.raises(UnknownName, match="Did you mean 'paper@1'"):
        get_protocol("paper")
