"""Facts about the architectures that timm has pretrained weights for and probebench can read.

    python -m benchmarks.performance.architectures    # writes architectures.csv next to this file, in three minutes

Run it from the root of the repository. It builds networks without memory for weights, sends one image without values
through each, and counts operations and widths. Nothing is downloaded. `benchmarks/performance/study.py` adds the
numbers up.
"""

from __future__ import annotations

import csv
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from probebench.catalog.taps import SITES, Tap, all_taps
from probebench.errors import LayoutError
from probebench.features.hooks import TapReader
from probebench.models.layouts import blocks_of
from tools.count_architectures import MODULES

FILE = Path(__file__).with_suffix(".csv")
COLUMNS = ("architecture", "checkpoints", "size", "parameters", "operations", "depth", *SITES, "narrow")


@dataclass(frozen=True)
class Facts:
    """One architecture.

    Attributes:
        checkpoints: pretrained weights that timm lists for it
        size: side of its input in pixels
        parameters: without the classifier
        operations: floating-point operations of one image, two for a multiplication with an addition
        depth: layers
        widths: features of each site
        narrow: width of the residual stream
    """

    architecture: str
    checkpoints: int
    size: int
    parameters: int
    operations: int
    depth: int
    widths: Mapping[str, int]
    narrow: int

    def taps(self) -> dict[Tap, int]:
        """Return the width of each tap."""
        every = all_taps(self.depth)
        return {tap: self.widths.get(tap.site, self.narrow) for tap in every}

    def row(self) -> list[object]:
        known = [getattr(self, name) for name in COLUMNS[:6]]
        return [*known, *(self.widths[site] for site in SITES), self.narrow]


def facts(architecture: str, checkpoints: int = 0, **kwargs: object) -> Facts:
    """Count the facts of one architecture; `kwargs` are arguments of its constructor.

    Raises:
        LayoutError: if it cannot be read
    """
    with torch.device("meta"):
        net = timm.create_model(architecture, num_classes=0, **kwargs).eval().requires_grad_(False)
        size = int(kwargs.get("img_size", 0) or net.pretrained_cfg["input_size"][1])
        depth = len(blocks_of(net))
        reader = TapReader(net, all_taps(depth), "mean")
        image = torch.zeros(1, 3, size, size)
    # Fused attention is one operation that is not counted on every device.
    with (
        FlopCounterMode(display=False) as counter,
        torch.inference_mode(),
        sdpa_kernel(SDPBackend.MATH),
        reader.attached(),
    ):
        widths = {tap: values.shape[1] for tap, values in zip(reader.taps, reader.read(image), strict=True)}
    sites = {site: widths[Tap(1, site)] for site in SITES}
    found = Facts(
        architecture,
        checkpoints,
        size,
        sum(parameter.numel() for parameter in net.parameters()),
        counter.get_total_flops(),
        depth,
        sites,
        widths[Tap("final", "final")],
    )
    if found.taps() != widths:
        raise LayoutError(f"{architecture} has layers of different widths")
    return found


def survey() -> Iterator[Facts]:
    """Count the facts of all covered architectures, in timm's order."""
    for module in MODULES:
        checkpoints = Counter(name.split(".")[0] for name in timm.list_models(module=module, pretrained=True))
        for architecture, count in checkpoints.items():
            try:
                yield facts(architecture, count)
            except LayoutError as error:
                if "different widths" in str(error):
                    raise


def read(file: Path = FILE) -> list[Facts]:
    """Read the table that this script has written."""
    with file.open(encoding="utf-8", newline="") as lines:
        return [
            Facts(
                row["architecture"],
                *(int(row[name]) for name in COLUMNS[1:6]),
                {site: int(row[site]) for site in SITES},
                int(row["narrow"]),
            )
            for row in csv.DictReader(lines)
        ]


def main() -> None:
    logging.disable(logging.WARNING)
    with FILE.open("w", encoding="utf-8", newline="") as lines:
        table = csv.writer(lines, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(each.row() for each in survey())
    found = read()
    total = sum(each.checkpoints for each in found)
    print(
        f"timm {timm.__version__}: {total} of {len(timm.list_pretrained())} checkpoints, "
        f"of {len(found)} architectures, are covered"
    )


if __name__ == "__main__":
    main()
