"""Correctness bits: a safetensors file of packed booleans beside a JSON file that names its SHA-256.

Baselines and run records both keep which test examples were right in such a file. If examples are not right or wrong
but have a score, it has these, as float32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from probebench.stats import Scores


def encode(tensors: Mapping[str, Scores]) -> tuple[bytes, str]:
    """The content of the file, and its SHA-256.

    Args:
        tensors: bool by name, shape (..., bits), whose last axis is packed, eight bits a byte; or float32
    """
    arrays: Mapping[str, npt.NDArray[Any]] = tensors
    content = save(
        {
            name: np.packbits(values, axis=-1) if values.dtype == np.bool_ else values.astype(np.float32)
            for name, values in arrays.items()
        }
    )
    return content, sha256(content)


def sha256(content: bytes) -> str:
    """The digest by which a JSON file names its neighbour."""
    return hashlib.sha256(content).hexdigest()


def unpack(packed: npt.NDArray[Any], n_test: int, draws: int) -> Scores:
    """The bits or scores of a tensor: of shape (..., n_test) for one draw, else (..., draws, n_test).

    Args:
        packed: uint8, bits as `encode` packs them; or float32, scores
    """
    values = packed
    if packed.dtype != np.float32:
        values = np.unpackbits(packed, axis=-1, count=n_test * draws).astype(bool)
    return values if draws == 1 else values.reshape(*values.shape[:-1], draws, n_test)
