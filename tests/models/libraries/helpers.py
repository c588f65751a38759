"""Read networks of other libraries, and write their blocks out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from probebench.catalog.taps import SITES, all_taps
from probebench.features.hooks import TapReader
from probebench.features.verify import verify_blocks
from probebench.models import default_catalog
from probebench.models.build import build_model

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def build(spec):
    """The model of a spec, or of the name that a user types."""
    catalog = default_catalog()
    if not isinstance(spec, str):
        catalog, spec = catalog.extend(models=[spec]), spec.name
    built = build_model(catalog.model(spec))
    verify_blocks(built)
    return built


def read(built, pooling="mean"):
    """The features of `IMAGES` at all taps, by the tap's id."""
    taps = all_taps(built.spec.depth)
    reader = TapReader(built.net, taps, pooling)
    with torch.inference_mode(), reader.attached():
        return {tap.id: values for tap, values in zip(taps, reader.read(IMAGES), strict=True)}


@dataclass
class Parts:
    """The parts of a pre-norm block, as its source names them.

    Attributes:
        norms: before attention, and before the feed-forward network
        attend: from normalised tokens to the output of attention
        hidden, back: linear layers of the feed-forward network; with a gate, `hidden` makes the value
        activation: between them
        scales: factors of the two branches
        gate: linear layer, if there is one
    """

    norms: tuple[nn.Module, nn.Module]
    attend: Callable[[torch.Tensor], torch.Tensor]
    hidden: nn.Module
    back: nn.Module
    activation: Callable[[torch.Tensor], torch.Tensor] = nn.functional.gelu
    scales: tuple[Any, Any] = (1, 1)
    gate: nn.Module | None = None

    def run(self, tokens):
        """The tokens at all sites, in the order of `SITES`; the last is what the block returns."""
        ln1 = self.norms[0](tokens)
        mha = self.attend(ln1)
        rc1 = tokens + self.scales[0] * mha
        ln2 = self.norms[1](rc1)
        fc1 = self.hidden(ln2)
        act = self.activation(fc1)
        if self.gate is not None:
            act = self.activation(self.gate(ln2)) * fc1
            fc1 = torch.cat([self.gate(ln2), fc1], dim=-1)
        fc2 = self.back(act)
        return ln1, mha, rc1, ln2, fc1, act, fc2, rc1 + self.scales[1] * fc2


def assert_as_by_hand(built, net, blocks, parts, norm=lambda tokens: tokens, output=lambda returned: returned):
    """Compare all taps with the network `net`, written out: `parts` of each block, and the norm behind the last.

    `output` takes the features of an image from what the network returns.
    """
    entered = []
    handle = blocks[0].register_forward_pre_hook(lambda _, args, kwargs: entered.append(args[0]), with_kwargs=True)
    with torch.inference_mode():
        returned = net(IMAGES)
        handle.remove()
        (tokens,) = entered
        expected = {"embed": tokens.mean(dim=1)}
        for index, block in enumerate(blocks, start=1):
            values = parts(block).run(tokens)
            expected |= {f"L{index:02}-{site}": each.mean(dim=1) for site, each in zip(SITES, values, strict=True)}
            tokens = values[-1]
        expected["final"] = norm(tokens).mean(dim=1)
        expected["output"] = output(returned)
    assert_close(read(built), expected)


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-5, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
