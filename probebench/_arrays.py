"""Features on the host, as arrays of numpy, or on a GPU, as tensors of torch: what differs between the two."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from probebench.catalog.taps import Tap

HostArray = npt.NDArray[np.float32]
Array = HostArray | torch.Tensor
"""float32 of shape (images, width)."""


def allocate(widths: Mapping[Tap, int], n: int, device: str | None = None) -> dict[Tap, Array]:
    """An array of shape (n, width) for each tap, not filled; on the host if no device is named."""
    if device is not None:
        return {tap: torch.empty(n, width, dtype=torch.float32, device=device) for tap, width in widths.items()}
    # One allocation cut into a block per tap: the system backs it with large pages, which are cheaper to touch.
    ends = np.cumsum([0, *widths.values()]) * n
    blocks = np.split(np.empty(ends[-1], dtype=np.float32), ends[1:-1])
    return {tap: block.reshape(n, width) for (tap, width), block in zip(widths.items(), blocks, strict=False)}


def fill(array: Array, start: int, rows: Array) -> None:
    """Write rows into an array, wherever they and it are."""
    part = slice(start, start + len(rows))
    if isinstance(array, np.ndarray):
        array[part] = on_host(rows)
    else:
        array[part] = rows if isinstance(rows, torch.Tensor) else torch.from_numpy(rows)


def take(array: Array, rows: npt.NDArray[np.int64]) -> Array:
    """A copy of some rows, where the array is."""
    return array[rows] if isinstance(array, np.ndarray) else array[torch.from_numpy(rows)]


def on_host(array: Array) -> HostArray:
    """The same on the host; a copy only if it is elsewhere."""
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()


def on_device(array: Array, device: str) -> Array:
    """The same on a device; on a CPU as it is, which may be mapped from a file."""
    return array if device == "cpu" else to_device(array, device)


def to_device(array: Array, device: str) -> torch.Tensor:
    """As a tensor on a device."""
    if isinstance(array, np.ndarray):
        # Torch warns of memory that cannot be written to, and does not copy it itself.
        array = torch.from_numpy(np.require(array, requirements="W"))
    return array.to(device)


def rows_not_finite(array: Array) -> int:
    """How many rows have a NaN or an infinity."""
    if isinstance(array, np.ndarray):
        return int((~np.isfinite(array)).any(axis=1).sum())
    return int((~torch.isfinite(array)).any(dim=1).sum())
