"""The named precisions of a forward pass, and the state of torch that each of them asks for.

Only the network computes in them: pooling sums in float32, and so do affine sites, probes and all that follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from probebench.errors import ProbebenchError

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "tf32", "bfloat16", "float16"]

PRECISIONS: dict[str, Precision] = {"fp32": "float32", "tf32": "tf32", "bf16": "bfloat16", "fp16": "float16"}
"""Short names, as users write them, and what a protocol calls them."""

MEANING = {
    "fp32": "parameters, activations and products of matrices in float32",
    "tf32": "as fp32, but products of matrices and convolutions round their factors to 10 bits of mantissa; GPUs only",
    "bf16": "parameters and activations in bfloat16",
    "fp16": "parameters and activations in float16; activations beyond 65,504 overflow, which is an error",
}


def dtype_of(precision: Precision) -> torch.dtype:
    """What parameters and activations of a network are in that precision."""
    import torch

    return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision, torch.float32)


def check(precision: Precision, device: str) -> None:
    """Can this device compute in that precision?

    Raises:
        ProbebenchError: if it cannot, with what to use instead
    """
    import torch

    if precision != "tf32":
        return
    if torch.device(device).type != "cuda":
        raise ProbebenchError(f"the precision tf32 is one of GPUs, and the device is {device}: use fp32 or bf16")
    if torch.cuda.get_device_capability(device) < (8, 0):
        raise ProbebenchError("this GPU has no tf32 (compute capability below 8.0): use fp32 or fp16")


@contextmanager
def applied(precision: Precision) -> Iterator[None]:
    """Torch multiplies float32 matrices as the precision says inside this block, and as before after it.

    Torch's switches belong to the process, not to a thread.
    """
    import torch

    matmul, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = convolutions
