"""Correctness bits: a safetensors file of packed booleans beside a JSON file that names its SHA-256.

Baselines and run records both keep which test examples were right in such a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save


def encode(tensors: Mapping[str, npt.NDArray[np.bool_]]) -> tuple[bytes, str]:
    """The content of the file, and its SHA-256.

    Args:
        tensors: bool by name, shape (..., bits); the last axis is packed, eight bits a byte
    """
    content = save({name: np.packbits(bits, axis=-1) for name, bits in tensors.items()})
    return content, sha256(content)


def sha256(content: bytes) -> str:
    """The digest by which a JSON file names its neighbour."""
    return hashlib.sha256(content).hexdigest()


def unpack(packed: npt.NDArray[np.uint8], n_test: int, draws: int) -> npt.NDArray[np.bool_]:
    """The bits of a tensor, of shape (..., n_test) for one draw of the training set, else (..., draws, n_test)."""
    bits = np.unpackbits(packed, axis=-1, count=n_test * draws).astype(bool)
    return bits if draws == 1 else bits.reshape(*bits.shape[:-1], draws, n_test)
