"""The places inside a vision transformer where features are read, and where timm keeps them.

A *tap* is a (layer, site) pair. Layers are transformer blocks numbered from 1; the eight sites of a layer follow
the order in which data meets them in a pre-norm block (arXiv 2603.05280, section 3). Two reference taps stand
beside them: ``embed`` (tokens entering block 1) and ``final`` (tokens after the final norm).

This module knows names and module paths only; it imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import total_ordering
from typing import TYPE_CHECKING, Literal

from probebench.errors import LayoutError, unknown

if TYPE_CHECKING:
    from torch import nn

SITES = ("ln1", "mha", "rc1", "ln2", "fc1", "act", "fc2", "rc2")
"""The module sites of a layer, in the order data meets them."""

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
        """The tap whose `id` is `text`.

        Raises:
            UnknownName: if `text` is no tap's id
        """
        if text in REFERENCES:
            return cls(text, text)
        layer, _, site = text.partition("-")
        if not (layer.startswith("L") and layer[1:].isdecimal()):
            raise unknown("tap", text, ["L01-ln1", "L01-act", *REFERENCES])
        return cls(int(layer[1:]), site)


def all_taps(depth: int) -> list[Tap]:
    """Every tap of a network of `depth` blocks, in the order data meets them: 8 x depth + 2."""
    inner = [Tap(layer, site) for layer in range(1, depth + 1) for site in SITES]
    return [Tap(EMBED, EMBED), *inner, Tap(FINAL, FINAL)]


@dataclass(frozen=True)
class Read:
    """Pool the tokens that go into or come out of one submodule of a block."""

    module: str  # dotted path inside the block; "" is the block itself
    what: Literal["input", "output"]


@dataclass(frozen=True)
class Affine:
    """Apply an affine submodule to the pooled vector of another read.

    Pooling is a weighted sum of tokens whose weights add up to one, so it commutes with an affine map:
    ``pool(W x + b) = W pool(x) + b``. Applying the map to one pooled vector instead of reading all its output
    tokens again is exact up to rounding and spares the read.
    """

    module: str
    of: Read


@dataclass(frozen=True)
class Layout:
    """Where the sites of one kind of block lie.

    Attributes:
        name: for messages and the run record
        blocks: module and name of the block classes that it describes
        sites: for each name in `SITES` how it is read
        identities: submodules that must be ``nn.Identity`` (or absent) for the table to hold
        modules: submodules that must exist, with the class names allowed for them
    """

    name: str
    blocks: tuple[str, ...]
    sites: dict[str, Read | Affine]
    identities: tuple[str, ...]
    modules: dict[str, tuple[str, ...]]


_HEADS = Read("attn.proj", "input")
_LN2 = Read("norm2", "output")
_ACT = Read("mlp.fc2", "input")

PRE_NORM = Layout(
    name="pre-norm",
    blocks=("timm.models.vision_transformer.Block",),
    sites={
        "ln1": Read("norm1", "output"),
        "mha": Affine("attn.proj", _HEADS),
        "rc1": Read("norm2", "input"),
        "ln2": _LN2,
        "fc1": Affine("mlp.fc1", _LN2),
        "act": _ACT,
        "fc2": Affine("mlp.fc2", _ACT),
        "rc2": Read("", "output"),
    },
    identities=("mlp.norm",),
    modules={"attn": ("Attention",), "attn.proj": ("Linear",), "mlp": ("Mlp",), "mlp.fc1": ("Linear",)},
)

LAYOUTS = (PRE_NORM,)


def submodule(block: nn.Module, path: str) -> nn.Module | None:
    """The submodule at a dotted path, or None where there is none; "" is the block itself."""
    try:
        return block.get_submodule(path)
    except AttributeError:
        return None


def find_layout(block: nn.Module, layouts: Iterable[Layout] = LAYOUTS) -> Layout:
    """The layout that describes a block.

    Raises:
        LayoutError: if none does; the message names the block class and what did not fit
    """
    kind = f"{type(block).__module__}.{type(block).__name__}"
    reasons = []
    for layout in layouts:
        if kind not in layout.blocks:
            continue
        wrong = [
            f"{path} is {type(module).__name__}, not {' or '.join(names)}"
            for path, names in layout.modules.items()
            if type(module := submodule(block, path)).__name__ not in names
        ] + [
            f"{path} is {type(module).__name__}, not Identity"
            for path in layout.identities
            if (module := submodule(block, path)) is not None and type(module).__name__ != "Identity"
        ]
        if not wrong:
            return layout
        reasons.append(f"layout {layout.name!r} does not fit: {'; '.join(wrong)}")
    known = ", ".join(f"{layout.name} for {' and '.join(layout.blocks)}" for layout in layouts)
    detail = ". ".join(reasons) or f"layouts known: {known}"
    raise LayoutError(
        f"no layout says where the sites of {kind} lie ({detail}). "
        "To add one, write a Layout for it in probebench/sites.py and append it to LAYOUTS; "
        "CONTRIBUTING.md shows how it is checked."
    )
