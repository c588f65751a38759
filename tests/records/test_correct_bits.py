from __future__ import annotations

import hashlib

import numpy as np
import pytest
from safetensors.numpy import load

from probebench.records import correct_bits

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("cases", "n_test", "draws"), [(None, 13, 1), (None, 13, 5), (3, 8, 1), (3, 13, 2)])
def test_what_is_packed_is_unpacked(cases, n_test, draws):
    shape = (() if cases is None else (cases,)) + ((n_test,) if draws == 1 else (draws, n_test))
    bits = RNG.random(shape) < 0.5
    content, digest = correct_bits.encode({"x": bits.reshape(*shape[: 0 if cases is None else 1], -1)})
    assert digest == hashlib.sha256(content).hexdigest()
    found = correct_bits.unpack(load(content)["x"], n_test, draws)
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, bits)
