"""Give a network of another library the form of timm's, so that the same code reads both.

Sites are read from ``blocks``, ``norm``, ``embed_dim``, ``cls_token``, ``num_prefix_tokens`` and ``forward_features``,
as timm names them. An `Adapter` has these names, and finds the parts by a `NetworkLayout`.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature
from math import isqrt
from typing import Any

import torch
from torch import nn

from probebench.errors import LayoutError, WeightsError, describe
from probebench.models.layouts import (
    NetworkLayout,
    class_path,
    find_layout,
    find_network,
    first_argument,
    submodule,
)


class Adapter(nn.Module):
    """A network of another library in the form of timm's.

    Args:
        net: the network, which is run as it is
        inner: `net`, or the submodule of it whose blocks are read
        layout: of `inner`

    Attributes:
        num_patches: tokens of an image without the prefix tokens; 0 until `check_images` has run

    Raises:
        LayoutError: if it does not have the parts of the layout
    """

    inner: nn.Module
    blocks: nn.Module
    norm: nn.Module
    fc_norm: nn.Module | None

    def __init__(self, net: nn.Module, inner: nn.Module, layout: NetworkLayout) -> None:
        super().__init__()
        self.net = net
        self.layout = layout
        self.num_patches = 0
        # Not registered a second time as submodules.
        self.__dict__["inner"] = inner
        self.__dict__["blocks"], self._blocks_path = _find(inner, layout.blocks, layout)
        norm = next((part for path in _paths(layout.norm) if (part := submodule(inner, path)) is not None), None)
        plain = norm is None or isinstance(norm, nn.Identity)
        pooled = submodule(inner, layout.pooled_norm) if layout.pooled_norm else None
        if plain and pooled is None:
            raise LayoutError(f"{type(inner).__name__} has no norm at {' or '.join(_paths(layout.norm))}")
        self.__dict__["norm"] = nn.Identity() if plain else norm
        self.__dict__["fc_norm"] = pooled if plain else None
        self._sizable = "interpolate_pos_encoding" in signature(net.forward).parameters

    def keep_blocks(self, blocks: nn.Module) -> None:
        """Run the network with these blocks in place of its own."""
        self.__dict__["blocks"] = blocks
        owner, _, name = self._blocks_path.rpartition(".")
        setattr(self.inner.get_submodule(owner), name, blocks)

    @property
    def cls_token(self) -> torch.Tensor | None:
        return _parameter(self.inner, self.layout.class_token)

    @property
    def num_prefix_tokens(self) -> int:
        if hasattr(self.inner, "num_prefix_tokens"):
            return int(self.inner.num_prefix_tokens)  # type: ignore[arg-type]
        paths = (self.layout.class_token, *self.layout.other_tokens)
        found = [_parameter(self.inner, path) for path in paths if path]
        return sum(1 if each.ndim == 1 else each.shape[-2] for each in found if each is not None)

    @property
    def embed_dim(self) -> int:
        norm = self.norm if self.fc_norm is None else self.fc_norm
        return next((len(weight) for weight in norm.parameters()), 0)

    def forward_features(self, images: torch.Tensor) -> Any:
        """Run the network on images, normalised, shape (batch, 3, size, size), and return what it returns."""
        return self.net(images, interpolate_pos_encoding=True) if self._sizable else self.net(images)

    def forward(self, images: torch.Tensor) -> Any:
        return self.net(images)


def _paths(given: tuple[str, ...] | str) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else given


def _find(net: nn.Module, given: tuple[str, ...] | str, layout: NetworkLayout) -> tuple[nn.Module, str]:
    """Return the first submodule that exists, and its path."""
    paths = _paths(given)
    for path in paths:
        if (found := submodule(net, path)) is not None:
            return found, path
    raise LayoutError(f"{type(net).__name__} has no {' or '.join(paths)}, which the layout {layout.name!r} names")


def _parameter(net: nn.Module, path: str) -> torch.Tensor | None:
    """Return a parameter by its path; None if there is none."""
    try:
        return net.get_parameter(path) if path else None
    except AttributeError:
        return None


def adapt(net: nn.Module) -> nn.Module:
    """Return a network in the form of timm's: as it is, if it has that, or else in an `Adapter`.

    It is read itself, or the outermost submodule that a layout describes or that has timm's names.

    Raises:
        LayoutError: if no layout describes it or a part of it, or if several parts could be meant
    """
    found = list(_readable(net))
    if not found:
        raise LayoutError(
            f"no layout describes the network {class_path(net)}: write a NetworkLayout for it and register it: "
            "docs/adding-a-model.md, 'A network of your own'"
        )
    if len(found) > 1:
        paths = " and ".join(found)
        raise LayoutError(f"{class_path(net)} has {len(found)} networks that can be read, {paths}: build one of them")
    inner = net.get_submodule(next(iter(found)))
    if inner is net and hasattr(net, "num_prefix_tokens"):
        return net
    return Adapter(net, inner, find_network(inner) or _TIMM)


def _readable(net: nn.Module, path: str = "") -> Iterator[str]:
    """Yield the paths of the outermost submodules that can be read."""
    if find_network(net) is not None or (submodule(net, "blocks") is not None and submodule(net, "norm") is not None):
        yield path
        return
    for name, child in net.named_children():
        yield from _readable(child, f"{path}.{name}".removeprefix("."))


_TIMM = NetworkLayout(
    "named as in timm",
    networks=(),
    blocks="blocks",
    norm="norm",
    pooled_norm="fc_norm",
    class_token="cls_token",
    other_tokens=("dist_token", "reg_token", "register_tokens", "storage_tokens"),
)


def check_images(net: nn.Module, name: str, size: int) -> None:
    """Check that a network takes images of a size, and that its tokens have the shape (images, tokens, width).

    Raises:
        WeightsError: if it does not take them
        LayoutError: if the tokens have another shape, or no layout describes the blocks
    """
    if not isinstance(net, Adapter):
        return
    seen: list[torch.Tensor] = []
    first = next(iter(net.blocks.children()))
    find_layout(first)
    handle = first.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(first_argument(args, kwargs)), with_kwargs=True
    )
    parameter = next(net.parameters())
    try:
        with torch.inference_mode():
            net.forward_features(torch.zeros(2, 3, size, size, dtype=parameter.dtype, device=parameter.device))
    except Exception as error:  # other people's code raises many kinds
        raise WeightsError(
            f"model {name!r}: the network cannot take images of {size} pixels ({describe(error)}); "
            "set input_size in its ModelSpec"
        ) from error
    finally:
        handle.remove()
    shapes = {tuple(each.shape) for each in seen}
    if len(seen) != 1 or seen[0].ndim != 3 or seen[0].shape[0] != 2:
        raise LayoutError(
            f"model {name!r}: its blocks are given {' and '.join(map(str, shapes)) or 'nothing'} for two images; "
            "only tokens of the shape (images, tokens, width) can be read"
        )
    patches = seen[0].shape[1] - net.num_prefix_tokens
    if isqrt(max(0, patches)) ** 2 != patches:
        raise LayoutError(
            f"model {name!r}: of its {seen[0].shape[1]} tokens, {net.num_prefix_tokens} are in front of the patches, "
            f"but {patches} patches are no square; name class_token and other_tokens in its NetworkLayout"
        )
    net.num_patches = patches
