"""The style of figures: one column of a paper wide, readable without colour, fonts embedded, reproducible bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from probebench.catalog.taps import OUTPUT
from probebench.reporting.palette import COLOURS, DASHES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 3.3  # inches
LETTERS = 52  # of the font below in one line of a figure
DOTS_PER_INCH = 400
INK, SOFT, LINE = "#1c2128", "#57606a", "#d4dae1"

_BOW_TIE = [(-1, -1), (1, -1), (-1, 1), (1, 1), (-1, -1)]
MARKERS: tuple[Any, ...] = ("o", "s", "^", "D", _BOW_TIE, "v", "P", "X")
"""The shapes of `probebench.reporting.palette`, as matplotlib has them."""

_SETTINGS = {
    "pdf.fonttype": 42,  # TrueType: journals refuse Type 3
    "ps.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "probebench",
    "font.size": 7.5,
    "figure.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "legend.columnspacing": 1.2,
    "legend.handletextpad": 0.5,
    "axes.linewidth": 0.6,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # names are no formulas
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.4,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.2,
    "lines.markeredgewidth": 0.8,
}


@contextmanager
def paper() -> Iterator[None]:
    """Inside, figures look so, whatever the user's own settings are."""
    from matplotlib import style

    with style.context(["default", _SETTINGS]):
        yield


def figure(height: float, *heading: str) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes.

    Args:
        height: in inches
        heading: its lines
    """
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(WIDTH, height), layout="constrained")
    drawn.suptitle("\n".join(wrapped(line, LETTERS) for line in heading), x=0.015, ha="left")
    return drawn, drawn.subplots()


def wrapped(text: str, letters: int) -> str:
    """`text` in lines of at most so many letters, broken behind blanks and signs of names, else anywhere."""
    lines = [""]
    for part in re.findall(r"[^\s_,.:/-]*[\s_,.:/-]+|[^\s_,.:/-]+", text):
        if lines[-1] and len(lines[-1] + part.rstrip()) > letters:
            lines.append("")
        lines[-1] += part
        while len(lines[-1].rstrip()) > letters:
            lines[-1:] = [lines[-1][:letters], lines[-1][letters:]]
    return "\n".join(line.rstrip() for line in lines)


def reference_line(axes: Axes, name: str, accuracy: float, colour: str, label: str) -> None:
    """The accuracy of ``output`` or ``final``, in percent, as a level."""
    axes.axhline(accuracy, label=label, **reference_look(name, colour))


def reference_look(name: str, colour: str) -> dict[str, Any]:
    """The style of every line of a reference: that of ``final`` is thinner than that of ``output``."""
    if name == OUTPUT:
        return {"color": colour, "linestyle": (0, (1, 1.4)), "linewidth": 0.9}
    return {"color": colour, "linestyle": (0, (1, 3)), "linewidth": 0.6}


def to_bytes(drawn: Figure, kind: str) -> bytes:
    """A figure as a file, without the time it was made."""
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind, {})
    out = io.BytesIO()
    drawn.savefig(out, format=kind, dpi=DOTS_PER_INCH, metadata=undated)
    return out.getvalue()


def look(mark: int, *, dashed: bool | None = None) -> dict[str, Any]:
    """The style of the line of a mark.

    Args:
        mark: of `probebench.reporting.palette`
        dashed: whether the line of a model is dashed and hollow; None for that of a site, which has its own dashes
    """
    if dashed is None:
        # matplotlib multiplies strokes by the width of the line; the report's are for one 1.9 wide.
        dashes: Any = (0, tuple(length / 1.9 for length in DASHES[mark])) if DASHES[mark] else "-"
    else:
        dashes = (0, (3, 1.6)) if dashed else "-"
    return {
        "color": COLOURS[mark],
        "marker": MARKERS[mark],
        "linestyle": dashes,
        "markerfacecolor": "white" if dashed else COLOURS[mark],
    }


def layer_axis(axes: Axes, depth: int) -> None:
    """The axis of layers from 1 to the last, without more numbers than there is room for."""
    every = 1 if depth <= 14 else 2 if depth <= 28 else 4
    numbers = [n for n in range(1, depth + 1) if n in (1, depth) or (n % every == 0 and depth - n >= every)]
    axes.set_xticks(numbers, [str(n) for n in numbers])
    axes.set_xlim(0.6, depth + 0.4)
    axes.set_xlabel("layer")
