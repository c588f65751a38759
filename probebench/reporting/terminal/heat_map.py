"""Layer x site maps of accuracy for terminals with colour."""

from __future__ import annotations

from collections.abc import Mapping

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from probebench.catalog.taps import SITES
from probebench.records.view import RecordView


def heat_maps(view: RecordView, dataset: str, controls: bool) -> RenderableType | None:
    """Layer x site, coloured from the lowest accuracy of the map to the highest."""
    maps = []
    for sweep in view.sweeps:
        if sweep.dataset != dataset or (sweep.control_of and not controls):
            continue
        cells = {
            (tap.layer, tap.site): row.case["accuracy"]
            for tap, row in sweep.plain.items()
            if isinstance(tap.layer, int)
        }
        if cells:
            kind = "" if sweep.task.percent else f", {sweep.task.score} x 100"
            maps.append(heat_map(f"{sweep.model}{kind}", cells))
    if not maps:
        return None
    return Group(Columns(maps, padding=(0, 3)), Text())


def heat_map(title: str, cells: Mapping[tuple[int, str], float], width: int | None = None) -> Table:
    """A map of accuracies, coloured from the lowest to the highest. Without colour it is a table of whole percents.

    Args:
        title: above the map
        cells: accuracies in [0, 1] by layer and site, at least one
        width: of the terminal in characters, None for as wide as the map is; below 46 of them, cells are narrower
    """
    low, high = min(cells.values()), max(cells.values())
    sites = [site for site in SITES if any(s == site for _, s in cells)]
    table = Table(title=title, title_justify="left", box=None, padding=(0, 0), pad_edge=False)
    narrow = width is not None and width < len(_CORNER) + sum(len(f" {site} ") for site in sites)
    table.add_column("" if narrow else _CORNER)
    for site in sites:
        table.add_column(f"{site} " if narrow else f" {site} ", justify="right")
    for layer in sorted({layer for layer, _ in cells}):
        shown = (_heat_cell(cells.get((layer, site)), low, high, 4 if narrow else 5) for site in sites)
        table.add_row(f"L{layer:02d}", *shown)
    return table


_CORNER = "layer "

# Steps of the viridis map (matplotlib): even in lightness, so that it also reads without colour vision.
_VIRIDIS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")


def _heat_cell(value: float | None, low: float, high: float, width: int) -> Text:
    if value is None:
        return Text("")
    step = round((value - low) / (high - low) * (len(_VIRIDIS) - 1)) if high > low else len(_VIRIDIS) - 1
    ink = "white" if step < len(_VIRIDIS) // 2 else "black"
    return Text(f" {100 * value:.0f} ".rjust(width), style=Style(color=ink, bgcolor=_VIRIDIS[step]))
