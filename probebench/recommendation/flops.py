"""Count the computation saved by dropping what comes after a tap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from probebench.catalog.taps import EMBED, OUTPUT, Tap
from probebench.models.layouts import blocks_of
from probebench.models.output import output_of


def blocks_needed(taps: Iterable[Tap], depth: int) -> int:
    """Return the number of blocks needed for some taps, including the deepest tap's own block; 1 for ``embed``."""
    layers = (1 if tap.layer == EMBED else tap.layer for tap in taps)
    return max(layer if isinstance(layer, int) else depth for layer in layers)


def saved_compute(net: nn.Module, size: int, reads: Mapping[Tap, Iterable[Tap]]) -> dict[Tap, float]:
    """Return by tap the share in [0, 1] of the floating-point operations of one image that come after it.

    Matrix products, convolutions and attention are counted, up to what the network returns without a classifier.

    Args:
        net: a timm vision transformer in evaluation mode
        size: side of its input images in pixels
        reads: for each tap those that its features are read at: the members of a concatenation, or itself
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
                output_of(net, forward(torch.zeros(1, 3, size, size, device=device)))
        finally:
            for handle in handles:
                handle.remove()
        total = counter.get_total_flops()

    def share(places: list[Tap]) -> float:
        if any(place.layer == OUTPUT for place in places):
            return 0.0
        return 1 - float(up_to[blocks_needed(places, len(blocks)) - 1] / total)

    return {tap: share(list(places)) for tap, places in reads.items()}
