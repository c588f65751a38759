"""Arrays of features that are numpy arrays on the host or torch tensors on a GPU, and the operations that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from probebench.catalog.taps import Tap

HostArray = npt.NDArray[np.float32]
Array = HostArray | torch.Tensor
"""float32 of shape (images, width). Tokens are bfloat16 in torch, and the same bits as uint16 in numpy, which has no
bfloat16: see `probebench.features.tokens`."""


def allocate(widths: Mapping[Tap, int], n: int, device: str | None = None) -> dict[Tap, Array]:
    """Return an uninitialised array of shape (n, width) for each tap, of the type that its features have.

    Args:
        widths: features of each tap
        device: torch device; None for the host
    """
    if device is not None:
        kinds = {tap: torch.bfloat16 if tap.keeps_tokens else torch.float32 for tap in widths}
        return {tap: torch.empty(n, width, dtype=kinds[tap], device=device) for tap, width in widths.items()}
    # One allocation cut into a block per tap: the system backs it with large pages, which are cheaper to touch.
    pooled = {tap: width for tap, width in widths.items() if not tap.keeps_tokens}
    ends = np.cumsum([0, *pooled.values()]) * n
    blocks = np.split(np.empty(ends[-1], dtype=np.float32), ends[1:-1])
    found: dict[Tap, Array] = {
        tap: block.reshape(n, width) for (tap, width), block in zip(pooled.items(), blocks, strict=False)
    }
    found |= {tap: np.empty((n, width), dtype=np.uint16) for tap, width in widths.items() if tap.keeps_tokens}
    return found


def fill(array: Array, start: int, rows: Array) -> None:
    """Write rows into an array from row `start` on. The two may be on different devices."""
    part = slice(start, start + len(rows))
    if isinstance(array, np.ndarray):
        array[part] = on_host(rows)
    else:
        array[part] = rows if isinstance(rows, torch.Tensor) else to_device(rows, "cpu")


def take(array: Array, rows: npt.NDArray[np.int64]) -> Array:
    """Copy some rows, on the device of the array."""
    return array[rows] if isinstance(array, np.ndarray) else array[torch.from_numpy(rows)]


def join(parts: Sequence[Array]) -> Array:
    """Concatenate arrays of the same rows along their width."""
    if any(isinstance(part, torch.Tensor) for part in parts):
        with torch.inference_mode():  # as they were made
            return torch.cat([part for part in parts if isinstance(part, torch.Tensor)], dim=1)
    return np.concatenate([on_host(part) for part in parts], axis=1)


def normalise_rows(rows: Array, *, in_place: bool = False) -> Array:
    """Scale every row to unit length, except rows of zeros.

    Args:
        in_place: change the array itself where its memory can be written to
    """
    if isinstance(rows, torch.Tensor):
        with torch.inference_mode():  # as they were made
            length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
            length = length.masked_fill_(length == 0, 1)
            return rows.div_(length) if in_place else rows / length
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, np.where(norm > 0, norm, 1), out=rows if in_place and rows.flags.writeable else None)


def on_host(array: Array) -> HostArray:
    """Return the array on the host: itself if it is there already, otherwise a copy."""
    if isinstance(array, np.ndarray):
        return array
    if array.dtype == torch.bfloat16:
        return array.cpu().contiguous().view(torch.int16).numpy().view(np.uint16)
    return array.cpu().numpy()


def on_device(array: Array, device: str) -> Array:
    """Return the array on a device; for ``cpu`` the array itself, which may be mapped from a file."""
    return array if device == "cpu" else to_device(array, device)


def to_device(array: Array, device: str) -> torch.Tensor:
    """Return the array as a tensor on a device."""
    if isinstance(array, np.ndarray):
        # Torch warns of memory that cannot be written to, and does not copy it itself.
        array = np.require(array, requirements="W")
        tokens = array.dtype == np.uint16
        array = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16) if tokens else torch.from_numpy(array)
    return array.to(device)


def count_rows_not_finite(array: Array) -> int:
    """Count the rows that contain a NaN or an infinity."""
    if isinstance(array, np.ndarray):
        if array.dtype == np.uint16:
            exponent = np.uint16(0x7F80)  # of bfloat16: all ones if it is not finite
            return sum(int(((rows & exponent) == exponent).any()) for rows in array)
        return int((~np.isfinite(array)).any(axis=1).sum())
    return int((~torch.isfinite(array)).any(dim=1).sum())
