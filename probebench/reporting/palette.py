"""Marks of the series of a chart: a shape each beside its colour and dashes, so that it also reads without colour."""

from __future__ import annotations

from probebench.catalog.taps import SITES

SHAPES = (
    "M-3.5,0a3.5,3.5 0 1,0 7,0a3.5,3.5 0 1,0 -7,0",  # circle
    "M-3.2,-3.2h6.4v6.4h-6.4z",  # square
    "M0,-4.4L4.2,3.2H-4.2z",  # triangle
    "M0,-4.8L4.8,0L0,4.8L-4.8,0z",  # diamond
    "M-3.7,-3.7H3.7L-3.7,3.7H3.7z",  # bow tie
    "M0,4.4L4.2,-3.2H-4.2z",  # triangle, on its tip
    "M-1.3,-4.2h2.6v2.9h2.9v2.6h-2.9v2.9h-2.6v-2.9h-2.9v-2.6h2.9z",  # plus
    "M-4,-1.2L-1.2,-4L0,-2.8L1.2,-4L4,-1.2L2.8,0L4,1.2L1.2,4L0,2.8L-1.2,4L-4,1.2L-2.8,0z",  # cross
)
"""SVG paths around (0, 0)."""

COLOURS = ("#0b6fb8", "#8a6400", "#00795c", "#b01585", "#6f42c1", "#cf4a0a", "#66707a", "#14181d")
"""On white; those of the dark page are in report.css."""

DASHES = ((2, 3), (8, 3, 2, 3), (4, 3), (10, 3), (1, 3), (), (6, 3, 1, 3, 1, 3), ())
"""Dashes of sites: strokes and gaps, in units of a line 1.9 wide; empty for an unbroken line."""

OF_SITE = {site: index for index, site in enumerate(SITES)}
"""The index of the mark of each site, on every chart that distinguishes sites."""

_FIRST_APART = (5, 0, 2, 3, 4, 1, 7, 6)  # marks whose colours differ most come first


def of_model(index: int) -> int:
    """The index of the mark of the model at this place, on charts that distinguish models; after eight they repeat."""
    return _FIRST_APART[index % len(_FIRST_APART)]


def colour_rules() -> str:
    """The colours as custom properties of CSS."""
    return " ".join(f"--k{mark}: {colour};" for mark, colour in enumerate(COLOURS))


def dash_rules() -> str:
    """The dashes of sites as rules of CSS."""
    return "\n".join(
        f".k{mark}.by-site .line {{ stroke-dasharray: {' '.join(map(str, dashes))}; }}"
        for mark, dashes in enumerate(DASHES)
        if dashes
    )
