"""Batches of views for a network, made by several threads.

Decoding and resizing release Python's lock, so threads use all cores without a process to start or images to copy. On a
CPU the network takes all cores when its turn comes, so a batch is made when the one before is done with: cores that
do both at once wait for each other. A GPU is fed ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch.utils.data import Dataset

TOKENS_ON_CPU, TOKENS_ON_GPU = 2**14, 2**17
"""Tokens per batch: on a CPU speed hardly depends on it and memory does; a GPU needs that many to be busy."""

MOST = 1024  # images per batch that nobody asked for
_PIECE = 16  # images that one thread makes at a time
_SMALL = 64 * 64  # pixels
_AHEAD = 2  # batches that are made while a GPU works on another


class BatchSize:
    """How many images go through a network at a time: smaller once memory has run out, for the rest of the sweep.

    Attributes:
        asked: how many at first
        now: how many it is
    """

    def __init__(self, images: int) -> None:
        self.asked = self.now = images

    @classmethod
    def for_network(cls, net: torch.nn.Module, device: str, asked: int | None = None) -> BatchSize:
        """What was asked for, or else suits a network: a power of two that depends on its number of patches and the
        type of the device only, so that it is the same tomorrow."""
        if asked is not None:
            return cls(asked)
        patches = getattr(getattr(net, "patch_embed", None), "num_patches", None) or 256
        tokens = TOKENS_ON_CPU if torch.device(device).type == "cpu" else TOKENS_ON_GPU
        return cls(min(MOST, 2 ** max(0, (tokens // int(patches)).bit_length() - 1)))

    def halve(self) -> bool:
        """Whether there is anything to halve."""
        self.now, before = max(1, self.now // 2), self.now
        return self.now < before


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch says that memory, of a device or of the host, has run out."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)


def batches(views: Dataset[torch.Tensor], size: int, device: str) -> Iterator[torch.Tensor]:
    """All views in their order, uint8 of shape (size, 3, height, width); the last batch may have fewer.

    They are on the host, in pinned memory where the device is a GPU.
    """
    n = len(views)  # type: ignore[arg-type]
    if n == 0:
        return
    on_gpu = torch.device(device).type == "cuda"
    first = views[0]
    # Of small images most of the work holds Python's lock: threads would only stand in each other's way.
    threads = torch.get_num_threads() if first[0].numel() > _SMALL else 1

    def begin(start: int) -> tuple[torch.Tensor, list[Future[None]]]:
        with torch.inference_mode(False):  # a mode of the caller's thread, and others are to write here
            batch = torch.empty((min(size, n - start), *first.shape), dtype=first.dtype, pin_memory=on_gpu)

        def fill(piece: int) -> None:
            for place in range(piece, min(piece + _PIECE, len(batch))):
                batch[place] = views[start + place]

        return batch, [pool.submit(fill, piece) for piece in range(0, len(batch), _PIECE)]

    pool = ThreadPoolExecutor(threads, thread_name_prefix="views")
    try:
        waiting: deque[tuple[torch.Tensor, list[Future[None]]]] = deque()
        starts = iter(range(0, n, size))
        while True:
            while len(waiting) <= (_AHEAD if on_gpu else 0) and (start := next(starts, None)) is not None:
                waiting.append(begin(start))
            if not waiting:
                return
            batch, pieces = waiting.popleft()
            for piece in pieces:
                piece.result()
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)
