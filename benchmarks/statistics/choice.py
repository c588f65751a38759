"""Compare rules that choose C on held-out images: accuracy, noise, cost. The constants of `default@2` come from here.

    python -m benchmarks.statistics.choice
    python -m benchmarks.statistics.choice --every 9 --model glyphvit_random --dataset digits digits_contrast
    python -m benchmarks.statistics.choice --every 14 --checkpoint vit_s14.safetensors --size 98 \
        --architecture vit_small_patch14_dinov2.lvd142m --images cifar10_small.npz

Each tap's path is solved up to C = 1e4 on five draws of the held-out fifth, and each C is also fitted on all of train
and scored on the test images. A rule then chooses from the held-out scores alone. Columns: mean test accuracy of the
chosen C; its standard deviation over draws; share of taps whose C depends on the draw; iterations of the solver until
the rule ends the path. The oracle chooses on the test images.

The second table asks how exact the fits that choose C must be: how often C differs from that of fits solved to 1e-6,
and how often noise of 1e-6 of each feature's deviation in the training features changes it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from tabulate import tabulate

from benchmarks.features import Features, add_arguments, read_features
from probebench.catalog.protocols import DEFAULT
from probebench.datasets.splits import held_out_part
from probebench.probes.choice import choose, is_settled
from probebench.probes.lbfgs import solve_path
from probebench.probes.principal_axes import principal_axes

PATH = np.logspace(-4, 4, 13)
DRAWS = 5
GAPS = (1e-6, 1e-4, 1e-3)
NOISY = 2
"""Draws that are solved at every gap, with and without noise."""

Counts = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One tap's path on one draw.

    Attributes:
        correct: int64, shape (strengths,), held-out images that are right
        loss: float64, shape (strengths,), held-out log loss
        iterations: int64, shape (strengths,), of the solver
    """

    correct: Counts
    loss: Scores
    iterations: Counts


Rule = Callable[[Curve], tuple[int, int]]
"""Returns the index of the chosen strength, and the number of strengths that are solved."""


def best(count: int) -> Rule:
    return lambda curve: (int(curve.correct[:count].argmax()), count)


def least_loss(curve: Curve) -> tuple[int, int]:
    return int(curve.loss.argmin()), len(PATH)


def smoothed(count: int, patience: int | None, least: int = 0) -> Rule:
    def rule(curve: Curve) -> tuple[int, int]:
        correct = curve.correct[None, :count]
        for solved in range(1, count):
            if patience is not None and solved >= least and is_settled(correct[:, :solved], patience)[0]:
                return int(choose(correct[:, :solved], ended=False)[0]), solved
        return int(choose(correct, ended=True)[0]), count

    return rule


CHOSEN = "smoothed, patience 1 after 8, to 4.6e2 (default@2)"
RULES: Mapping[str, Rule] = {
    "best, to 1e2 (default@1)": best(10),
    "best, to 1e4": best(13),
    "least log loss, to 1e4": least_loss,
    "smoothed, to 1e2": smoothed(10, None),
    "smoothed, to 1e4": smoothed(13, None),
    "smoothed, patience 1, to 4.6e2": smoothed(11, 1),
    "smoothed, patience 1 after 8, to 1e2": smoothed(10, 1, 8),
    CHOSEN: smoothed(11, 1, 8),
    "smoothed, patience 1 after 8, to 1e4": smoothed(13, 1, 8),
    "smoothed, patience 2 after 8, to 1e4": smoothed(13, 2, 8),
}


def solve(train: npt.NDArray[np.float32], labels: Counts, fitted: int, gap: float) -> Curve:
    """Solve the path on the first `fitted` rows and score it on the rest, as `probebench.probes.logistic` does."""
    rows = principal_axes([train]).rows
    classes = int(labels.max()) + 1
    strengths = torch.from_numpy(1 / (PATH * fitted))[None]
    target, unseen = torch.from_numpy(labels[:fitted]), torch.from_numpy(labels[fitted:])
    found = solve_path(rows[:, :fitted], target, classes, strengths, tol=gap, group=1, verify=gap < 1e-5)
    logits = torch.einsum("scd,nd->snc", found.weights[0].float(), rows[0, fitted:])
    loss = [float(torch.nn.functional.cross_entropy(each.double(), unseen)) for each in logits]
    return Curve((logits.argmax(dim=2) == unseen).sum(dim=1).numpy(), np.array(loss), found.iterations[0].numpy())


def test_accuracy(
    train: npt.NDArray[np.float32], labels: Counts, test: npt.NDArray[np.float32], test_labels: Counts
) -> Scores:
    axes = principal_axes([train])
    strengths = torch.from_numpy(1 / (PATH * len(labels)))[None]
    found = solve_path(axes.rows, torch.from_numpy(labels), int(labels.max()) + 1, strengths, group=1)
    accuracy: Scores = (axes.predict([test], found.weights)[0] == test_labels).mean(axis=1)
    return accuracy


def compare(data: Features) -> None:
    train, test = data.train, data.test
    labels, test_labels = (np.unique(split.labels, return_inverse=True)[1] for split in (train, test))
    curves: dict[tuple[int, bool, float], list[Curve]] = {}
    accuracies = []
    rng = np.random.default_rng(0)
    for tap, x in data.seen.items():
        accuracies.append(test_accuracy(x, labels, data.unseen[tap], test_labels))
        for draw in range(DRAWS):
            held = held_out_part(train, np.arange(len(train)), replace(DEFAULT, name="draw", seed=draw))
            assert held is not None
            order = np.concatenate([np.flatnonzero(~held), np.flatnonzero(held)])
            for noisy in (False, True) if draw < NOISY else (False,):
                values = x + 1e-6 * x.std(axis=0) * rng.normal(size=x.shape) if noisy else x
                for gap in GAPS if draw < NOISY else GAPS[:1]:
                    curve = solve(values[order].astype(np.float32), labels[order], int((~held).sum()), gap)
                    curves.setdefault((draw, noisy, gap), []).append(curve)
    table = np.array(accuracies)
    print(f"\n{data.name}, {len(table)} taps; oracle {100 * table.max(axis=1).mean():.2f}\n")
    rows = []
    for label, rule in RULES.items():
        outcomes = np.array([[rule(curve) for curve in curves[draw, False, GAPS[0]]] for draw in range(DRAWS)])
        index = outcomes[..., 0].T  # taps x draws
        reached = np.take_along_axis(table, index, axis=1)
        cost = np.mean(
            [
                curve.iterations[: rule(curve)[1]].sum()
                for draw in range(DRAWS)
                for curve in curves[draw, False, GAPS[0]]
            ]
        )
        changes = np.mean([len(set(each)) > 1 for each in index.tolist()])
        deviation = 100 * reached.std(axis=1, ddof=1).mean()
        rows.append([label, f"{100 * reached.mean():.2f}", f"{deviation:.2f}", f"{100 * changes:.0f}%", f"{cost:.0f}"])
    print(tabulate(rows, headers=["rule", "accuracy", "sd", "taps that change", "iterations"], tablefmt="github"))
    rule, rows = RULES[CHOSEN], []

    def chosen(noisy: bool, gap: float) -> npt.NDArray[np.int64]:
        return np.array([[rule(curve)[0] for curve in curves[draw, noisy, gap]] for draw in range(NOISY)])

    for gap in GAPS:
        exact, own, moved = chosen(False, GAPS[0]), chosen(False, gap), chosen(True, gap)
        cost = np.mean(
            [curve.iterations[: rule(curve)[1]].sum() for draw in range(NOISY) for curve in curves[draw, False, gap]]
        )
        rows.append([f"{gap:g}", f"{(own != exact).mean():.1%}", f"{(moved != own).mean():.1%}", f"{cost:.0f}"])
    print()
    print(tabulate(rows, headers=["gap", "C differs", "C changes by noise", "iterations"], tablefmt="github"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, every=4, dataset=["digits", "digits_inverted"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    for data in read_features(args):
        compare(data)


if __name__ == "__main__":
    main()
