"""Compare the fits of `default@2` with those of `default@1` and with scikit-learn, on real features.

    python -m benchmarks.performance.default_probe --checkpoint vit_s14.safetensors --size 98 \
        --architecture vit_small_patch14_dinov2.lvd142m --images cifar10_small.npz --every 7
    python -m benchmarks.performance.default_probe

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

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tabulate import tabulate
from threadpoolctl import threadpool_limits

from benchmarks.features import Features, add_arguments, read_features
from probebench import Tap
from probebench.catalog.protocols import get_protocol
from probebench.datasets.splits import held_out_part
from probebench.probes.evaluate import TapResult, TrainingSet, probe_taps


@dataclass
class Total:
    """Sums over the taps of one width: seconds and accuracies by protocol, and seconds without the control."""

    taps: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    accuracy: dict[str, float] = field(default_factory=lambda: defaultdict(float))


def fit(data: Features, tap: Tap, protocol: str, narrow: int | None) -> tuple[float, TapResult]:
    """Return the seconds that the fits of one tap take, and the result."""
    chosen, labels = get_protocol(protocol), data.train.labels
    sets = [TrainingSet(None, labels, held_out_part(data.train, np.arange(len(labels)), chosen))]
    seen, unseen = {tap: data.seen[tap]}, {tap: data.unseen[tap]}
    start = time.thread_time()
    (result,) = probe_taps(seen, unseen, sets, data.test.labels, chosen, narrow=narrow, device="cpu", jobs=1)
    return time.thread_time() - start, result


def compare(data: Features) -> None:
    narrow = min(values.shape[1] for values in data.seen.values())  # of the residual stream
    totals: dict[int, Total] = defaultdict(Total)
    for tap, seen in data.seen.items():
        width = seen.shape[1]
        total = totals[width]
        total.taps += 1
        for protocol in ("default@1", "default@2"):
            seconds, result = fit(data, tap, protocol, narrow)
            total.seconds[protocol] += seconds
            total.accuracy[protocol] += result.accuracy
        total.seconds["alone"] += fit(data, tap, "default@2", None)[0]
        start = time.thread_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = StandardScaler().fit_transform(seen.astype(np.float64))
            LogisticRegression(max_iter=5000).fit(rows, data.train.labels)
        total.seconds["sklearn"] += time.thread_time() - start
    print(f"\n{data.name}: {len(data.train)} training images\n")
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
    add_arguments(parser, every=7, dataset=["digits", "glyphs"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        for data in read_features(args):
            compare(data)


if __name__ == "__main__":
    main()
