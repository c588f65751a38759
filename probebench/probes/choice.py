"""Choose a regularisation strength by held-out accuracies that are smoothed over neighbouring strengths.

Strengths that are next to each other on the path give nearly the same probe, so their held-out accuracies differ
mostly by chance. The accuracy at each strength is averaged with that of its neighbours, with weights 1, 2, 1; at an end
of the path, where there is one neighbour only, with weights 2, 1. Sums are of whole numbers: equal scores are equal.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


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
