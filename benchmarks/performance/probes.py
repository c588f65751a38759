"""Compare the solver of the logistic path with scikit-learn: objective, predictions, speed, sensitivity to noise.

    python tools/build_embedded_model.py --width 192 --heads 3 --steps 4000 --float32 --out wide
    python benchmarks/performance/probes.py --trained wide/glyphvit.safetensors

It uses one thread. Every case is one tap: probebench's solver fits ten values of C from 1e-4 to 1e2. The unit of time
is scikit-learn's float64 LogisticRegression at C = 1 with its default tolerance. The optimum comes from probebench's
solver in float64 with a tolerance of 1e-9, which tests/probes checks against Newton's method. Times of one case are
measured side by side in alternating order, and ratios are ratios of medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tabulate import tabulate
from threadpoolctl import threadpool_limits
from torchvision import transforms

from probebench import Tap, all_taps, datasets
from probebench.catalog import Catalog, ModelSpec
from probebench.datasets import Split
from probebench.datasets.views import Views
from probebench.features.batching import BatchSize
from probebench.features.forward import extract
from probebench.features.settings import ExtractionSettings
from probebench.models import build
from probebench.models.build import build_model
from probebench.probes.lbfgs import solve_path
from probebench.probes.memory import make_plan
from probebench.probes.principal_axes import principal_axes

PATH = np.logspace(-4, 2, 10)
CATALOG = Catalog.default()


@dataclass(frozen=True)
class Data:
    """float32 features and labels of one tap."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray


# Features


def features(net: build.Model, splits: Sequence[Split], taps: Sequence[Tap]) -> list[dict[Tap, np.ndarray]]:
    spec = CATALOG.model("glyphvit")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (spec.mean, spec.std))
    return [
        extract(
            net,
            Views(split, np.arange(len(split)), "resize_center_crop", 32, 0),
            taps,
            ExtractionSettings("mean", mean, std, BatchSize(256), "cpu"),
        )
        for split in splits
    ]


def redrawn(split: Split, n: int, seed: int) -> Split:
    """Make n views of the images of a split, each turned, moved, scaled and sheared at random."""
    jitter = transforms.RandomAffine(15, (0.08, 0.08), (0.85, 1.15), 10)
    torch.manual_seed(seed)
    chosen = np.arange(n) % len(split)
    images = np.stack([jitter(torch.from_numpy(split.images[i])[None])[0].numpy() for i in chosen])
    return Split(images, split.labels[chosen])


def one_tap(net: build.Model, dataset: str, n: int | None, m: int, tap: Tap) -> Callable[[], Data]:
    def load() -> Data:
        data = datasets.load(CATALOG.dataset(dataset))
        train = data.train if n is None else redrawn(data.train, n, 0)
        train_features, test_features = features(net, [train, redrawn(data.test, m, 1)], [tap])
        return Data(train_features[tap], train.labels, test_features[tap])

    return load


def wide(weights: Path) -> build.Model:
    """Load the network that tools/build_embedded_model.py pretrains with --width 192."""
    spec = CATALOG.model("glyphvit")
    return build_model(
        replace(spec, name="wide", kwargs=spec.kwargs | {"embed_dim": 192, "num_heads": 3}), weights=weights
    )


def random_vit_b() -> build.Model:
    """Build an untrained network of the width and depth of ViT-B for images of 32 pixels."""
    spec: ModelSpec = CATALOG.model("glyphvit_random")
    return build_model(replace(spec, kwargs=spec.kwargs | {"embed_dim": 768, "num_heads": 12}))


def power_law(n: int, d: int, classes: int) -> Callable[[], Data]:
    """Draw features with variances that fall as 1/k, and labels of a random linear teacher with noise."""

    def load() -> Data:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(n + 2000, d)) / np.sqrt(np.arange(1, d + 1))
        x = x @ np.linalg.qr(rng.normal(size=(d, d)))[0]
        logits = x @ rng.normal(size=(d, classes)) * 2 + rng.gumbel(size=(n + 2000, classes))
        labels = logits.argmax(axis=1)
        x = x.astype(np.float32)
        return Data(x[:n], labels[:n], x[n:])

    return load


# Solvers


def standardised(x: np.ndarray, by: np.ndarray) -> np.ndarray:
    return StandardScaler().fit(by.astype(np.float64)).transform(x.astype(np.float64))


def solve(data: Data, path: np.ndarray, dtype: torch.dtype = torch.float32, tol: float = 1e-6):
    """Return seconds, the solution, coefficients (strengths, classes, width) and intercepts for the given features."""
    start = time.perf_counter()
    axes = principal_axes([data.train], dtype=dtype)
    strengths = torch.from_numpy(1 / (path * len(data.train)))[None]
    known, labels = np.unique(data.train_labels, return_inverse=True)
    group = None if dtype == torch.float32 else 1
    found = solve_path(axes.rows, torch.from_numpy(labels), len(known), strengths, tol=tol, group=group)
    seconds = time.perf_counter() - start
    coef, intercept = axes.coefficients(found.weights)
    return seconds, found, coef[0].numpy(), intercept[0].numpy()


def sklearn_fit(data: Data, C: float, tol: float = 1e-4, max_iter: int = 5000):
    start = time.perf_counter()
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=tol, max_iter=max_iter))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline.fit(data.train.astype(np.float64), data.train_labels)
    seconds = time.perf_counter() - start
    scaler, logistic = pipeline[0], pipeline[1]
    coef = logistic.coef_ / scaler.scale_
    return seconds, coef, logistic.intercept_ - coef @ scaler.mean_


def objective(data: Data, C: float, coef: np.ndarray, intercept: np.ndarray) -> float:
    """Compute mean cross-entropy plus penalty in float64 on the given features."""
    labels = np.unique(data.train_labels, return_inverse=True)[1]
    logits = torch.from_numpy(data.train.astype(np.float64) @ coef.T + intercept)
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
    scale = StandardScaler().fit(data.train.astype(np.float64)).scale_
    centred = (coef - coef.mean(axis=0)) * scale
    return float(loss) + 0.5 / (C * len(labels)) * float(np.square(centred).sum())


def predict(data: Data, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    return (data.test.astype(np.float64) @ coef.T + intercept).argmax(axis=1)


# Tables


def measure(name: str, data: Data, rounds: int) -> tuple[list[object], list[object]]:
    classes = len(np.unique(data.train_labels))
    ours, theirs = [], []
    for index in range(rounds):
        for who in ("ours", "theirs") if index % 2 else ("theirs", "ours"):
            if who == "ours":
                seconds, found, coef, intercept = solve(data, PATH)
                ours.append(seconds)
            else:
                seconds, *loose = sklearn_fit(data, 1.0)
                theirs.append(seconds)
    ten = sum(sklearn_fit(data, C)[0] for C in PATH)
    mine, unit = statistics.median(ours), statistics.median(theirs)

    _, _, best_coef, best_intercept = solve(data, PATH, torch.float64, 1e-9)
    gaps, same = [], []
    for i, C in enumerate(PATH):
        optimum = objective(data, C, best_coef[i], best_intercept[i])
        gaps.append(objective(data, C, coef[i], intercept[i]) / optimum - 1)
        same.append((predict(data, coef[i], intercept[i]) == predict(data, best_coef[i], best_intercept[i])).mean())
    # scikit-learn at C = 1, by its default and by a tight tolerance, against the optimum there.
    _, _, one_coef, one_intercept = solve(data, np.array([1.0]), torch.float64, 1e-9)
    one = objective(data, 1.0, one_coef[0], one_intercept[0])
    exact = predict(data, one_coef[0], one_intercept[0])
    _, *tight = sklearn_fit(data, 1.0, tol=1e-8, max_iter=20000)
    quality = [name, f"{max(gaps):.0e}", f"{found.gap.max():.0e}", f"{100 * min(same):.2f}"]
    for coefficients in (loose, tight):
        quality += [f"{objective(data, 1.0, *coefficients) / one - 1:.0e}"]
        quality += [f"{100 * (predict(data, *coefficients) == exact).mean():.2f}"]
    n, d = data.train.shape
    passes = int(found.iterations.sum())
    speed = [name, n, d, classes, f"{mine:.2f}", f"{unit:.2f}", f"{mine / unit:.2f}", f"{mine / ten:.3f}", passes]
    return quality, speed


def all_at_once(dataset: str) -> list[object]:
    """Time the path at all 98 taps of glyphvit, batched as in the plugin, and one scikit-learn fit at each."""
    net = build_model(CATALOG.model("glyphvit"))
    data = datasets.load(CATALOG.dataset(dataset))
    (train,) = features(net, [data.train], all_taps(12))
    known, labels = np.unique(data.train.labels, return_inverse=True)
    strengths = 1 / (PATH * len(labels))
    start = time.perf_counter()
    for width in (64, 256):
        taps = [tap for tap, values in train.items() if values.shape[1] == width]
        size = make_plan(len(labels), width, len(known), len(PATH), 1 << 34, "cpu").taps
        for first in range(0, len(taps), size):
            batch = taps[first : first + size]
            axes = principal_axes([train[tap] for tap in batch])
            repeated = torch.from_numpy(np.tile(strengths, (len(batch), 1)))
            solve_path(axes.rows, torch.from_numpy(labels), len(known), repeated)
    ours = time.perf_counter() - start
    empty = np.zeros((0, 1), np.float32)
    theirs = sum(sklearn_fit(Data(values, data.train.labels, empty), 1.0)[0] for values in train.values())
    return [dataset, len(labels), len(known), f"{ours:.1f}", f"{theirs:.1f}", f"{ours / theirs:.2f}"]


def noise(name: str, data: Data, runs: int) -> list[object]:
    """Count predictions that flip if noise of 1e-6 of each feature's deviation is added to the training data."""

    def predictions(d: Data) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        one = np.array([1.0])
        _, _, coef, intercept = solve(d, one)
        _, _, best, best_intercept = solve(d, one, torch.float64, 1e-9)
        _, *loose = sklearn_fit(d, 1.0)
        return predict(d, coef[0], intercept[0]), predict(d, best[0], best_intercept[0]), predict(d, *loose)

    rng = np.random.default_rng(0)
    scale = data.train.std(axis=0)
    clean = predictions(data)
    flips = np.zeros(3, dtype=int)
    for _ in range(runs):
        noisy = data.train + 1e-6 * scale * rng.normal(size=data.train.shape)
        moved = predictions(replace(data, train=noisy))
        flips += [int((a != b).sum()) for a, b in zip(clean, moved, strict=True)]
    return [name, runs * len(data.test), *flips.tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--trained", type=Path, help="weights of the network of width 192; without, its rows are left out"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=20, help="with noise")
    parser.add_argument("-k", default="", help="only rows whose name contains this")
    args = parser.parse_args()
    torch.set_num_threads(1)

    glyphvit, vit_b = build_model(CATALOG.model("glyphvit")), random_vit_b()
    cases = {
        "glyphvit L12-rc2, digits": one_tap(glyphvit, "digits", None, 2000, Tap(12, "rc2")),
        "glyphvit L07-act, digits": one_tap(glyphvit, "digits", None, 2000, Tap(7, "act")),
        "glyphvit L07-act, glyphs": one_tap(glyphvit, "glyphs", None, 1940, Tap(7, "act")),
        "random ViT-B L05-act, digits": one_tap(vit_b, "digits", 5000, 2000, Tap(5, "act")),
        "random ViT-B L05-rc2, digits": one_tap(vit_b, "digits", 5000, 2000, Tap(5, "rc2")),
        "random ViT-B L05-act, glyphs": one_tap(vit_b, "glyphs", 1000, 1940, Tap(5, "act")),
        "power law": power_law(5000, 768, 10),
        "power law, 100 classes": power_law(10000, 768, 100),
    }
    if args.trained:
        trained = wide(args.trained)
        for layer in (12, 6):
            name = f"trained width 192 L{layer:02d}-act, digits"
            cases[name] = one_tap(trained, "digits", 20000, 2000, Tap(layer, "act"))
    quality, speed = [], []
    with threadpool_limits(1):
        for name, load in cases.items():
            if args.k in name:
                good, fast = measure(name, load(), args.rounds)
                quality.append(good)
                speed.append(fast)
                print(name, good[1:], fast[1:], flush=True)
        if quality:
            columns = ["features", "gap", "estimated", "agree %", "sklearn gap", "agree %", "tol 1e-8 gap", "agree %"]
            print("\n" + tabulate(quality, headers=columns, tablefmt="github", disable_numparse=True), "\n")
            columns = ["features", "N", "d", "C", "path, s", "one sklearn fit, s", "ratio", "to ten fits", "iterations"]
            print(tabulate(speed, headers=columns, tablefmt="github", disable_numparse=True), "\n")
        if args.k in "all taps":
            rows = [all_at_once(dataset) for dataset in ("digits", "glyphs")]
            columns = ["98 taps of glyphvit", "N", "C", "paths, s", "98 sklearn fits, s", "ratio"]
            print(tabulate(rows, headers=columns, tablefmt="github", disable_numparse=True), "\n")
        if args.k in "noise":
            rows = []
            for name in ("glyphvit L12-rc2, digits", "glyphvit L07-act, digits", "random ViT-B L05-act, digits"):
                runs = args.runs if "glyphvit" in name else max(1, args.runs // 10)
                rows.append(noise(name, cases[name](), runs))
            columns = ["noise of 1e-6", "predictions", "flipped", "flipped at the optimum", "flipped by sklearn"]
            print(tabulate(rows, headers=columns, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
