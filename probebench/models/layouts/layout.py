"""Describe where the sites of a layer are in a block, and where the blocks are in a network.

A `Layout` is a table: for each of the eight sites, the submodule whose input or output is read, or how the value is
computed from what is read. Pooling is a weighted sum of tokens whose weights add up to one, so it commutes with affine
maps, sums and concatenation: ``pool(W x + b) = W pool(x) + b``. A table may therefore define a site that no module
outputs, and avoid reading a big tensor that is an affine image of a smaller one; both are exact up to rounding.

A `NetworkLayout` names the parts of a network that is not timm's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True)
class Read:
    """Pool the tokens at the input or output of a submodule of a block."""

    module: str  # dotted path in the block; "" is the block itself
    what: Literal["input", "output"]


@dataclass(frozen=True)
class Affine:
    """Apply an affine submodule (a linear layer, a layer scale, an identity) to the pooled vector of another site.

    Attributes:
        part: for a linear layer that maps two concatenated branches to their sum. ``first`` is the contribution of the
            first ``out_features`` inputs, ``rest`` that of the others with the bias; the two add up to the output
    """

    module: str
    of: Site
    part: Literal["whole", "first", "rest"] = "whole"


@dataclass(frozen=True)
class Sum:
    """The sum of pooled vectors of equal width."""

    of: tuple[Site, ...]


@dataclass(frozen=True)
class Concat:
    """The concatenation of pooled vectors."""

    of: tuple[Site, ...]


Site: TypeAlias = Read | Affine | Sum | Concat


@dataclass(frozen=True)
class Layout:
    """The sites of one kind of block.

    Attributes:
        name: name in messages and the documentation
        blocks: module and name of the block classes it describes
        sites: how to read each site of `probebench.catalog.taps.SITES`
        modules: submodules that must exist, and their allowed class names
        absent: submodules that must not exist
    """

    name: str
    blocks: tuple[str, ...]
    sites: Mapping[str, Site]
    modules: Mapping[str, tuple[str, ...]]
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class NetworkLayout:
    """The parts of one kind of network, by the dotted paths of its submodules and parameters.

    Where a path is a tuple, the first that exists is meant: versions of a library differ.

    Attributes:
        name: name in messages and the documentation
        networks: module and name of the network classes it describes; classes derived from them are meant, too
        blocks: the list of transformer blocks
        norm: the norm that follows the last block; the tap ``final`` reads its output
        pooled_norm: a norm that is applied to the pooled tokens instead
        class_token: the parameter that is the first token; empty if there is none
        other_tokens: the parameters with the tokens between the class token and the patches (registers, distillation)
        absent: submodules that must not exist
    """

    name: str
    networks: tuple[str, ...]
    blocks: tuple[str, ...] | str
    norm: tuple[str, ...] | str
    pooled_norm: str = ""
    class_token: str = ""
    other_tokens: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


def linear(module: str) -> Affine:
    """The output of a linear layer, computed from its input."""
    return Affine(module, Read(module, "input"))
