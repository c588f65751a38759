"""The memory that fits take, and the number of taps that fit into memory at once."""

from __future__ import annotations

from dataclasses import dataclass

from probebench.errors import FeatureError
from probebench.probes.base import FitSize
from probebench.probes.lbfgs import DOUBLES, LARGE, MEMORY, PAIRS, UNCERTAIN_BLOCKS, default_group, leading_axes
from probebench.probes.principal_axes import CHUNK_VALUES

SMALL = 1 << 23
"""On a CPU, taps with fewer bytes of rows and of logits are batched up to this size, so that both stay in the cache."""

ON_DEVICE = 64
"""Most taps that are solved at once on a GPU."""


@dataclass(frozen=True)
class Plan:
    """The plan for fitting the taps of one width.

    Attributes:
        taps: that are solved at once
        bytes: most memory that they take; on a CPU the features as they were given come on top
    """

    taps: int
    bytes: int


def copy_bytes(size: FitSize) -> int:
    """Return the most memory, in bytes, of a probe that copies the features of its tap to float64 three times."""
    return 8 * (3 * size.n_train + size.n_test) * size.width + 8 * size.n_test * size.classes


def path_bytes(n: int, width: int, classes: int, strengths: int, tested: int = 0, together: int | None = None) -> int:
    """Return the most memory, in bytes, of solving one tap's path and predicting with it.

    Args:
        n: rows that are fitted on
        width: features
        classes: of the labels
        strengths: in the path
        tested: rows that are predicted
        together: strengths that are solved at once; by default `default_group`
    """
    axes = 1 + min(n, width)
    columns = min(strengths, together or default_group(classes)) * classes
    rows = 4 * n * axes
    chunk = min(n * width, CHUNK_VALUES)
    # The dual form, in float64: the features three times, the Gram matrix, its eigenvectors, their workspace. Otherwise
    # the Gram matrix and a product's share of it, its eigenvectors in both orders, their workspace, a chunk of rows.
    making = 8 * (3 * n * width + 7 * n * n) if n <= width else 40 * width * width + 20 * chunk
    lead = leading_axes(axes)
    solving = (
        # Logits, their change, the trial, its probabilities, two temporaries; all in float64 in the worst case.
        6 * 8 * n * columns
        # Products of leading coordinates; blocks, their factors and inverses, and the inverses they replace.
        + 3 * 4 * PAIRS
        + 6 * 8 * columns * lead * lead
        # Pairs of steps and gradients, preconditioned gradients, all while one is added; and a dozen vectors.
        + 8 * columns * axes * (2 * 3 * MEMORY + 12)
    )
    # glibc keeps freed blocks of less than 32 MB in its heap, and blocks of many sizes come and go here: its peak was
    # measured at up to twice what was in use.
    solving *= 2
    if n * axes >= LARGE:
        # Newton steps come later: logits and the like of one strength, the rows that are uncertain, blocks over more
        # axes with their factors and inverses, and rows in float64, a chunk at a time.
        newton = 10 * 8 * n * classes + rows + 4 * 8 * UNCERTAIN_BLOCKS + 3 * 8 * DOUBLES
        solving = max(solving, newton)
    # The path as it is solved, the path that C was chosen from, and coefficients.
    path = 8 * classes * (2 * strengths * axes + 2 * width)
    scores = 4 * tested * classes
    return rows + 4 * width * min(n, width) + max(making, solving) + path + scores


def sent_bytes(n: int, width: int, tested: int, device: str) -> int:
    """Return the bytes of one tap's features on the device that they are sent to; 0 on a CPU."""
    return 0 if device == "cpu" else 4 * (n + tested) * width


def make_plan(
    n: int,
    width: int,
    classes: int,
    strengths: int,
    budget: int,
    device: str,
    tested: int = 0,
    together: int | None = None,
) -> Plan:
    """Plan the path of taps of one width within `budget` bytes; other arguments as in `path_bytes`.

    Raises:
        FeatureError: if not even one tap fits
    """
    one = path_bytes(n, width, classes, strengths, tested, together) + sent_bytes(n, width, tested, device)
    columns = min(strengths, together or default_group(classes)) * classes
    taps = taps_at_once(
        one, 4 * n * max(width, columns), budget, device, f"{n} x {width} features with {classes} classes"
    )
    return Plan(taps, taps * one)


def taps_at_once(one: int, rows: int, budget: int, device: str, what: str) -> int:
    """Return the number of taps of one width that are solved together.

    Args:
        one: bytes that solving one tap takes
        rows: bytes of its rows or its logits, the larger of the two; see `SMALL`
        budget: bytes that are free
        what: features and classes of the tap, in words

    Raises:
        FeatureError: if not even one tap fits
    """
    if one > budget:
        raise FeatureError(
            f"a probe on {what} takes {one / 1e9:.1f} GB of memory, but only {budget / 1e9:.1f} GB are free for it: "
            "use fewer --probe-jobs, fewer training images, or a larger machine"
        )
    wanted = max(1, SMALL // rows) if device == "cpu" else ON_DEVICE
    return max(1, min(wanted, budget // one))
