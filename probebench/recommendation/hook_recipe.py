"""Describe how to read a tap with hooks, as plain data that a script can follow without probebench."""

from __future__ import annotations

from typing import Any

from torch import nn

from probebench.catalog.taps import EMBED, FINAL, Tap
from probebench.models.layouts import Affine, Read, Site, Sum, blocks_of, find_layout, submodule
from probebench.recommendation.flops import blocks_needed

Recipe = dict[str, Any]
"""One of the following, where a path names a module of the network:

- ``{"read": path, "what": "input" or "output"}``: the averaged tokens
- ``{"apply": path, "part": "whole", "first" or "rest", "to": Recipe}``: the module applied to a vector; for a linear
  layer ``first`` uses only the first ``out_features`` inputs, without the bias, and ``rest`` the others, with the bias
- ``{"sum": [Recipe, ...]}`` and ``{"concat": [Recipe, ...]}``
"""


def recipe(net: nn.Module, tap: Tap) -> Recipe:
    """Return the recipe for the features of a tap, equal to those of `probebench.features.hooks.Taps`.

    Raises:
        LayoutError: if no layout describes the tap's block
    """
    if tap.layer == FINAL:
        read: Recipe = {"read": "norm", "what": "output"}
        # Some networks apply the norm after the pooling.
        after = submodule(net, "fc_norm")
        if after is None or isinstance(after, nn.Identity):
            return read
        return {"apply": "fc_norm", "part": "whole", "to": read}
    index = blocks_needed(tap, len(blocks_of(net))) - 1
    name, block = list(net.get_submodule("blocks").named_children())[index]
    site = Read("", "input") if tap.layer == EMBED else find_layout(block).sites[tap.site]
    return _plain(site, f"blocks.{name}")


def _plain(site: Site, block: str) -> Recipe:
    def path(module: str) -> str:
        return f"{block}.{module}".removesuffix(".")

    if isinstance(site, Read):
        return {"read": path(site.module), "what": site.what}
    if isinstance(site, Affine):
        return {"apply": path(site.module), "part": site.part, "to": _plain(site.of, block)}
    return {"sum" if isinstance(site, Sum) else "concat": [_plain(one, block) for one in site.of]}
