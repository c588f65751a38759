"""The places inside a vision transformer where features are read.

A *tap* is a (layer, site) pair. Layers are transformer blocks numbered from 1; the eight sites of a layer follow
the order in which data passes them in a pre-norm block (arXiv 2603.05280, section 3). There are three more, the
reference taps: ``embed`` (tokens entering block 1), ``final`` (tokens after the final norm) and ``output`` (what the
network itself returns for an image). A tap may name a pooling of its own, beside that of the protocol; and taps may be
concatenated, which makes a tap that is called by the way in which its members are found.

This module has names only; `probebench.models.layouts` has their places in a network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import total_ordering
from typing import Literal, get_args

from probebench.errors import unknown

SITES = ("ln1", "mha", "rc1", "ln2", "fc1", "act", "fc2", "rc2")
"""The module sites of a layer, in the order data passes them."""

EMBED = "embed"
FINAL = "final"
OUTPUT = "output"
REFERENCES = (EMBED, FINAL, OUTPUT)

COMBINATIONS = ("last4", "pair", "triple")
"""Concatenations of taps: the last four blocks, each behind the final norm, as the evaluations of DINOv2
(arXiv 2304.07193) read them; and the two or three taps that are best together on held-out training images."""

SEARCHED = {"pair": 2, "triple": 3}
"""Combinations whose members a search finds, and their number."""

Pooling = Literal["mean", "patch_mean", "cls", "cls+patch_mean"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
"""The ways to make one vector of the tokens of an image, see `probebench.features.pooling`."""

TOKENS: Mapping[str, str] = {"mean": "tokens", "patch_mean": "patch_tokens"}
"""What stands in the place of a pooling where tokens are kept as they are, by the pooling that is their mean. Taps that
are called so are read for probes that pool by themselves; they are never cases."""


@total_ordering
@dataclass(frozen=True)
class Tap:
    """One place to read features.

    Attributes:
        layer: block number from 1, or the name of a reference tap or of a combination
        site: one of `SITES`; for a reference tap and a combination the same word as `layer`
        pooling: one of `POOLINGS`; empty for that of the protocol, and for a tap that has no other: ``output``,
            ``pair`` and ``triple``; or one of the values of `TOKENS`
    """

    layer: int | str
    site: str
    pooling: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.layer, str):
            if self.layer not in (*REFERENCES, *COMBINATIONS) or self.site != self.layer:
                raise unknown("tap", f"{self.layer}-{self.site}", (*REFERENCES, *COMBINATIONS))
        elif self.site not in SITES:
            raise unknown("site", self.site, SITES)
        elif self.layer < 1:
            raise unknown("layer", str(self.layer), ["1, 2, ... up to the depth of the model", *REFERENCES])
        if self.pooling and (self.pooling not in (*POOLINGS, *TOKENS.values()) or not self.pools):
            raise unknown(f"pooling of the tap {self.layer}", self.pooling, POOLINGS if self.pools else ["none"])

    @property
    def pools(self) -> bool:
        """True if the tap has tokens, so that its features depend on how they are pooled."""
        return self.layer != OUTPUT and self.layer not in SEARCHED

    @property
    def keeps_tokens(self) -> bool:
        """True if the features of the tap are tokens."""
        return self.pooling in TOKENS.values()

    @property
    def is_combination(self) -> bool:
        return self.layer in COMBINATIONS

    def exists(self, depth: int) -> bool:
        """Return whether a network of `depth` blocks has the tap."""
        return isinstance(self.layer, str) or self.layer <= depth

    @property
    def plain(self) -> Tap:
        """The same place with the pooling of the protocol."""
        return replace(self, pooling="") if self.pooling else self

    @property
    def id(self) -> str:
        """``L06-act``, ``embed``, ``final`` or ``output``; with a pooling of its own ``L06-act.cls``."""
        place = self.layer if isinstance(self.layer, str) else f"L{self.layer:02d}-{self.site}"
        return f"{place}.{self.pooling}" if self.pooling else place

    @property
    def _order(self) -> tuple[float, int, int]:
        pooling = ("", *POOLINGS, *TOKENS.values()).index(self.pooling)
        if isinstance(self.layer, int):
            return float(self.layer), SITES.index(self.site), pooling
        if self.layer == EMBED:
            return 0.0, 0, pooling
        return float("inf"), (*REFERENCES, *COMBINATIONS).index(self.layer), pooling

    def __lt__(self, other: Tap) -> bool:
        return self._order < other._order

    @classmethod
    def parse(cls, text: str) -> Tap:
        """Return the tap with that `id`.

        Raises:
            UnknownName: if no tap has it
        """
        place, _, pooling = text.partition(".")
        if place in (*REFERENCES, *COMBINATIONS):
            return cls(place, place, pooling)
        layer, _, site = place.partition("-")
        if not (layer.startswith("L") and layer[1:].isdecimal()):
            raise unknown("tap", text, ["L01-ln1", "L01-act", *REFERENCES, *COMBINATIONS])
        return cls(int(layer[1:]), site, pooling)


def most_combined(taps: Iterable[Tap]) -> int:
    """Return the number of members of the largest combination among some taps that is searched for; 1 without any."""
    return max((SEARCHED.get(str(tap.layer), 1) for tap in taps), default=1)


def all_taps(depth: int, poolings: Sequence[str] = (), combinations: Sequence[str] = ()) -> list[Tap]:
    """Return the taps of a network of `depth` blocks, in the order data passes them: 8 x depth + 3 places.

    Args:
        poolings: of taps besides those with the pooling of the protocol
        combinations: some of `COMBINATIONS`, which come last
    """
    inner = [Tap(layer, site) for layer in range(1, depth + 1) for site in SITES]
    places = [Tap(EMBED, EMBED), *inner, *(Tap(name, name) for name in (FINAL, OUTPUT, *combinations))]
    return sorted(replace(tap, pooling=each) for tap in places for each in ("", *(poolings if tap.pools else ())))
