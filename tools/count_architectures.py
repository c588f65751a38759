"""Count the plain vision transformers of timm that probebench supports, and the reasons for refusing the others.

    python tools/count_architectures.py

Prints the tables of docs/architectures.md for the installed timm, in a minute. Networks are built without memory for
their weights, with two blocks if the constructor has an argument for the depth. tests/models/test_architectures.py
checks the *values* of all taps on a shrunken network of each covered architecture.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import timm
import torch

from probebench.catalog.taps import all_taps
from probebench.errors import LayoutError
from probebench.features.hooks import TapReader
from probebench.models.layouts import blocks_of, find_layout
from probebench.models.timm_spec import without_weights

# timm's modules of vision transformers with constant resolution and width.
MODULES = (
    "vision_transformer",
    "vision_transformer_hybrid",
    "vision_transformer_relpos",
    "deit",
    "beit",
    "eva",
    "naflexvit",
    "vitamin",
    "deepseek_vit",
    "qwen3_vit",
    "gemma4_vit",
    "vision_transformer_sam",
    "cait",
    "convit",
    "crossvit",
    "tnt",
    "volo",
    "xcit",
)


@dataclass(frozen=True)
class Finding:
    """The result for one architecture.

    Attributes:
        layout: the name of the layout of its blocks; empty if it is refused
        reason: why it is refused; empty if it is covered
    """

    module: str
    architecture: str
    layout: str
    reason: str


def architectures(module: str) -> list[str]:
    """List the architectures that timm registers for one of its modules."""
    return timm.list_models(module=module)


def build(architecture: str) -> torch.nn.Module:
    """Build a network without memory for its weights, in evaluation mode."""
    with without_weights():
        try:
            net = timm.create_model(architecture, depth=2)
        except (TypeError, AssertionError):  # no such argument, or one that other arguments must agree with
            net = timm.create_model(architecture)
    return net.eval()


def examine(module: str, architecture: str) -> Finding:
    net = build(architecture)
    try:
        blocks = blocks_of(net)
        TapReader(net, all_taps(len(blocks))[::-1], "mean")
    except LayoutError as error:
        return Finding(module, architecture, "", str(error))
    (layout,) = {find_layout(block).name for block in blocks}
    return Finding(module, architecture, layout, "")


def survey() -> list[Finding]:
    return [examine(module, name) for module in MODULES for name in architectures(module)]


def table(header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return lines + [f"| {' | '.join(map(str, row))} |" for row in rows]


def report(findings: list[Finding]) -> str:
    """Format the tables: numbers by module, then refusals with their reasons."""
    tried = Counter(f.module for f in findings)
    covered = Counter(f.module for f in findings if f.layout)
    layouts = Counter((f.module, f.layout) for f in findings if f.layout)
    rows: list[tuple[object, ...]] = []
    for m in MODULES:
        named = ", ".join(f"{count} {name}" for (where, name), count in layouts.most_common() if where == m)
        rows.append((m, tried[m], covered[m], tried[m] - covered[m], named))
    rows.append(("all", tried.total(), covered.total(), tried.total() - covered.total(), ""))
    reasons = Counter((f.module, f.reason) for f in findings if f.reason)
    return "\n".join(
        [
            *table(("timm module", "tried", "covered", "refused", "layouts"), rows),
            "",
            *table(("timm module", "refused", "why"), [(m, count, why) for (m, why), count in reasons.items()]),
        ]
    )


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    print(f"timm {timm.__version__}\n\n{report(survey())}")
