"""Choose a regularisation strength by held-out accuracies that are smoothed over neighbouring strengths.

Strengths that are next to each other on the path give nearly the same probe, so their held-out accuracies differ
mostly by chance. The accuracy at each strength is averaged with that of its neighbours, with weights 1, 2, 1; at an end
of the path, where there is one neighbour only, with weights 2, 1. Sums are of whole numbers: equal scores are equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from probebench.catalog.protocols import Protocol


def smooth(correct: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return smoothed scores, int64, twelve times a number of images, of the same shape.

    Args:
        correct: int64, shape (taps, strengths), held-out images that are right
    """
    if correct.shape[1] == 1:
        return 12 * correct
    scores = 6 * correct
    scores[:, 1:-1] += 3 * (correct[:, :-2] + correct[:, 2:])
    scores[:, 0] = 8 * correct[:, 0] + 4 * correct[:, 1]
    scores[:, -1] = 8 * correct[:, -1] + 4 * correct[:, -2]
    return scores


def choose(correct: npt.NDArray[np.int64], *, ended: bool) -> npt.NDArray[np.int64]:
    """Return the index of the best smoothed score, int64, shape (taps,); the first among equals.

    Args:
        correct: as in `smooth`
        ended: whether the last strength is the end of the path; otherwise it is not chosen, because its next neighbour
            is not known
    """
    scores = smooth(correct)
    index: npt.NDArray[np.int64] = (scores if ended else scores[:, :-1]).argmax(axis=1)
    return index


def is_settled(correct: npt.NDArray[np.int64], patience: int) -> npt.NDArray[np.bool_]:
    """Return for each tap whether `patience` strengths behind the best one are no better, bool, shape (taps,).

    Args:
        correct: as in `smooth`, of the strengths up to now
    """
    last = correct.shape[1] - 2  # of those that have both neighbours
    if last < 0:
        return np.zeros(len(correct), dtype=bool)
    settled: npt.NDArray[np.bool_] = last - choose(correct, ended=False) >= patience
    return settled


class Step(NamedTuple):
    """The fits of some taps at one strength.

    Attributes:
        weights: first axis taps, the others as the solver has them
        score: float64, shape (taps,), on the held-out rows
        iterations: int64, shape (taps,)
    """

    weights: torch.Tensor
    score: npt.NDArray[np.float64]
    iterations: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Chosen:
    """The strengths that were chosen for some taps.

    Attributes:
        index: int64, shape (taps,), into the path
        score: float64, shape (taps,), as in `Step`, at that strength
        weights: float64, as in `Step`, at that strength
        iterations: int64, shape (taps,), of all strengths
    """

    index: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]
    weights: torch.Tensor
    iterations: npt.NDArray[np.int64]


def rise(
    taps: int,
    strengths: int,
    protocol: Protocol,
    fit: Callable[[int, npt.NDArray[np.int64], torch.Tensor | None], Step],
    to_whole: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.int64]],
) -> Chosen:
    """Fit one strength of the path after the other, until no strength of the rest can be better for any tap.

    Args:
        taps, strengths: their numbers
        fit: takes the index of a strength, the indices of the taps that are left, and the weights to start from
            (None at first); the path is smooth in log(C), so that the start is extrapolated
        to_whole: makes whole numbers of scores, which are compared
    """
    assert protocol.patience is not None
    index, iterations = np.zeros(taps, dtype=np.int64), np.zeros(taps, dtype=np.int64)
    scores, whole = np.zeros((taps, strengths)), np.zeros((taps, strengths), dtype=np.int64)
    solved, live = list[torch.Tensor](), np.arange(taps)
    for k in range(strengths):
        step = fit(k, live, _extrapolate(solved, live))
        if not k:
            chosen = step.weights.new_zeros(step.weights.shape, dtype=torch.float64)
        weights = torch.zeros_like(chosen)
        weights[live] = step.weights
        solved.append(weights)
        scores[live, k], whole[live, k] = step.score, to_whole(step.score)
        iterations[live] += step.iterations
        last = k + 1 == strengths
        done = np.full(len(live), last)
        if not last and k + 1 >= (protocol.path_least or 0):
            done = is_settled(whole[live, : k + 1], protocol.patience)
        if done.any():
            stopped = live[done]
            index[stopped] = choose(whole[stopped, : k + 1], ended=last)
            for tap in stopped:
                chosen[tap] = solved[index[tap]][tap]
            live = live[~done]
        if not len(live):
            break
    return Chosen(index, scores[np.arange(taps), index], chosen, iterations)


def _extrapolate(solved: list[torch.Tensor], live: npt.NDArray[np.int64]) -> torch.Tensor | None:
    """Return where to start the next strength from."""
    if not solved:
        return None
    if len(solved) == 1:
        return solved[-1][live]
    return 2 * solved[-1][live] - solved[-2][live]
