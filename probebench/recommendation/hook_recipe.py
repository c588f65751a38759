"""Describe how to read taps with hooks, as plain data that a script can follow without probebench."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from probebench.catalog.taps import EMBED, FINAL, OUTPUT, Tap
from probebench.errors import LayoutError
from probebench.models.layouts import Affine, Read, Site, Sum, blocks_of, find_layout, submodule

Recipe = dict[str, Any]
"""One of the following, where a path names a module of the network:

- ``{"read": path, "what": "input" or "output", "pool": "mean", "patch_mean" or "cls"}``: one vector of the tokens that
  the module is given or gives: their average, that of those behind the first ``"prefix"``, or the first token. With
  the pool ``tokens`` or ``patch_tokens`` it is the tokens themselves, all or those behind the first ``"prefix"``. With
  ``"norm": path``, that module is applied to the tokens before
- ``{"apply": path, "part": "whole", "first" or "rest", "to": Recipe}``: the module applied to a vector or to each
  token; for a linear layer ``first`` uses only the first ``out_features`` inputs, without the bias, and ``rest`` the
  others, with the bias
- ``{"sum": [Recipe, ...]}`` and ``{"concat": [Recipe, ...]}``
- ``{"head": "pre_logits"}``: what the network returns for an image, without its classifier
"""


def recipe(net: nn.Module, taps: Sequence[Tap], pooling: str) -> Recipe:
    """Return the recipe for the features of some taps side by side, those of `probebench.features.hooks.TapReader`.

    Args:
        net: a network of timm
        pooling: of the taps that name none of their own

    Raises:
        LayoutError: if no layout describes a tap's block, or a tap is made of others
    """
    return _join([part for tap in taps for part in _parts(net, tap, tap.pooling or pooling)])


def _parts(net: nn.Module, tap: Tap, pooling: str) -> list[Recipe]:
    """The recipes whose vectors, one after the other, are the features of a tap."""
    if tap.layer == OUTPUT:
        return [{"head": "pre_logits"}]
    pools = [_pool(net, part) for part in pooling.split("+")]
    final: list[Recipe] = [_behind_norm(net, {"read": "norm", "what": "output", **pool}) for pool in pools]
    if tap.layer == FINAL:
        return final
    blocks = [f"blocks.{name}" for name, _ in net.get_submodule("blocks").named_children()]
    if tap.layer == "last4":
        reads = ({"read": block, "what": "output", "norm": "norm", **pool} for block in blocks[-4:-1] for pool in pools)
        return [*(_behind_norm(net, read) for read in reads), *final]
    if tap.layer == EMBED:
        return [_plain(Read("", "input"), blocks[0], pool) for pool in pools]
    if not isinstance(tap.layer, int):
        raise LayoutError(f"the tap {tap.id} is made of others, and cannot be read from a network")
    index = tap.layer - 1
    site = find_layout(blocks_of(net)[index]).sites[tap.site]
    return [_plain(site, blocks[index], pool) for pool in pools]


def _pool(net: nn.Module, part: str) -> Recipe:
    if part not in ("patch_mean", "patch_tokens"):
        return {"pool": part}
    return {"pool": part, "prefix": int(getattr(net, "num_prefix_tokens", 0))}


def _behind_norm(net: nn.Module, read: Recipe) -> Recipe:
    """Apply the norm that some networks have behind the pooling."""
    after = submodule(net, "fc_norm")
    if after is None or isinstance(after, nn.Identity):
        return read
    return {"apply": "fc_norm", "part": "whole", "to": read}


def _plain(site: Site, block: str, pool: Recipe) -> Recipe:
    def path(module: str) -> str:
        return f"{block}.{module}".removesuffix(".")

    if isinstance(site, Read):
        return {"read": path(site.module), "what": site.what, **pool}
    if isinstance(site, Affine):
        return {"apply": path(site.module), "part": site.part, "to": _plain(site.of, block, pool)}
    return {"sum" if isinstance(site, Sum) else "concat": [_plain(one, block, pool) for one in site.of]}


def _join(parts: list[Recipe]) -> Recipe:
    return parts[0] if len(parts) == 1 else {"concat": parts}
