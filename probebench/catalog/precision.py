"""The named precisions of a forward pass.

Only the network computes in them: pooling, affine sites, probes and everything after them use float32.
"""

from __future__ import annotations

from typing import Literal

Precision = Literal["float32", "tf32", "bfloat16", "float16"]

PRECISIONS: dict[str, Precision] = {"fp32": "float32", "tf32": "tf32", "bf16": "bfloat16", "fp16": "float16"}
"""Names in protocols by the short names that users write."""

MEANING = {
    "fp32": "parameters, activations and products of matrices in float32",
    "tf32": "as fp32, but products of matrices and convolutions round their factors to 10 bits of mantissa; GPUs only",
    "bf16": "parameters and activations in bfloat16",
    "fp16": "parameters and activations in float16; activations beyond 65,504 overflow, which is an error",
}
