"""Count the computation saved by dropping the blocks after a tap."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from probebench.catalog.taps import EMBED, Tap
from probebench.models.layouts import blocks_of


def blocks_needed(tap: Tap, depth: int) -> int:
    """Return the number of blocks needed for a tap, including the tap's own block; 1 for ``embed``."""
    if tap.layer == EMBED:
        return 1
    return tap.layer if isinstance(tap.layer, int) else depth


def saved_compute(net: nn.Module, size: int, taps: Iterable[Tap]) -> dict[Tap, float]:
    """Return by tap the share in [0, 1] of the floating-point operations of one image in the blocks after it.

    Matrix products, convolutions and attention are counted, without the classifier.

    Args:
        net: a timm vision transformer in evaluation mode
        size: side of its input images in pixels
    """
    device = next(net.parameters()).device
    forward = getattr(net, "forward_features", net)
    blocks = blocks_of(net)
    with FlopCounterMode(display=False) as counter:
        up_to: list[int] = []
        handles = [block.register_forward_hook(lambda *_: up_to.append(counter.get_total_flops())) for block in blocks]
        try:
            # Fused attention is a single kernel, which FlopCounterMode does not count on every device.
            with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
                forward(torch.zeros(1, 3, size, size, device=device))
        finally:
            for handle in handles:
                handle.remove()
        total = counter.get_total_flops()
    needed = {tap: blocks_needed(tap, len(blocks)) for tap in taps}
    return {tap: 1 - up_to[n - 1] / total if n < len(blocks) else 0.0 for tap, n in needed.items()}
