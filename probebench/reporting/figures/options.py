"""Options of figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

FORMATS = ("pdf", "svg", "png")


@dataclass(frozen=True)
class FigureOptions:
    """The choice of figures and of their formats.

    Attributes:
        models, datasets: names and patterns such as ``vit_*``; empty for all
        formats: of `FORMATS`
        site: the one that figures by depth show; None for the best one of each layer
        tuned: by the name of a fine-tuned model, the model it was tuned from
    """

    models: Sequence[str] = ()
    datasets: Sequence[str] = ()
    formats: Sequence[str] = FORMATS
    site: str | None = None
    tuned: Mapping[str, str] = field(default_factory=dict)
