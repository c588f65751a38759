"""Compare the fits of `default@2` with those of `default@1` and with scikit-learn, on real features.

    python benchmarks/performance/default_probe.py --checkpoint vit_s14.safetensors --size 98 \
        --architecture vit_small_patch14_dinov2.lvd142m --images cifar10_small.npz --every 7
    python benchmarks/performance/default_probe.py

Processor time on one thread of all fits of a tap: the choice of C, the last fit, the width control, predictions. The
column "default@2 to it" compares with one float64 fit of scikit-learn's LogisticRegression at C = 1 with its default
tolerance; there default@2 is timed without the width control. All are timed tap by tap, in turn. Without arguments the
features are those of glyphvit.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tabulate import tabulate
from threadpoolctl import threadpool_limits

from probebench import Tap, all_taps, datasets
from probebench.catalog import ModelSpec
from probebench.catalog.protocols import get_protocol
from probebench.datasets import Split
from probebench.datasets.splits import held_out_part
from probebench.datasets.views import Views
from probebench.features.batching import BatchSize
from probebench.features.forward import extract
from probebench.features.settings import ExtractionSettings
from probebench.models import default_catalog
from probebench.models.build import build_model
from probebench.models.timm_spec import complete_spec
from probebench.probes.evaluate import TapResult, TrainingSet, probe_taps


@dataclass
class Total:
    """Sums over the taps of one width: seconds and accuracies by protocol, and seconds without the control."""

    taps: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    accuracy: dict[str, float] = field(default_factory=lambda: defaultdict(float))


@dataclass(frozen=True)
class Data:
    """float32 features of one tap, and the splits that they are of."""

    seen: np.ndarray
    unseen: np.ndarray
    train: Split
    test: Split


def fit(data: Data, protocol: str, narrow: int | None) -> tuple[float, TapResult]:
    """Return the seconds that the fits of one tap take, and the result."""
    tap, chosen, labels = Tap("final", "final"), get_protocol(protocol), data.train.labels
    sets = [TrainingSet(None, labels, held_out_part(data.train, np.arange(len(labels)), chosen))]
    start = time.thread_time()
    (result,) = probe_taps(
        {tap: data.seen}, {tap: data.unseen}, sets, data.test.labels, chosen, narrow=narrow, device="cpu", jobs=1
    )
    return time.thread_time() - start, result


def run(name: str, train: Split, test: Split, spec: ModelSpec, every: int) -> None:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (spec.mean, spec.std))
    taps = all_taps(spec.depth)[::every]
    settings = ExtractionSettings("mean", mean, std, BatchSize(128), "cpu")
    net = build_model(spec)
    seen, unseen = (
        extract(net, Views(part, np.arange(len(part)), "resize_center_crop", spec.input_size or 224, 0), taps, settings)
        for part in (train, test)
    )
    torch.set_num_threads(1)
    narrow = min(values.shape[1] for values in seen.values())  # of the residual stream
    totals: dict[int, Total] = defaultdict(Total)
    for tap in taps:
        width = seen[tap].shape[1]
        total = totals[width]
        total.taps += 1
        here = Data(seen[tap], unseen[tap], train, test)
        for protocol in ("default@1", "default@2"):
            seconds, result = fit(here, protocol, narrow)
            total.seconds[protocol] += seconds
            total.accuracy[protocol] += result.accuracy
        total.seconds["alone"] += fit(here, "default@2", None)[0]
        start = time.thread_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = StandardScaler().fit_transform(seen[tap].astype(np.float64))
            LogisticRegression(max_iter=5000).fit(rows, train.labels)
        total.seconds["sklearn"] += time.thread_time() - start
    print(f"\n{name}: {len(train)} training images\n")
    rows = []
    for width, total in sorted(totals.items()):
        each = {key: value / total.taps for key, value in total.seconds.items()}
        rows.append([width, total.taps, each["default@1"], each["default@2"], each["default@2"] / each["default@1"]])
        rows[-1] += [each["sklearn"], each["alone"] / each["sklearn"]]
        rows[-1] += [100 * total.accuracy[protocol] / total.taps for protocol in ("default@1", "default@2")]
    heads = ["width", "taps", "default@1, s", "default@2, s", "ratio", "scikit-learn, s", "default@2 to it"]
    print(tabulate(rows, [*heads, "accuracy @1", "accuracy @2"], tablefmt="github", floatfmt=".2f"))
    spent = {key: sum(total.seconds[key] for total in totals.values()) for key in ("default@1", "default@2")}
    print(f"\nall: default@2 takes {spent['default@2'] / spent['default@1']:.2f} of default@1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=7, help="every how many taps are probed")
    parser.add_argument("--checkpoint", type=Path, help="weights of a network of your own, in place of glyphvit")
    parser.add_argument("--architecture", help="its name in timm")
    parser.add_argument("--size", type=int, help="its input size in pixels")
    parser.add_argument("--images", type=Path, help="npz file with x_train, y_train, x_test, y_test")
    args = parser.parse_args()
    with threadpool_limits(1):
        if args.checkpoint:
            spec = complete_spec(
                ModelSpec("mine", args.architecture, checkpoint=args.checkpoint, kwargs={"img_size": args.size})
            )
            with np.load(args.images, allow_pickle=False) as stored:
                names = np.unique(stored["y_train"])
                train, test = (
                    Split(stored[f"x_{part}"], np.searchsorted(names, stored[f"y_{part}"]))
                    for part in ("train", "test")
                )
            run(args.images.stem, train, test, spec, args.every)
            return
        catalog = default_catalog()
        for name in ("digits", "glyphs"):
            data = datasets.load(catalog.dataset(name))
            run(f"glyphvit on {name}", data.train, data.test, catalog.model("glyphvit"), args.every)


if __name__ == "__main__":
    main()
