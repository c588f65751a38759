"""How much of a network's computation is saved when the blocks behind a tap are dropped."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from probebench.catalog.taps import EMBED, FINAL, Tap
from probebench.models.layouts import blocks_of


def blocks_needed(tap: Tap, depth: int) -> int:
    """How many blocks a network needs for a tap: the tap's own is kept whole, and for ``embed`` the first."""
    if tap.layer == FINAL:
        return depth
    return 1 if tap.layer == EMBED else int(tap.layer)


def saved_compute(net: nn.Module, size: int, taps: Iterable[Tap]) -> dict[Tap, float]:
    """By tap, the share in [0, 1] of the floating-point operations of one image that the blocks behind it do.

    Counted are matrix products, convolutions and attention, of everything but the classifier.

    Args:
        net: a timm vision transformer in evaluation mode
        size: side of its input in pixels
    """
    device = next(net.parameters()).device
    forward = getattr(net, "forward_features", net)
    blocks = blocks_of(net)
    with FlopCounterMode(display=False) as counter:
        up_to: list[int] = []
        handles = [block.register_forward_hook(lambda *_: up_to.append(counter.get_total_flops())) for block in blocks]
        try:
            # Fused attention is one operation, which not every device's kernels are counted of.
            with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
                forward(torch.zeros(1, 3, size, size, device=device))
        finally:
            for handle in handles:
                handle.remove()
        total = counter.get_total_flops()
    needed = {tap: blocks_needed(tap, len(blocks)) for tap in taps}
    return {tap: 1 - up_to[n - 1] / total if n < len(blocks) else 0.0 for tap, n in needed.items()}
