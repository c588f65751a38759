"""Intervals and tests for accuracies: paired if it is known which examples were right, else of two proportions.

Scores that are not right or wrong, such as those whose mean is a mean average precision or an R2, are compared in pairs
by the sign-flip test.
"""

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


Scores = npt.NDArray[np.bool_] | npt.NDArray[np.float32]
"""Of each test example, whether it was right; or a score, whose mean over examples is the score of the case."""


def discordant(before: Scores, now: Scores) -> tuple[int, int]:
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


def paired_change(before: Scores, now: Scores) -> tuple[float, float]:
    """The 95% interval of the change of a score on the same test examples.

    Of examples that are right or wrong it is `paired_interval`. Over several draws of the training set, and of other
    scores, it is the normal interval of the mean of the examples' changes, each averaged over draws: examples are
    independent of each other, draws on one example are not.

    Args:
        before, now: as of `paired`
    """
    if before.dtype == now.dtype == np.bool_ and before.ndim == now.ndim == 1:
        return paired_interval(*discordant(before, now), len(now))
    was, is_now = (np.atleast_2d(scores).astype(np.float64).mean(axis=0) for scores in (before, now))
    changes = is_now - was
    change, half = float(changes.mean()), Z95 * float(changes.std(ddof=min(1, len(changes) - 1))) / sqrt(len(changes))
    return change - half, change + half


ENUMERATED = 14
"""Up to so many changes the sign-flip test counts all combinations of signs."""


def sign_flip(changes: npt.NDArray[np.float64]) -> tuple[float, float]:
    """One-sided p-values of the sign-flip test that scores have dropped, and that they have risen (R. A. Fisher, The
    Design of Experiments, 1935, section 21).

    If nothing changed but by chance, each example's change is as likely to be in the other direction. The p-value is
    the share of all combinations of signs whose sum is at least as far in the direction. Up to `ENUMERATED` changes
    they are counted. For more it is the saddlepoint approximation (R. Lugannani and S. Rice, Adv. Appl. Probab. 12,
    1980; J. Robinson, J. R. Stat. Soc. B 44, 1982), which needs no draws and holds far into the tails.

    Args:
        changes: shape (n,), of each example

    Returns:
        the p-values of a drop and of a rise
    """
    sizes = np.abs(changes[changes != 0]).astype(np.float64)
    if not len(sizes):
        return 1.0, 1.0
    total = float(changes.sum())
    if len(sizes) <= ENUMERATED:
        sums = np.zeros(1)
        for size in sizes:
            sums = np.concatenate([sums - size, sums + size])
        slack = 1e-12 * float(sizes.sum())
        return float(np.mean(sums <= total + slack)), float(np.mean(sums >= total - slack))
    up = _sign_flip_tail(sizes / sizes.max(), abs(total) / float(sizes.max()))
    return (1 - up, up) if total > 0 else (up, 1 - up)


def _sign_flip_tail(sizes: npt.NDArray[np.float64], total: float) -> float:
    """Return the probability that the sum of `sizes` under random signs is at least `total`, which is not negative."""
    from scipy.special import ndtr

    least = 0.5 ** min(len(sizes), 1000)  # of the one combination whose sum is the largest
    if total >= sizes.sum() * (1 - 1e-12):
        return float(least)
    variance = float((sizes**2).sum())
    if total * total <= 1e-6 * variance:
        return float(ndtr(-total / sqrt(variance)))
    # The zero of the rising concave function K'(s) - total is approached from below by Newton's steps.
    s = total / variance
    for _ in range(200):
        tanh = np.tanh(s * sizes)
        step = (total - float((sizes * tanh).sum())) / float((sizes**2 * (1 - tanh**2)).sum())
        s += step
        if abs(step) <= 1e-12 * s:
            break
    x = s * sizes
    log_cosh = np.logaddexp(x, -x) - np.log(2)
    w = sqrt(max(0.0, 2 * (s * total - float(log_cosh.sum()))))
    u = s * sqrt(float((sizes**2 / np.cosh(np.minimum(x, 300)) ** 2).sum()))
    density = np.exp(-(w**2) / 2) / sqrt(2 * np.pi)
    return float(min(0.5, max(least, ndtr(-w) + density * (1 / u - 1 / w))))


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
        before, now: how many examples were right, over all draws; or the sums of their scores
        n_test: of how many, likewise
        lost, gained: examples that changed sides; None if it is not known which were right. Of scores, those that are
            lower now, and those that are higher
        p_down, p_up: one-sided p-values of a drop and of a rise
    """

    before: float
    now: float
    n_test: int
    lost: int | None
    gained: int | None
    p_down: float
    p_up: float

    @property
    def p_two_sided(self) -> float:
        """Twice the smaller of both one-sided p-values."""
        return min(1.0, 2 * min(self.p_down, self.p_up))


ROUNDING = 1e-6
"""A change of an example's score up to this, times the largest score, is rounding: neither lost nor gained."""


def paired(before: Scores, now: Scores) -> Move:
    """The move of a case by McNemar's test, or over several draws by the sign test that it is an instance of; of scores
    by the sign-flip test, over the mean of several draws.

    Args:
        before, now: as of `discordant`; or scores of the same shapes, float32
    """
    if before.dtype != np.bool_ or now.dtype != np.bool_:
        was, is_now = (np.atleast_2d(scores).astype(np.float64) for scores in (before, now))
        changes = is_now.mean(axis=0) - was.mean(axis=0)
        far = ROUNDING * max(1.0, float(np.abs(was).max()), float(np.abs(is_now).max()))
        lost, gained = int(np.count_nonzero(changes < -far)), int(np.count_nonzero(changes > far))
        return Move(float(was.sum()), float(is_now.sum()), before.size, lost, gained, *sign_flip(changes))
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
