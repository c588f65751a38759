"""Set up torch for each named precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from probebench.catalog.precision import Precision
from probebench.errors import ProbebenchError

if TYPE_CHECKING:
    import torch


def dtype_of(precision: Precision) -> torch.dtype:
    """Return the dtype of parameters and activations in that precision."""
    import torch

    return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision, torch.float32)


def check_precision(precision: Precision, device: str) -> None:
    """Check that a device supports a precision.

    Raises:
        ProbebenchError: if it does not; the message has alternatives
    """
    import torch

    if precision != "tf32":
        return
    if torch.device(device).type != "cuda":
        raise ProbebenchError(f"the precision tf32 needs a GPU, but the device is {device}: use fp32 or bf16")
    if torch.cuda.get_device_capability(device) < (8, 0):
        raise ProbebenchError("this GPU does not support tf32 (compute capability below 8.0): use fp32 or fp16")


@contextmanager
def use_precision(precision: Precision) -> Iterator[None]:
    """Make torch multiply float32 matrices in a precision within a ``with`` block.

    The switches are global to the process, not local to a thread.
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
