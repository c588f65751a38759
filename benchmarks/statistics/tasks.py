"""Measure the intervals of mean average precision and R2, and the level of the tests between two probes.

    python -m benchmarks.statistics.tasks

Test sets are drawn from populations whose true values are known. A 95% interval should cover the truth in 95% of the
draws. Two probes that are equally good should be called different at a level in no larger share of the draws. It takes
a few minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from tabulate import tabulate

from probebench.scores import Scored, mean_average_precision, measure_labels, measure_targets
from probebench.stats import paired

LEVELS = (0.05, 0.01, 0.001)

LABELS = {  # images, labels, share of the images that has each, distance of the scores with and without
    "200 images, 5 labels of 30%": (200, 5, 0.3, 1.0),
    "200 images, 20 labels of 5%": (200, 20, 0.05, 2.0),
    "200 images, 3 labels of 50%, nearly perfect": (200, 3, 0.5, 3.0),
    "1,000 images, 20 labels of 5%": (1000, 20, 0.05, 2.0),
    "1,000 images, 1 label of 2%": (1000, 1, 0.02, 2.0),
    "5,000 images, 20 labels of 7%": (5000, 20, 0.07, 2.0),
}
TARGETS = {  # images, deviation of the noise, whether it has heavy tails (Student's t with 4 degrees of freedom)
    "50 images, R2 0.8": (50, 0.5, False),
    "200 images, R2 0.8": (200, 0.5, False),
    "200 images, R2 0.2": (200, 2.0, False),
    "200 images, heavy tails": (200, 0.5, True),
    "1,000 images, heavy tails": (1000, 0.5, True),
}


def labelled(
    rng: np.random.Generator, n: int, labels: int, share: float, distance: float, probes: int
) -> tuple[list[npt.NDArray[np.float32]], npt.NDArray[np.int8]]:
    """Draw images, and the scores of probes that err alike: their noise has a correlation of 0.64."""
    present = rng.random((n, labels)) < share
    common = rng.normal(size=(n, labels))
    scores = [distance * present + 0.8 * common + 0.6 * rng.normal(size=(n, labels)) for _ in range(probes)]
    return [each.astype(np.float32) for each in scores], present.astype(np.int8)


def predicted(
    rng: np.random.Generator, n: int, deviation: float, heavy: bool, probes: int
) -> tuple[list[npt.NDArray[np.float32]], npt.NDArray[np.float64]]:
    """Draw targets, and the predictions of probes; the noise of one is that of the targets around it."""
    signal = rng.normal(size=(n, 1))
    noise = rng.standard_t(4, size=(n, 1)) if heavy else rng.normal(size=(n, 1))
    targets = signal + deviation * noise
    if probes == 1:
        return [signal.astype(np.float32)], targets
    own = [signal + 0.3 * deviation * rng.normal(size=(n, 1)) for _ in range(probes)]
    return [each.astype(np.float32) for each in own], targets


def examine(
    draw: Callable[[np.random.Generator, int], tuple[list[npt.NDArray[np.float32]], npt.NDArray[np.float64]]],
    measure: Callable[..., Scored],
    truth: float,
    repeats: int,
) -> list[str]:
    """Format the truth, coverage and width of the interval, and the share of p-values at or below each level."""
    covered, widths, p_values = 0, [], []
    for seed in range(repeats):
        (scores,), labels = draw(np.random.default_rng([1, seed]), 1)
        low, high = measure(scores, labels).metrics.accuracy.ci95
        covered += low <= truth <= high
        widths.append(high - low)
        pair, labels = draw(np.random.default_rng([2, seed]), 2)
        p_values.append(paired(*(measure(each, labels).scores for each in pair)).p_down)
    shares = [f"{100 * np.mean(np.array(p_values) <= level):.2f}" for level in LEVELS]
    return [f"{truth:.3f}", f"{100 * covered / repeats:.1f}", f"{np.mean(widths):.3f}", *shares]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000)
    repeats = parser.parse_args().repeats
    headers = ["truth", "covers, %", "width", *(f"p <= {level}, %" for level in LEVELS)]
    lines = []
    for name, (n, count, share, distance) in LABELS.items():
        (many,), labels = labelled(np.random.default_rng(0), 400_000, count, share, distance, 1)
        truth = mean_average_precision(many, labels)
        setting = n, count, share, distance
        lines.append([name, *examine(lambda rng, k, s=setting: labelled(rng, *s, k), measure_labels, truth, repeats)])
    print(tabulate(lines, ["mean average precision", *headers], tablefmt="github", disable_numparse=True))
    lines = []
    for name, target in TARGETS.items():
        variance = target[1] ** 2 * (2.0 if target[2] else 1.0)  # Student's t with 4 degrees of freedom: 4 / (4 - 2)
        truth = 1 - variance / (1 + variance)
        lines.append([name, *examine(lambda rng, k, s=target: predicted(rng, *s, k), measure_targets, truth, repeats)])
    print("\n" + tabulate(lines, ["R2", *headers], tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
