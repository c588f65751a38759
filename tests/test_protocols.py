from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from probebench.errors import ProbebenchError, UnknownName
from probebench.protocols import DEFAULT, FEW_SHOT_4, PAPER, PROTOCOLS, get_protocol


def test_published_protocols_never_change():
    # Baselines everywhere are tied to these: a change of meaning needs a new version, not a new hash here.
    assert {name: protocol.fingerprint for name, protocol in PROTOCOLS.items()} == {
        "default@1": "6b0d699d0a9cf28e",
        "paper@1": "c00866c85570afbe",
        "few_shot_4@1": "d63652ef76326aeb",
        "few_shot_16@1": "714e6380d9344460",
        "transfer@1": "70357b0b26931e75",
    }


@pytest.mark.parametrize("protocol", [DEFAULT, PAPER, FEW_SHOT_4], ids=lambda protocol: protocol.name)
@pytest.mark.parametrize("name", [field.name for field in fields(PAPER)])
def test_every_field_changes_the_fingerprint(name, protocol):
    other = {"shots": 7, "draws": 7}
    changes = {name: other.get(name, "other")}
    if name in other and protocol.shots is None:
        changes = other | {"name": "other"}  # the two go together
    assert replace(protocol, **changes).fingerprint != protocol.fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shots": 4}, "shots and draws go together"),
        ({"draws": 5}, "shots and draws go together"),
        ({"shots": 0, "draws": 5}, "shots must be at least 1, got 0"),
        ({"shots": 2, "draws": 0}, "draws must be at least 1, got 0"),
        ({"shots": 1, "draws": 5}, "of one training image per class none can be held out"),
    ],
)
def test_a_few_shot_protocol_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ProbebenchError, match=f"protocol 'mine': {message}"):
        replace(DEFAULT, name="mine", **changes)


def test_the_path_of_default_is_ten_values_from_strong_to_weak_evenly_spaced():
    assert DEFAULT.path is not None
    assert np.allclose(DEFAULT.path, np.logspace(-4, 2, 10), rtol=1e-12)


def test_unknown_protocols_get_the_nearest_name():
    with pytest.raises(UnknownName, match="Did you mean 'paper@1'"):
        get_protocol("paper")
