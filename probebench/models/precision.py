"""The state of torch that each named precision asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from probebench.catalog.precision import Precision
from probebench.errors import ProbebenchError

if TYPE_CHECKING:
    import torch


def dtype_of(precision: Precision) -> torch.dtype:
    """What parameters and activations of a network are in that precision."""
    import torch

    return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision, torch.float32)


def check_precision(precision: Precision, device: str) -> None:
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
def use_precision(precision: Precision) -> Iterator[None]:
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
