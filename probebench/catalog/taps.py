"""The places inside a vision transformer where features are read.

A *tap* is a (layer, site) pair. Layers are transformer blocks numbered from 1; the eight sites of a layer follow
the order in which data passes them in a pre-norm block (arXiv 2603.05280, section 3). There are two more, the reference
taps: ``embed`` (tokens entering block 1) and ``final`` (tokens after the final norm).

This module has names only; `probebench.models.layouts` has their places in a network.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import total_ordering

from probebench.errors import unknown

SITES = ("ln1", "mha", "rc1", "ln2", "fc1", "act", "fc2", "rc2")
"""The module sites of a layer, in the order data passes them."""

EMBED = "embed"
FINAL = "final"
REFERENCES = (EMBED, FINAL)


@total_ordering
@dataclass(frozen=True)
class Tap:
    """One place to read features.

    Attributes:
        layer: block number from 1, or ``"embed"`` / ``"final"`` for the reference taps
        site: one of `SITES`; for a reference tap the same word as `layer`
    """

    layer: int | str
    site: str

    def __post_init__(self) -> None:
        if isinstance(self.layer, str):
            if self.layer not in REFERENCES or self.site != self.layer:
                raise unknown("tap", f"{self.layer}-{self.site}", REFERENCES)
        elif self.site not in SITES:
            raise unknown("site", self.site, SITES)
        elif self.layer < 1:
            raise unknown("layer", str(self.layer), ["1, 2, ... up to the depth of the model", *REFERENCES])

    @property
    def id(self) -> str:
        """``L06-act``, ``embed`` or ``final``."""
        return self.layer if isinstance(self.layer, str) else f"L{self.layer:02d}-{self.site}"

    @property
    def _order(self) -> tuple[float, int]:
        if isinstance(self.layer, str):
            return (0.0, 0) if self.layer == EMBED else (float("inf"), 0)
        return (float(self.layer), SITES.index(self.site))

    def __lt__(self, other: Tap) -> bool:
        return self._order < other._order

    @classmethod
    def parse(cls, text: str) -> Tap:
        """Return the tap with that `id`.

        Raises:
            UnknownName: if no tap has it
        """
        if text in REFERENCES:
            return cls(text, text)
        layer, _, site = text.partition("-")
        if not (layer.startswith("L") and layer[1:].isdecimal()):
            raise unknown("tap", text, ["L01-ln1", "L01-act", *REFERENCES])
        return cls(int(layer[1:]), site)


def all_taps(depth: int) -> list[Tap]:
    """Return the 8 x depth + 2 taps of a network of `depth` blocks, in the order data passes them."""
    inner = [Tap(layer, site) for layer in range(1, depth + 1) for site in SITES]
    return [Tap(EMBED, EMBED), *inner, Tap(FINAL, FINAL)]
