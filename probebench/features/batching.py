"""Batches of views for a network, made by several threads.

Decoding and resizing release Python's lock, so threads use all cores without starting processes or copying images. On a
CPU the network uses all cores in its turn, so each batch is made after the network has finished the one before: cores
that do both at once wait for each other. For a GPU the next batches are made while it works.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch.utils.data import Dataset

from probebench.errors import ProbebenchError

TOKENS_ON_CPU, TOKENS_ON_GPU = 2**14, 2**17
"""Tokens per batch: on a CPU speed hardly depends on it and memory does; a GPU needs that many to be busy."""

MOST = 1024  # images per batch, unless the user gives a batch size
PIECE = 16  # images that one thread makes at a time
_SMALL = 64 * 64  # pixels
_AHEAD = 2  # batches that are made while a GPU works on another


class BatchSize:
    """The number of images that go through a network at a time. Once memory has run out, it stays smaller.

    Attributes:
        asked: at first
        now: at present
    """

    def __init__(self, images: int) -> None:
        self.asked = self.now = images

    @classmethod
    def for_network(cls, net: torch.nn.Module, device: str, asked: int | None = None) -> BatchSize:
        """The batch size `asked`, or else one that suits the network: a power of two that depends only on its number of
        patches and the type of the device, so that it can be reproduced."""
        if asked is not None:
            return cls(asked)
        patches = getattr(getattr(net, "patch_embed", net), "num_patches", None) or 256
        tokens = TOKENS_ON_CPU if torch.device(device).type == "cpu" else TOKENS_ON_GPU
        return cls(min(MOST, 2 ** max(0, (tokens // int(patches)).bit_length() - 1)))

    def halve(self) -> bool:
        """Halve the batch size; return False if it is one image already."""
        self.now, before = max(1, self.now // 2), self.now
        return self.now < before


def check_batch_size(images: int | None) -> None:
    """Refuse a batch size that was given by the user and is not positive.

    Raises:
        ProbebenchError: for fewer images than one
    """
    if images is not None and images < 1:
        raise ProbebenchError(f"a batch must be at least 1 image, got {images}")


def out_of_memory(error: RuntimeError) -> bool:
    """Return True if an error of torch says that memory, of a device or of the host, has run out."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)


def batches(views: Dataset[torch.Tensor], size: int, device: str) -> Iterator[torch.Tensor]:
    """Yield all views in their order, uint8 of shape (size, 3, height, width); the last batch may have fewer.

    Batches are on the host, in pinned memory if the device is a GPU.
    """
    n = len(views)  # type: ignore[arg-type]
    if n == 0:
        return
    on_gpu = torch.device(device).type == "cuda"
    first = views[0]
    # For small images most of the work holds Python's lock, and several threads would only wait for each other.
    threads = torch.get_num_threads() if first[0].numel() > _SMALL else 1

    def begin(start: int) -> tuple[torch.Tensor, list[Future[None]]]:
        with torch.inference_mode(False):  # the caller's thread may be in that mode, and other threads write here
            batch = torch.empty((min(size, n - start), *first.shape), dtype=first.dtype, pin_memory=on_gpu)

        def fill(piece: int) -> None:
            for place in range(piece, min(piece + PIECE, len(batch))):
                batch[place] = views[start + place]

        return batch, [pool.submit(fill, piece) for piece in range(0, len(batch), PIECE)]

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
