"""How to read a tap of a network with hooks, as plain data that a script can follow without probebench."""

from __future__ import annotations

from typing import Any

from torch import nn

from probebench.catalog.taps import EMBED, FINAL, Tap
from probebench.models.layouts import Affine, Read, Site, Sum, blocks_of, find_layout, submodule
from probebench.recommendation.flops import blocks_needed

Recipe = dict[str, Any]
"""One of, with paths of modules in the network:

- ``{"read": path, "what": "input" or "output"}``: the tokens there, averaged
- ``{"apply": path, "part": "whole", "first" or "rest", "to": Recipe}``: a module on a vector; of a linear layer's
  inputs perhaps only the first ``out_features``, without the bias, or the rest
- ``{"sum": [Recipe, ...]}`` and ``{"concat": [Recipe, ...]}``
"""


def recipe(net: nn.Module, tap: Tap) -> Recipe:
    """The features of a tap, as `probebench.features.hooks.TapReader` reads them.

    Raises:
        LayoutError: if no layout describes the tap's block
    """
    if tap.layer == FINAL:
        read: Recipe = {"read": "norm", "what": "output"}
        # timm moves the norm behind the pooling for some networks.
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
