from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from probebench.errors import UnknownName
from probebench.protocols import DEFAULT, PAPER, PROTOCOLS, get_protocol


def test_published_protocols_never_change():
    # Baselines everywhere are tied to these: a change of meaning needs a new version, not a new hash here.
    assert {name: protocol.fingerprint for name, protocol in PROTOCOLS.items()} == {
        "default@1": "6b0d699d0a9cf28e",
        "paper@1": "c00866c85570afbe",
    }


@pytest.mark.parametrize("protocol", [DEFAULT, PAPER], ids=lambda protocol: protocol.name)
@pytest.mark.parametrize("name", [field.name for field in fields(PAPER)])
def test_every_field_changes_the_fingerprint(name, protocol):
    assert replace(protocol, **{name: "other"}).fingerprint != protocol.fingerprint


def test_the_path_of_default_is_ten_values_from_strong_to_weak_evenly_spaced():
    assert DEFAULT.path is not None
    assert np.allclose(DEFAULT.path, np.logspace(-4, 2, 10), rtol=1e-12)


def test_unknown_protocols_get_the_nearest_name():
    with pytest.raises(UnknownName, match="Did you mean 'paper@1'"):
        get_protocol("paper")
