"""Measure how often the intervals of `probebench.metrics` cover the truth, and compare their width with usual ones.

    python benchmarks/statistics/intervals.py

Test sets are drawn from populations whose true values are known, 2,000 times each; for calibration on 1,000 and 5,000
images, where the bootstraps take long, 800 and 160 times. A 95% interval should cover the truth in 95% of the draws;
one that covers more is wider than necessary. It takes a few minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from math import sqrt

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, sem
from tabulate import tabulate

from probebench.metrics import BINS, calibration_error, combine_estimates, mean_per_class, measure, proportion

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]
Z = norm.ppf(0.975)


def rows(setting: Sequence[object], truth: float, rounds: Iterable[dict[str, Interval]]) -> list[object]:
    """Format the setting, and coverage in percent and mean width of each kind of interval."""
    found: dict[str, list[tuple[bool, float]]] = {}
    for intervals in rounds:
        for name, (low, high) in intervals.items():
            found.setdefault(name, []).append((low <= truth <= high, high - low))
    line = [*setting, round(truth, 4)]
    for pairs in found.values():
        covered, width = np.mean(pairs, axis=0)
        line += [f"{100 * covered:.1f}", f"{width:.4f}"]
    return line


def report(title: str, headers: Sequence[str], names: Sequence[str], lines: list[list[object]]) -> None:
    columns = [column for name in names for column in (f"{name}, %", "width")]
    print(f"\n{title}\n\n{tabulate(lines, [*headers, 'truth', *columns], tablefmt='github', disable_numparse=True)}")


def per_class(repeats: int, rng: np.random.Generator) -> None:
    settings: dict[str, tuple[Sequence[int], Sequence[float] | Floats]] = {
        "97 classes of 20": ([20] * 97, np.linspace(0.5, 1, 97)),
        "10 classes of 90": ([90] * 10, [0.995] * 10),
        "20 classes, 500 to 5": ([max(5, int(500 / k**1.5)) for k in range(1, 21)], np.linspace(0.98, 0.6, 20)),
        "10 classes, three of 1": ([200, 100, 50, 20, 10, 5, 2, 1, 1, 1], np.linspace(0.95, 0.6, 10)),
        "900 and a hard 10": ([900, 10], [0.99, 0.6]),
        "900 and an easy 10": ([900, 10], [0.9, 0.97]),
    }
    lines = []
    for name, (counts, accuracies) in settings.items():
        labels, rate = np.repeat(np.arange(len(counts)), counts), np.repeat(accuracies, counts)

        def once(labels: npt.NDArray[np.int64] = labels, rate: Floats = rate) -> dict[str, Interval]:
            correct = rng.random(len(labels)) < rate
            n = np.bincount(labels)
            p = np.bincount(labels, weights=correct) / n
            half = Z * sqrt((p * (1 - p) / np.maximum(n - 1, 1)).sum()) / len(n)
            ours = mean_per_class(correct, labels)
            return {"ours": ours.ci95, "normal": (ours.value - half, ours.value + half)}

        lines.append(rows([name], float(np.mean(accuracies)), (once() for _ in range(repeats))))
    report("Mean per class", ["test set"], ["ours", "stratified normal"], lines)


POPULATION = 500_000


def probe(kind: str, slope: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw confidences, and the accuracy at each; with a slope below one the probe is overconfident."""
    draw: dict[str, Callable[[], Floats]] = {
        "middling": lambda: rng.beta(3, 2, POPULATION),
        "high": lambda: rng.beta(20, 1, POPULATION),
        "nearly 1": lambda: 1 - rng.beta(0.3, 30, POPULATION),
        "all over": lambda: rng.beta(1, 0.4, POPULATION),
    }
    confidence = np.clip(draw[kind](), 1e-9, 1 - 1e-9)
    odds = (confidence / (1 - confidence)) ** slope
    return confidence, odds / (1 + odds)


SLOPES = {1.0: "calibrated", 0.9: "slightly too sure", 0.6: "too sure", 1.5: "not sure enough"}


def bootstrap(confidence: Floats, correct: npt.NDArray[np.bool_], rng: np.random.Generator) -> Floats:
    """Return bootstrap replicates of the calibration error."""
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    excess, n = confidence - correct, len(correct)
    chosen = rng.integers(0, n, (200, n))
    flat = (bins[chosen] + BINS * np.arange(200)[:, None]).ravel()
    sums = np.bincount(flat, weights=excess[chosen].ravel(), minlength=200 * BINS).reshape(200, BINS)
    return np.asarray(np.abs(sums).sum(axis=1) / n)


def calibration(repeats: int, rng: np.random.Generator) -> None:
    lines = []
    for n in (200, 1000, 5000):
        for kind in ("middling", "high", "nearly 1", "all over"):
            for slope, name in SLOPES.items():
                confidence, rate = probe(kind, slope, rng)
                bins = np.ceil(confidence * BINS).astype(int)
                truth = float(np.abs(np.bincount(bins, weights=confidence - rate)).sum()) / POPULATION

                def once(n: int = n, confidence: Floats = confidence, rate: Floats = rate) -> dict[str, Interval]:
                    chosen = rng.integers(0, POPULATION, n)
                    sure, correct = confidence[chosen], rng.random(n) < rate[chosen]
                    ours = calibration_error(sure, correct)
                    low, high = np.quantile(bootstrap(sure, correct, rng), [0.025, 0.975])
                    basic = max(0.0, 2 * ours.value - high), max(0.0, 2 * ours.value - low)
                    return {"ours": ours.ci95, "percentile": (low, high), "basic": basic}

                count = max(1, min(repeats, repeats * 400 // n))
                lines.append(rows([n, kind, name], truth, (once() for _ in range(count))))
    names = ["ours", "percentile bootstrap", "basic bootstrap"]
    report("Expected calibration error", ["images", "confidences", "probe"], names, lines)


def likelihood(repeats: int, rng: np.random.Generator) -> None:
    lines = []
    classes = np.array([0, 1])
    for n in (200, 1000, 5000):
        for kind in ("middling", "high", "nearly 1"):
            for slope, name in SLOPES.items():
                confidence, rate = probe(kind, slope, rng)
                truth = float((-rate * np.log(confidence) - (1 - rate) * np.log1p(-confidence)).mean())

                def once(n: int = n, confidence: Floats = confidence, rate: Floats = rate) -> dict[str, Interval]:
                    chosen = rng.integers(0, POPULATION, n)
                    sure = confidence[chosen]
                    scores = np.stack([np.zeros(n), np.log(sure / (1 - sure))], axis=1).astype(np.float32)
                    labels = (rng.random(n) < rate[chosen]).astype(np.int64)
                    nll = measure(scores, classes, scores.argmax(axis=1), labels, probabilities=True).nll
                    assert nll is not None
                    return {"ours": nll.ci95}

                lines.append(rows([n, kind, name], truth, (once() for _ in range(repeats))))
    report("Negative log-likelihood", ["images", "confidences", "probe"], ["ours"], lines)


def draws(repeats: int, rng: np.random.Generator) -> None:
    """Simulate images of varying difficulty and training sets of varying luck, both new in every round."""
    lines = []
    difficulty = 0.7
    for count in (2, 5, 10):
        for luck in (0.0, 0.05, 0.2):
            truth = float(norm.cdf(0.6 / sqrt(1 + difficulty**2 + luck**2)))

            def once(count: int = count, luck: float = luck) -> dict[str, Interval]:
                skill = rng.normal(0.6, difficulty, 500) + rng.normal(0, luck, (count, 1))
                accuracies = [proportion(row) for row in rng.random((count, 500)) < norm.cdf(skill)]
                ours = combine_estimates(accuracies)
                half = Z * float(sem([one.value for one in accuracies]))
                return {"ours": ours.ci95, "spread alone": (ours.value - half, ours.value + half)}

            lines.append(rows([count, luck], truth, (once() for _ in range(repeats))))
    report("Accuracy over draws, 500 images", ["draws", "luck"], ["ours", "spread alone"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2000, help="test sets a line")
    repeats = parser.parse_args().repeats
    for part in (per_class, calibration, likelihood, draws):
        part(repeats, np.random.default_rng(0))


if __name__ == "__main__":
    main()
