"""Read pooled features from many taps in one forward pass.

Tokens are pooled on the device inside the forward pass, as a module makes them; no token tensor is kept, so memory
beyond a bare forward pass is one vector per image and tap. Sites that follow from others by affine maps and sums are
computed from their pooled vectors (see `probebench.models.layouts`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from probebench.catalog.taps import EMBED, FINAL, Tap
from probebench.errors import LayoutError
from probebench.models.adapter import Adapter
from probebench.models.build import Model
from probebench.models.layouts import Affine, Layout, Read, Site, Sum, blocks_of, find_layout, first_argument, submodule
from probebench.models.precision import dtype_of

Pool = Callable[[torch.Tensor], torch.Tensor]

EXTRACTION = 2
"""Version of the extraction code. Increment it whenever a change alters extracted features: cached features of other
versions are not used."""


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
    return lambda tokens: _mean(_checked(tokens)[:, skip:])


def _mean(tokens: torch.Tensor) -> torch.Tensor:
    if tokens.device.type == "cpu" and tokens.dtype != torch.float32:
        # The same number, image by image: over a whole batch of wide tokens torch takes up to nine times as long.
        return torch.stack([image.mean(dim=0, dtype=torch.float32) for image in tokens])
    return tokens.mean(dim=1, dtype=torch.float32)


def _checked(tokens: torch.Tensor) -> torch.Tensor:
    if tokens.ndim != 3:
        raise LayoutError(f"tokens must have the shape (batch, tokens, width) to be pooled, got {tuple(tokens.shape)}")
    return tokens


@dataclass(frozen=True)
class _Source:
    """One pooled vector that hooks fill in during a forward pass."""

    block: int  # index from 0; -1 outside the blocks
    read: Read
    normed: bool = False  # by the last norm of the network


class TapReader:
    """Hooks that pool the tokens of the chosen taps while a network runs.

    The tap ``final`` is what the network's own head pools: tokens after the final norm; where timm has moved that norm
    behind the pooling, it is applied to the pooled vector. Attention pooling is part of a head and is not applied.

    Args:
        net: a timm vision transformer in evaluation mode, with a flat list ``blocks`` and a final ``norm``
        taps: which taps to read
        pooling: see `make_pool`

    Attributes:
        definitions: for each tap a text that changes whenever what is read there does

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
        """Make the function that returns the pooled vectors of a site after a forward pass, float32 (batch, width)."""
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
        if isinstance(self._net, Adapter):
            # Some libraries apply the norm to the class token alone, so it is applied to all tokens here.
            source = _Source(len(self._blocks) - 1, Read("", "output"), normed=True)
            self._sources[source] = None
            pooled: Callable[[], torch.Tensor] = lambda: self._pooled[source]  # noqa: E731
        else:
            pooled = self._value(-1, Read("norm", "output"))
        # timm moves the norm behind the pooling for some networks; it is applied to the pooled vector then.
        after = submodule(self._net, "fc_norm")
        if isinstance(after, nn.Identity) or after is None:
            return pooled
        norm = deepcopy(after).float()
        return lambda: norm(pooled())

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Attach the hooks to the network inside a with block."""
        handles: list[Any] = []
        try:
            for source in self._sources:
                root = self._net if source.block < 0 else self._blocks[source.block]
                module = root.get_submodule(source.read.module)
                if source.read.what == "input":
                    handles.append(module.register_forward_pre_hook(self._input_hook(source), with_kwargs=True))
                else:
                    handles.append(module.register_forward_hook(self._output_hook(source)))
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._pooled.clear()

    def _input_hook(self, source: _Source) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._pooled[source] = self._pool(first_argument(args, kwargs))

        return hook

    def _output_hook(self, source: _Source) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            tokens = output[0] if isinstance(output, tuple | list) else output
            self._pooled[source] = self._pool(self._net.get_submodule("norm")(tokens) if source.normed else tokens)

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
    """Apply an affine module to float32 vectors, whatever the precision of the network's own weights."""
    if not isinstance(module, nn.Linear):
        return module(vector).float()  # type: ignore[no-any-return]
    weight, width = module.weight.float(), module.out_features
    bias = None if module.bias is None else module.bias.float()
    if part == "first":
        return nn.functional.linear(vector[:, :width], weight[:, :width])
    if part == "rest":
        return nn.functional.linear(vector[:, width:], weight[:, width:], bias)
    return nn.functional.linear(vector, weight, bias)


def widths_of(model: Model, taps: Sequence[Tap], *, pooling: str, device: str) -> dict[Tap, int]:
    """Measure the number of features of each tap by sending an empty image through the network.

    Raises:
        LayoutError: if the network cannot be read
    """
    reader = TapReader(model.net, taps, pooling)
    size = model.spec.input_size
    with torch.inference_mode(), reader.attached():
        read = reader.read(torch.zeros(1, 3, size, size, device=device, dtype=dtype_of(model.precision)))
    return {tap: values.shape[1] for tap, values in zip(taps, read, strict=True)}
