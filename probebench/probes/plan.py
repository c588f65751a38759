"""How much memory the logistic path takes, and how many taps fit at once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from probebench.errors import FeatureError
from probebench.probes.lbfgs import MEMORY, PAIRS, default_group, leading_axes

CHUNK = 8192
"""Rows per product."""

SMALL = 2 << 20
"""On a CPU, taps with fewer bytes of rows are batched up to this size; beyond it products are large enough."""


@dataclass(frozen=True)
class Plan:
    """How the taps of one width are fitted.

    Attributes:
        taps: solved at once
        bytes: most memory that takes, besides the features as they were given
    """

    taps: int
    bytes: int


def path_bytes(n: int, m: int, width: int, classes: int, strengths: int) -> int:
    """Most memory, in bytes, of solving one tap's path and predicting with it.

    Args:
        n, m: rows that are fitted on and predicted
        width: features
        classes: of the labels
        strengths: in the path
    """
    axes = 1 + min(n, width)
    group = min(strengths, default_group(classes))
    columns = group * classes
    rows = 4 * (n + m) * axes
    # The Gram matrix and its eigenvectors, workspace of the decomposition included; in the dual form in float64.
    gram = (8 + 4 + 4 * 4) * width * width if n > width else 8 * (n * n * 6 + 2 * n * width)
    chunk = min(n, CHUNK) * width * (8 + 8 + 4 + 4)
    # Logits, their change, the trial and its probabilities, and one temporary.
    logits = 5 * 4 * n * columns
    lead = leading_axes(axes)
    pairs = 4 * 4 * PAIRS + 3 * 8 * columns * lead * lead
    history = 8 * columns * axes * (2 * 3 * MEMORY + 8)
    path = 3 * 8 * strengths * classes * axes
    return rows + max(gram + chunk, logits + pairs + history) + path + 4 * m * strengths * classes


def make_plan(n: int, m: int, width: int, classes: int, strengths: int, budget: int, device: str) -> Plan:
    """The plan for taps of one width within `budget` bytes.

    Raises:
        FeatureError: if not even one tap fits
    """
    one = path_bytes(n, m, width, classes, strengths)
    if one > budget:
        raise FeatureError(
            f"a probe on {n} x {width} features with {classes} classes takes {one / 1e9:.1f} GB, and "
            f"{budget / 1e9:.1f} GB are free for it: use fewer --probe-jobs or training images, or a larger machine"
        )
    wanted = max(1, SMALL // (4 * n * width)) if device == "cpu" else 64
    taps = max(1, min(wanted, budget // one))
    return Plan(taps, taps * one)


def free_memory(device: str) -> int:
    """Bytes that may be used on a device."""
    if device != "cpu":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
