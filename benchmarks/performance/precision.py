"""Count the predictions that flip, and the change of accuracy, if a network computes in a lower precision.

    python benchmarks/performance/precision.py
    python benchmarks/performance/precision.py --model vit_b16 --dataset cifar10 --device cuda

It measures sweeps of all taps under the protocol in fp32 and in each of the other precisions. Training and test
features are both computed in the lower precision, as in a run with --probe-precision. A prediction flips if it was
right and is wrong, or the other way round. extraction.py measures how much faster a lower precision is.
"""

from __future__ import annotations

import argparse

import numpy as np
from tabulate import tabulate

from probebench._hardware import choose_device
from probebench.catalog.precision import PRECISIONS
from probebench.measure.result import SweepResult
from probebench.measure.sweep import run_sweep


def row(precision: str, exact: SweepResult, lower: SweepResult) -> list[object]:
    flips = [np.mean(exact.taps[tap].correct != lower.taps[tap].correct) for tap in exact.taps]
    alike = [flip for flip, tap in zip(flips, exact.taps, strict=True) if exact.taps[tap].C == lower.taps[tap].C]
    moved = [100 * (lower.taps[tap].accuracy - exact.taps[tap].accuracy) for tap in exact.taps]
    return [
        exact.dataset.name,
        precision,
        f"{len(flips) * exact.n_test:,}",
        f"{100 * np.mean(flips):.2f}",
        f"{100 * max(flips):.2f}",
        f"{100 * np.mean(alike):.2f} ({len(alike)} taps)" if alike else "",
        f"{np.mean(moved):+.2f}",
        f"{min(moved):+.2f} to {max(moved):+.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="glyphvit")
    parser.add_argument("--dataset", nargs="+", default=["digits", "digits_inverted"])
    parser.add_argument("--protocol", default="default@2")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    device = choose_device(args.device)
    others = [name for name in PRECISIONS if name != "fp32" and (name != "tf32" or device.startswith("cuda"))]
    rows = []
    for dataset in args.dataset:
        exact = run_sweep(args.model, dataset, protocol=args.protocol, device=device)
        for name in others:
            lower = run_sweep(args.model, dataset, protocol=f"{args.protocol}+{name}", device=device)
            rows.append(row(name, exact, lower))
    header = [
        "dataset",
        "precision",
        "predictions",
        "flipped %",
        "worst tap %",
        "% at the same C",
        "accuracy",
        "by tap",
    ]
    print(f"{args.model}, {args.protocol}, {device}; accuracy in points against fp32")
    print(tabulate(rows, headers=header, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
