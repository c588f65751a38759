"""Read pooled features from many taps in one forward pass.

Tokens are pooled on the device inside the forward pass, as a module makes them; no token tensor is kept, so memory
beyond a bare forward pass is one vector per image and tap. Sites that follow from others by affine maps and sums are
computed from their pooled vectors (see `probebench.layouts`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from probebench.errors import FeatureError, LayoutError
from probebench.layouts import Affine, Layout, Read, Site, Sum, blocks_of, find_layout, submodule
from probebench.models import Model
from probebench.sites import EMBED, FINAL, Tap
from probebench.views import Views

Pool = Callable[[torch.Tensor], torch.Tensor]

EXTRACTION = 1
"""Raised whenever features come out differently for the same network, tap and images: kept ones are then not used."""


def make_pool(net: nn.Module, pooling: str) -> Pool:
    """The function that pools tokens of shape (batch, tokens, width) to float32 of shape (batch, width).

    Args:
        pooling: ``mean`` over all tokens, ``patch_mean`` over all but the prefix tokens (class, distillation and
            register tokens, however many), ``cls`` for the class token

    Raises:
        LayoutError: for ``cls`` on a network without a class token
    """
    prefix = int(getattr(net, "num_prefix_tokens", 0))
    if pooling == "cls":
        # NaFlexVit keeps its tokens in the module that embeds. Wherever there is a class token, timm puts it first.
        if all(getattr(owner, "cls_token", None) is None for owner in (net, getattr(net, "embeds", None))):
            raise LayoutError(f"{type(net).__name__} has no class token to pool; choose mean or patch_mean")
        return lambda tokens: _checked(tokens)[:, 0].float()
    skip = prefix if pooling == "patch_mean" else 0
    return lambda tokens: _checked(tokens)[:, skip:].mean(dim=1, dtype=torch.float32)


def _checked(tokens: torch.Tensor) -> torch.Tensor:
    if tokens.ndim != 3:
        raise LayoutError(f"tokens must have the shape (batch, tokens, width) to be pooled, got {tuple(tokens.shape)}")
    return tokens


@dataclass(frozen=True)
class _Source:
    """One pooled vector that hooks fill in during a forward pass."""

    block: int  # index from 0; -1 for what lies outside the blocks
    read: Read


class Taps:
    """Hooks that pool the tokens of the chosen taps while a network runs.

    The tap ``final`` is what the network's own head pools: tokens after the final norm; where timm has moved that norm
    behind the pooling, it is applied to the pooled vector. Attention pooling is part of a head and is not applied.

    Args:
        net: a timm vision transformer in evaluation mode, with a flat list ``blocks`` and a final ``norm``
        taps: which taps to read
        pooling: see `make_pool`

    Attributes:
        definitions: for each tap what is read there, in words that change when that does

    Raises:
        LayoutError: if no layout describes a block that is to be read, or if the network is in training mode, where
            dropping patches and paths changes what is read
    """

    def __init__(self, net: nn.Module, taps: Sequence[Tap], pooling: str) -> None:
        if net.training:
            raise LayoutError(f"{type(net).__name__} is in training mode; call eval() on it before reading features")
        self.taps = list(taps)
        self._net = net
        self._pool = make_pool(net, pooling)
        self._pooled: dict[_Source, torch.Tensor] = {}
        self._sources: dict[_Source, None] = {}  # in the order of the taps
        self._blocks = blocks_of(net)
        layouts: dict[int, Layout] = {}
        self._values: list[Callable[[], torch.Tensor]] = []
        self.definitions: list[str] = []
        for tap in self.taps:
            if tap.layer == EMBED:
                site: Site = Read("", "input")
                self._values.append(self._value(0, site))
                self.definitions.append(f"{tap.id} {site!r}")
            elif tap.layer == FINAL:
                self._values.append(self._final())
                self.definitions.append(f"{tap.id} {submodule(net, 'norm')!r} {submodule(net, 'fc_norm')!r}")
            else:
                assert isinstance(tap.layer, int)
                index = tap.layer - 1
                if index >= len(self._blocks):
                    raise LayoutError(f"tap {tap.id}: the network has {len(self._blocks)} layers")
                if index not in layouts:
                    layouts[index] = find_layout(self._blocks[index])
                site = layouts[index].sites[tap.site]
                self._values.append(self._value(index, site))
                self.definitions.append(f"{tap.id} {site!r}")

    def _value(self, index: int, site: Site) -> Callable[[], torch.Tensor]:
        """What gives the pooled vectors of a site after a forward pass, float32 of shape (batch, width)."""
        if isinstance(site, Read):
            source = _Source(index, site)
            self._sources[source] = None
            return lambda: self._pooled[source]
        if isinstance(site, Affine):
            module, part, of = self._blocks[index].get_submodule(site.module), site.part, self._value(index, site.of)
            return lambda: _apply(module, of(), part)
        parts = [self._value(index, one) for one in site.of]
        if isinstance(site, Sum):
            return lambda: torch.stack([part() for part in parts]).sum(dim=0)
        return lambda: torch.cat([part() for part in parts], dim=1)

    def _final(self) -> Callable[[], torch.Tensor]:
        if submodule(self._net, "norm") is None:
            raise LayoutError(f"{type(self._net).__name__} has no final norm to read the tap 'final' from")
        pooled = self._value(-1, Read("norm", "output"))
        # timm moves the norm behind the pooling for some networks; it is applied to the pooled vector then.
        after = submodule(self._net, "fc_norm")
        if isinstance(after, nn.Identity) or after is None:
            return pooled
        norm = deepcopy(after).float()
        return lambda: norm(pooled())

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hooks are on the network inside this block and gone after it."""
        handles: list[Any] = []
        try:
            for source in self._sources:
                root = self._net if source.block < 0 else self._blocks[source.block]
                module = root.get_submodule(source.read.module)
                if source.read.what == "input":
                    handles.append(module.register_forward_pre_hook(self._input_hook(source)))
                else:
                    handles.append(module.register_forward_hook(self._output_hook(source)))
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._pooled.clear()

    def _input_hook(self, source: _Source) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            self._pooled[source] = self._pool(args[0])

        return hook

    def _output_hook(self, source: _Source) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            self._pooled[source] = self._pool(output)

        return hook

    def read(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Send images, normalised, shape (batch, 3, size, size), through the network while it is attached; `collect`.

        Without gradients wherever the caller has switched them off.
        """
        getattr(self._net, "forward_features", self._net)(images)
        return self.collect()

    def collect(self) -> list[torch.Tensor]:
        """The pooled features of the last forward pass, one float32 tensor of shape (batch, width) per tap."""
        return [value() for value in self._values]


def _apply(module: nn.Module, vector: torch.Tensor, part: Literal["whole", "first", "rest"]) -> torch.Tensor:
    """An affine module on float32 vectors, also where the network's own weights are of other precision."""
    if not isinstance(module, nn.Linear):
        return module(vector).float()  # type: ignore[no-any-return]
    weight, width = module.weight.float(), module.out_features
    bias = None if module.bias is None else module.bias.float()
    if part == "first":
        return nn.functional.linear(vector[:, :width], weight[:, :width])
    if part == "rest":
        return nn.functional.linear(vector[:, width:], weight[:, width:], bias)
    return nn.functional.linear(vector, weight, bias)


class Store:
    """Features of many taps on the host, filled batch by batch.

    Attributes:
        arrays: per tap float32 of shape (n, width)
    """

    def __init__(self, taps: Sequence[Tap], n: int) -> None:
        self.arrays: dict[Tap, npt.NDArray[np.float32]] = {}
        self._taps, self._n, self._row = list(taps), n, 0

    def put(self, features: Sequence[torch.Tensor]) -> None:
        """Append the rows of one batch: per tap a float32 tensor of shape (batch, width) on any device."""
        if not self.arrays:
            widths = [feature.shape[1] for feature in features]
            self.arrays = allocate(dict(zip(self._taps, widths, strict=True)), self._n)
        end = self._row + len(features[0])
        for tap, values in zip(self._taps, on_host(features), strict=True):
            self.arrays[tap][self._row : end] = values
        self._row = end


def allocate(widths: Mapping[Tap, int], n: int) -> dict[Tap, npt.NDArray[np.float32]]:
    """An array of shape (n, width) for each tap, not filled."""
    # One allocation cut into a block per tap: the system backs it with large pages, which are cheaper to touch.
    ends = np.cumsum([0, *widths.values()]) * n
    blocks = np.split(np.empty(ends[-1], dtype=np.float32), ends[1:-1])
    return {tap: block.reshape(n, width) for (tap, width), block in zip(widths.items(), blocks, strict=False)}


def on_host(features: Sequence[torch.Tensor]) -> list[npt.NDArray[np.float32]]:
    """The features of one batch as arrays: per tap float32 of shape (batch, width)."""
    if features[0].device.type != "cpu":
        # One copy for all taps: a hundred small ones would wait for the device a hundred times.
        features = torch.split(torch.cat(list(features), dim=1).cpu(), [f.shape[1] for f in features], dim=1)
    return [feature.numpy() for feature in features]


def forward(
    model: Model,
    views: Dataset[torch.Tensor],
    taps: Sequence[Tap],
    put: Callable[[Sequence[torch.Tensor]], None],
    *,
    pooling: str,
    mean: torch.Tensor,
    std: torch.Tensor,
    batch_size: int,
    device: str,
) -> None:
    """Send views through the network, batch by batch, in their order.

    Args:
        put: called with the pooled features of each batch, per tap float32 of shape (batch, width) on the device
        mean, std: of the pixels, float32 of shape (3, 1, 1)

    Raises:
        LayoutError: if the network cannot be read
    """
    reader = Taps(model.net, taps, pooling)
    mean, std = mean.to(device), std.to(device)
    with torch.inference_mode(), reader.attached():
        for batch in DataLoader(views, batch_size=batch_size):
            put(reader.read(batch.to(device).float().div_(255).sub_(mean).div_(std)))


def widths_of(model: Model, taps: Sequence[Tap], *, pooling: str, device: str) -> dict[Tap, int]:
    """How many features each tap has, from sending an empty image through the network.

    Raises:
        LayoutError: if the network cannot be read
    """
    reader = Taps(model.net, taps, pooling)
    size = model.spec.input_size
    with torch.inference_mode(), reader.attached():
        read = reader.read(torch.zeros(1, 3, size, size, device=device))
    return {tap: values.shape[1] for tap, values in zip(taps, read, strict=True)}


def extract(
    model: Model,
    views: Views,
    taps: Sequence[Tap],
    *,
    pooling: str,
    mean: torch.Tensor,
    std: torch.Tensor,
    batch_size: int,
    device: str,
    progress: Callable[[int], None] | None = None,
) -> dict[Tap, npt.NDArray[np.float32]]:
    """Pooled features of every view at every tap, from one pass over the views.

    Args:
        mean, std: of the pixels, float32 of shape (3, 1, 1)
        progress: called with the number of images of each finished batch

    Returns:
        for each tap a float32 array of shape (len(views), width of the tap)

    Raises:
        FeatureError: if a feature is NaN or infinite; the message names the taps
        LayoutError: if the network cannot be read
    """
    store = Store(taps, len(views))

    def put(features: Sequence[torch.Tensor]) -> None:
        store.put(features)
        if progress is not None:
            progress(len(features[0]))

    forward(model, views, taps, put, pooling=pooling, mean=mean, std=std, batch_size=batch_size, device=device)
    refuse_non_finite(model.spec.name, store.arrays)
    return store.arrays


def refuse_non_finite(model: str, store: Mapping[Tap, npt.NDArray[np.float32]]) -> None:
    """Raises FeatureError if there is a NaN or an infinity among the features of some images."""
    bad = {tap: int((~np.isfinite(values)).any(axis=1).sum()) for tap, values in store.items()}
    bad = {tap: count for tap, count in bad.items() if count}
    if bad:
        first, *rest = sorted(bad)
        more = f" and {len(rest)} taps more, up to {rest[-1].id}" if rest else ""
        total = len(next(iter(store.values())))
        raise FeatureError(
            f"features of model {model!r} are NaN or infinite at {first.id} ({bad[first]} of {total} images){more}. "
            "Weights that overflow, or a damaged checkpoint, do this; the first tap named is where it starts"
        )
