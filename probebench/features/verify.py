"""Check that a layout which was found by the names of a block's parts alone describes what the block computes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from probebench.catalog.taps import EMBED, Tap
from probebench.errors import LayoutError
from probebench.features.hooks import TapReader
from probebench.models.build import Model
from probebench.models.layouts import Affine, Concat, Read, Site, blocks_of, class_path, find_layout, is_listed

IMAGES = 4
"""Random images; a layer scale has one number a channel, and all images must agree on it."""

_STEPS = (("rc1", "in", "mha", "attention"), ("rc2", "rc1", "fc2", "the feed-forward network"))


def verify_blocks(model: Model) -> None:
    """Check the layouts of blocks whose classes no layout names, on random images.

    In a pre-norm block the stream after attention is the stream before it plus the output of attention, channel by
    channel times a constant (a layer scale); likewise for the feed-forward network. Norms read the stream, and hidden
    layers the second norm.

    Raises:
        LayoutError: if a block computes something else
    """
    net, name, seen = model.net, model.spec.name, set()
    for index, block in enumerate(blocks_of(net)):
        kind = class_path(block)
        if kind in seen or is_listed(block):
            continue
        seen.add(kind)
        if (wrong := _disagreement(net, index, model.spec.input_size)) is not None:
            raise LayoutError(
                f"model {name!r}: the parts of {kind} have the names of the layout {find_layout(block).name!r}, but "
                f"{wrong}: write a Layout for it and register it: docs/adding-a-model.md, 'A network of your own'"
            )


def _disagreement(net: nn.Module, index: int, size: int) -> str | None:
    """Return what a block does otherwise than its layout says, or None."""
    block = blocks_of(net)[index]
    sites = find_layout(block).sites
    before = Tap(EMBED, EMBED) if index == 0 else Tap(index, "rc2")
    taps = {"in": before} | {site: Tap(index + 1, site) for site in ("rc1", "rc2", "mha", "fc2", "fc1")}
    normed, hidden = _normed(sites), _hidden(sites)
    first = _Kept(block.get_submodule(normed), "input")
    outputs = [_Kept(block.get_submodule(path), "output") for path in hidden]
    reader = TapReader(net, list(taps.values()), "mean")
    parameter = next(net.parameters())
    images = torch.randn(IMAGES, 3, size, size, generator=torch.Generator().manual_seed(0))
    try:
        with torch.inference_mode(), reader.attached():
            found = dict(zip(taps, reader.read(images.to(parameter.device, parameter.dtype)), strict=True))
    finally:
        for each in (first, *outputs):
            each.handle.remove()
    for after, start, branch, what in _STEPS:
        if not _adds(found[after], found[start], found[branch]):
            return f"its stream is not the sum of what it was and of {what}"
    if not _close(first.pooled, found["in"]):
        return "its first norm does not read the stream"
    if not _close(torch.cat([each.pooled for each in outputs], dim=1), found["fc1"]):
        return "its hidden layer does not read the second norm"
    return None


def _normed(sites: Mapping[str, Site]) -> str:
    """The first norm."""
    site = sites["ln1"]
    assert isinstance(site, Read)
    return site.module


def _hidden(sites: Mapping[str, Site]) -> list[str]:
    """The linear layers that the feed-forward network begins with."""
    site = sites["fc1"]
    parts = site.of if isinstance(site, Concat) else (site,)
    return [part.module for part in parts if isinstance(part, Affine)]


class _Kept:
    """Keeps the average over tokens of what a module reads or returns."""

    pooled: torch.Tensor

    def __init__(self, module: nn.Module, what: str) -> None:
        if what == "input":
            self.handle = module.register_forward_pre_hook(lambda _, args: self._pool(args[0]))
        else:
            self.handle = module.register_forward_hook(lambda _, args, output: self._pool(output))

    def _pool(self, tokens: torch.Tensor) -> None:
        self.pooled = tokens.float().mean(dim=1)


def _adds(after: torch.Tensor, before: torch.Tensor, branch: torch.Tensor) -> bool:
    """Return whether `after` is `before` plus `branch` times one number a channel; all of shape (images, width)."""
    if after.shape != branch.shape:
        return False
    added = after - before
    scale = (added * branch).sum(dim=0) / (branch * branch).sum(dim=0).clamp_min(1e-30)
    off = (added - scale * branch).norm()
    return bool(off <= 1e-3 * added.norm() + 1e-5 * before.norm())


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and bool((one - other).norm() <= 1e-3 * other.norm())
