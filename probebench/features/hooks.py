"""Read pooled features from many taps in one forward pass.

Tokens are pooled on the device inside the forward pass, as a module makes them; no token tensor is kept, so memory
beyond a bare forward pass is one vector per image and tap. Sites that follow from others by affine maps and sums are
computed from their pooled vectors (see `probebench.models.layouts`). Taps that keep their tokens are the exception:
there the same maps are applied token by token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from probebench.catalog.taps import EMBED, FINAL, OUTPUT, Tap
from probebench.errors import LayoutError
from probebench.features.pooling import TokenPooling
from probebench.models.adapter import Adapter
from probebench.models.build import Model
from probebench.models.layouts import Affine, Layout, Read, Site, Sum, blocks_of, find_layout, first_argument, submodule
from probebench.models.output import describe_output, output_of
from probebench.models.precision import dtype_of

_Value = Callable[[], torch.Tensor]
"""Returns features of the last forward pass, float32 of shape (batch, width); tokens (batch, tokens, width)."""

EXTRACTION = 2
"""Version of the extraction code. Increment it whenever a change alters extracted features: cached features of other
versions are not used."""


@dataclass(frozen=True)
class _Source:
    """A place whose tokens hooks pool during a forward pass."""

    block: int  # index from 0; -1 outside the blocks
    read: Read
    normed: bool = False  # by the last norm of the network


class TapReader:
    """Hooks that pool the tokens of the chosen taps while a network runs.

    The tap ``final`` has the tokens after the final norm; where timm has moved that norm behind the pooling, it is
    applied to the pooled vector. ``output`` is what the network returns, see `probebench.models.output`. ``last4`` has
    the outputs of the last four blocks, each behind the final norm, one after the other.

    Args:
        net: a timm vision transformer in evaluation mode, with a flat list ``blocks`` and a final ``norm``
        taps: which taps to read
        pooling: of the taps that name none of their own, see `probebench.catalog.taps.POOLINGS`

    Attributes:
        definitions: for each tap a text that changes whenever what is read there does

    Raises:
        LayoutError: if no layout describes a block that is to be read, if the network has no class token that is to be
            read, or if it is in training mode, where dropping patches and paths changes what is read
    """

    def __init__(self, net: nn.Module, taps: Sequence[Tap], pooling: str) -> None:
        if net.training:
            raise LayoutError(f"{type(net).__name__} is in training mode; call eval() on it before reading features")
        self.taps = list(taps)
        self._net = net
        self._pooling = TokenPooling(net)
        self._pooled: dict[_Source, dict[str, torch.Tensor]] = {}
        self._sources: dict[_Source, set[str]] = {}  # in the order of the taps, with the parts of poolings
        self._output: torch.Tensor | None = None
        self._reads_output = False
        self._blocks = blocks_of(net)
        self._layouts: dict[int, Layout] = {}
        self._values: list[_Value] = []
        self.definitions: list[str] = []
        for tap in self.taps:
            own = tap.pooling or pooling
            self._pooling.check(own if tap.pools else "")
            value, definition = self._define(tap, own)
            self._values.append(value)
            self.definitions.append(f"{tap.id} {definition}")

    def _define(self, tap: Tap, pooling: str) -> tuple[_Value, str]:
        """Make the function that returns the features of a tap after a forward pass, and describe what is read."""
        net = self._net
        if tap.layer == OUTPUT:
            self._reads_output = True
            return self._take_output, describe_output(net)
        if tap.layer == EMBED:
            site: Site = Read("", "input")
            return self._value(0, site, pooling), repr(site)
        if tap.layer in (FINAL, "last4"):
            norms = f"{submodule(net, 'norm')!r} {submodule(net, 'fc_norm')!r}"
            return (self._final(pooling) if tap.layer == FINAL else self._last4(pooling)), norms
        if not isinstance(tap.layer, int):
            raise LayoutError(f"the tap {tap.id} is made of others, and cannot be read from a network")
        index = tap.layer - 1
        if index >= len(self._blocks):
            raise LayoutError(f"tap {tap.id}: the network has {len(self._blocks)} layers")
        if index not in self._layouts:
            self._layouts[index] = find_layout(self._blocks[index])
        site = self._layouts[index].sites[tap.site]
        return self._value(index, site, pooling), repr(site)

    def _value(self, index: int, site: Site, pooling: str) -> _Value:
        """Make the function that returns the pooled vectors of a site after a forward pass, float32 (batch, width)."""
        if "+" in pooling:
            return _join([self._value(index, site, part) for part in pooling.split("+")])
        if isinstance(site, Read):
            return self._read(_Source(index, site), pooling)
        if isinstance(site, Affine):
            module, part = self._blocks[index].get_submodule(site.module), site.part
            of = self._value(index, site.of, pooling)
            return lambda: _apply(module, of(), part)
        parts = [self._value(index, one, pooling) for one in site.of]
        if isinstance(site, Sum):
            return lambda: torch.stack([part() for part in parts]).sum(dim=0)
        return _join(parts)

    def _read(self, source: _Source, part: str) -> _Value:
        self._sources.setdefault(source, set()).add(part)
        return lambda: self._pooled[source][part]

    def _final(self, pooling: str) -> _Value:
        # Some libraries apply the norm to the class token alone, so it is applied to all tokens here.
        if isinstance(self._net, Adapter):
            return self._normed(len(self._blocks) - 1, pooling)
        self._require_norm()
        return self._pool_normed(_Source(-1, Read("norm", "output")), pooling)

    def _last4(self, pooling: str) -> _Value:
        if len(self._blocks) < 4:
            raise LayoutError(f"tap last4: {type(self._net).__name__} has only {len(self._blocks)} layers")
        last = len(self._blocks) - 1
        return _join([*(self._normed(index, pooling) for index in range(last - 3, last)), self._final(pooling)])

    def _normed(self, index: int, pooling: str) -> _Value:
        """The output of a block behind the final norm."""
        self._require_norm()
        return self._pool_normed(_Source(index, Read("", "output"), normed=True), pooling)

    def _require_norm(self) -> None:
        if submodule(self._net, "norm") is None:
            raise LayoutError(f"{type(self._net).__name__} has no final norm to read the tap 'final' from")

    def _pool_normed(self, source: _Source, pooling: str) -> _Value:
        parts = [self._read(source, part) for part in pooling.split("+")]
        # timm moves the norm behind the pooling for some networks; it is applied to the pooled vector then.
        after = submodule(self._net, "fc_norm")
        if not (isinstance(after, nn.Identity) or after is None):
            norm = deepcopy(after).float()
            parts = [partial(_call, norm, part) for part in parts]
        return _join(parts)

    def _take_output(self) -> torch.Tensor:
        assert self._output is not None
        return self._output

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
            self._output = None

    def _input_hook(self, source: _Source) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._pooled[source] = self._pooling.pool(first_argument(args, kwargs), self._sources[source])

        return hook

    def _output_hook(self, source: _Source) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            tokens = output[0] if isinstance(output, tuple | list) else output
            if source.normed:
                tokens = self._net.get_submodule("norm").forward(tokens)  # not by a call, which would run other hooks
            self._pooled[source] = self._pooling.pool(tokens, self._sources[source])

        return hook

    def read(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Send images, normalised, shape (batch, 3, size, size), through the network while it is attached.

        Without gradients wherever the caller has switched them off.

        Returns:
            the features, one float32 tensor per tap: pooled, of shape (batch, width), or where a tap keeps its tokens
            of shape (batch, tokens, width)
        """
        result = getattr(self._net, "forward_features", self._net)(images)
        if self._reads_output:
            self._output = output_of(self._net, result)
        return self.collect()

    def collect(self) -> list[torch.Tensor]:
        """The features of the last forward pass as `read` returns them; of ``output`` only `read` does."""
        return [value() for value in self._values]


def _join(parts: Sequence[_Value]) -> _Value:
    """Return the function that concatenates what others return."""
    return parts[0] if len(parts) == 1 else lambda: torch.cat([part() for part in parts], dim=-1)


def _call(module: nn.Module, value: _Value) -> torch.Tensor:
    return module(value())  # type: ignore[no-any-return]


def _apply(module: nn.Module, vector: torch.Tensor, part: Literal["whole", "first", "rest"]) -> torch.Tensor:
    """Apply an affine module to float32 vectors or tokens, whatever the precision of the network's own weights."""
    if not isinstance(module, nn.Linear):
        return module(vector).float()  # type: ignore[no-any-return]
    weight, width = module.weight.float(), module.out_features
    bias = None if module.bias is None else module.bias.float()
    if part == "first":
        return nn.functional.linear(vector[..., :width], weight[:, :width])
    if part == "rest":
        return nn.functional.linear(vector[..., width:], weight[:, width:], bias)
    return nn.functional.linear(vector, weight, bias)


def widths_of(model: Model, taps: Sequence[Tap], *, pooling: str, device: str) -> dict[Tap, int]:
    """Measure the number of features of each tap, as `read_empty` reads them.

    Raises:
        LayoutError: if the network cannot be read
    """
    read = read_empty(model, taps, pooling=pooling, device=device)
    return {tap: values.shape[1] for tap, values in zip(taps, read, strict=True)}


def read_empty(model: Model, taps: Sequence[Tap], *, pooling: str, device: str) -> list[torch.Tensor]:
    """Send an empty image through the network, and return what `TapReader.read` does.

    Raises:
        LayoutError: if the network cannot be read; the message has the name of the model
    """
    size = model.spec.input_size
    try:
        reader = TapReader(model.net, taps, pooling)
        with torch.inference_mode(), reader.attached():
            return reader.read(torch.zeros(1, 3, size, size, device=device, dtype=dtype_of(model.precision)))
    except LayoutError as error:
        raise LayoutError(f"model {model.spec.name!r}: {error}") from error
