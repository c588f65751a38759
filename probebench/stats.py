"""Intervals and tests for accuracies: paired if it is known which examples were right, else of two proportions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

Z95 = 1.959963984540054
"""The 97.5% quantile of the standard normal distribution."""


def wilson(right: float, n: float) -> tuple[float, float]:
    """Wilson's 95% score interval of a proportion (E. B. Wilson, JASA 22, 1927): low and high in [0, 1].

    Args:
        right: successes
        n: of how many trials, positive. Neither need be whole: an estimate of another kind may be worth a fractional
            number of trials
    """
    proportion, weight = right / n, Z95**2 / n
    middle = (proportion + weight / 2) / (1 + weight)
    half = sqrt(weight * (proportion * (1 - proportion) + weight / 4)) / (1 + weight)
    # Rounding must not leave the proportion outside, or an end outside of [0, 1].
    return max(0.0, min(proportion, middle - half)), min(1.0, max(proportion, middle + half))


def mcnemar(lost: int, gained: int) -> float:
    """Exact one-sided p-value of McNemar's test that an accuracy has dropped (Q. McNemar, Psychometrika 12, 1947).

    Args:
        lost: examples that were right before and are wrong now
        gained: examples that were wrong before and are right now

    Returns:
        the probability of at least `lost` losses among the discordant pairs if both directions are equally likely
    """
    from scipy.stats import binom  # its import takes a second, which every sweep would wait for

    return float(binom.sf(lost - 1, lost + gained, 0.5)) if lost else 1.0


def mcnemar_two_sided(lost: Sequence[int], gained: Sequence[int]) -> npt.NDArray[np.float64]:
    """Exact two-sided p-values of McNemar's test that accuracies differ: twice the smaller of both one-sided ones.

    Args:
        lost, gained: of each comparison, see `mcnemar`

    Returns:
        float64, one of each
    """
    from scipy.stats import binom

    more, both = np.maximum(lost, gained), np.add(lost, gained)
    p_values: npt.NDArray[np.float64] = np.minimum(1.0, 2 * binom.sf(more - 1, both, 0.5))
    return p_values


def discordant(before: npt.NDArray[np.bool_], now: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """The numbers of examples that were lost and gained.

    Args:
        before, now: bool, shape (n,), which examples were right; or (draws, n) for several probes fitted on different
            draws of the training set. An example is lost then if it is right in fewer of them: the draws share their
            test examples, so that it is the example that counts, once.
    """
    was, is_now = (np.atleast_2d(correct).sum(axis=0) for correct in (before, now))
    return int(np.count_nonzero(is_now < was)), int(np.count_nonzero(is_now > was))


def paired_interval(lost: int, gained: int, n: int) -> tuple[float, float]:
    """The 95% interval of the change of an accuracy on the same test examples.

    Wald's, with half an example added to each of the four cells of the table of pairs (A. Agresti and Y. Min, Stat.
    Med. 24, 2005).

    Args:
        lost, gained: examples that changed sides, see `discordant`
        n: of how many examples, positive

    Returns:
        low and high in [-1, 1]
    """
    total = n + 2
    change = (gained - lost) / total
    half = Z95 * sqrt(((lost + gained + 1) / total - change**2) / total)
    return max(-1.0, change - half), min(1.0, change + half)


def fisher(before: int, now: int, n: int) -> float:
    """Exact one-sided p-value of Fisher's test that a proportion has dropped, for two samples of `n` examples each.

    For two runs on the same examples, whose errors go together, it is conservative: it finds less than `mcnemar`.

    Args:
        before, now: how many examples were right
    """
    from scipy.stats import hypergeom

    return float(hypergeom.sf(before - 1, 2 * n, before + now, n))


@dataclass(frozen=True)
class Move:
    """The change of one case between two measurements on the same test examples.

    Attributes:
        before, now: how many examples were right, over all draws
        n_test: of how many, likewise
        lost, gained: examples that changed sides; None if it is not known which were right
        p_down, p_up: one-sided p-values of a drop and of a rise
    """

    before: int
    now: int
    n_test: int
    lost: int | None
    gained: int | None
    p_down: float
    p_up: float


def paired(before: npt.NDArray[np.bool_], now: npt.NDArray[np.bool_]) -> Move:
    """The move of a case by McNemar's test, or over several draws by the sign test that it is an instance of.

    Args:
        before, now: as of `discordant`
    """
    lost, gained = discordant(before, now)
    right = int(np.count_nonzero(before)), int(np.count_nonzero(now))
    return Move(*right, before.size, lost, gained, mcnemar(lost, gained), mcnemar(gained, lost))


def unpaired(before: int, now: int, n: int) -> Move:
    """The move of a case by Fisher's test: how many of `n` examples were right before and now."""
    return Move(before, now, n, None, None, fisher(before, now, n), fisher(now, before, n))


def holm(p_values: Sequence[float], alpha: float, family: int | None = None) -> list[bool]:
    """The hypotheses that Holm's step-down procedure rejects at family-wise level `alpha` (Scand. J. Stat. 6, 1979).

    Args:
        p_values: of the hypotheses at hand
        family: how many hypotheses the whole family has, when `p_values` are a part of it. Ranking within the part
            against the whole family's size rejects no hypothesis that ranking within the whole family would not,
            so the level holds, and the answer does not depend on parts that are not measured yet.
    """
    m = len(p_values) if family is None else family
    if m < len(p_values):
        raise ValueError(f"family of {m} hypotheses cannot hold {len(p_values)}")
    rejected = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] > alpha / (m - rank):
            break
        rejected[index] = True
    return rejected
