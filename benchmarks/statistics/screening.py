"""How often `probebench recommend --budget N` finds what the full probe of all taps does.

    python -m benchmarks.statistics.screening

glyphvit on the embedded datasets, with all training images and with a fifth of them, where that leaves no class without
any, under several seeds, which draw those and the held-out part. Each run has one extraction, one ridge probe and one
full probe of every tap; all sizes of the screening are read off them. `same`: the tap that the full probe chooses is
among those screened. `tied`: the tap that is chosen after screening is it, or one that McNemar's tests with Holm's
procedure over all taps cannot tell from it on the test images. `loss`: how much less accurate on test the tap chosen
after screening is, on average, in percentage points. Takes about half an hour on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from tabulate import tabulate

from probebench._arrays import on_host
from probebench._hardware import available_cores
from probebench.catalog import Catalog
from probebench.catalog.protocols import DEFAULT
from probebench.catalog.taps import Tap
from probebench.errors import DataError
from probebench.measure.extract import extract
from probebench.measure.prepare import prepare
from probebench.measure.probe import probe
from probebench.measure.result import SweepResult
from probebench.recommendation import screening
from probebench.records.tap_selection import select_tap

MODEL = "glyphvit"
DATASETS = (
    "glyphs",
    "digits",
    "digits_contrast",
    "digits_gaussian_noise",
    "digits_speckle_noise",
    "digits_inverted",
    "digits_sketch",
)
SIZES = (3, 5, 10)
SHARES = (1.0, 0.2)


def measure(dataset: str, share: float, seed: int, jobs: int) -> tuple[dict[Tap, float], SweepResult]:
    """Measure the screening's score of every tap, and the full result."""
    protocol = replace(DEFAULT, train_fraction=share, seed=seed)
    model = replace(Catalog.default().model(MODEL), reference="")
    prepared = prepare(model, dataset, protocol=protocol, device="cpu")
    plan = prepared.plan(jobs=jobs)
    features = extract(prepared, prepared.taps, prepared.settings(plan))
    train = {tap: on_host(values) for tap, values in features.train.items()}
    scored = screening.scores(train, prepared.sets[0], protocol, "cpu", jobs)
    result = SweepResult.begin(prepared, plan)
    result.taps = {found.tap: found for found in probe(prepared, plan, features)}
    result.sort()
    return scored, result


def after(scored: dict[Tap, float], result: SweepResult, size: int) -> tuple[bool, bool, float]:
    """Whether the full choice was screened; whether what is chosen is it or tied with it; the loss on test."""
    cases = result.cases
    full = select_tap(cases, result.correct)
    assert full is not None
    kept = {tap.id for tap in screening.best(scored, size)}
    own = select_tap([case for case in cases if case["id"] in kept], {})
    assert own is not None
    good = own["tap"] == full["tap"] or own["tap"] in full["tied"]
    return full["tap"] in kept, good, full["accuracy"] - own["accuracy"]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--datasets", nargs="+", default=DATASETS, metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3, help="of each dataset and share of training images")
    parser.add_argument("--jobs", type=int, default=available_cores())
    args = parser.parse_args(argv)
    found: dict[float, dict[int, list[tuple[bool, bool, float]]]]
    found = {share: {size: [] for size in SIZES} for share in SHARES}
    for dataset in args.datasets:
        for share in SHARES:
            for seed in range(args.seeds):
                try:
                    scored, result = measure(dataset, share, seed, args.jobs)
                except DataError:
                    continue  # a fifth of the training images leaves a class without any
                for size in SIZES:
                    found[share][size].append(after(scored, result, size))
                print(dataset, share, seed, *(found[share][size][-1] for size in SIZES), flush=True)
    every = {size: [run for share in SHARES for run in found[share][size]] for size in SIZES}
    lines = [
        [what, size, *summary(runs[size])]
        for what, runs in {
            "all runs": every,
            **{f"{share:.0%} of the images": found[share] for share in SHARES},
        }.items()
        for size in SIZES
        if runs[size]
    ]
    print(tabulate(lines, headers=["", "size", "same", "tied", "loss"]))


def summary(runs: Sequence[tuple[bool, bool, float]]) -> list[str]:
    """How many runs found the same tap, how many one that is tied, and the mean loss."""
    same, tied = (sum(run[place] for run in runs) for place in (0, 1))
    loss = 100 * sum(run[2] for run in runs) / len(runs)
    return [f"{same} of {len(runs)}", f"{tied} of {len(runs)}", f"{loss:+.2f}"]


if __name__ == "__main__":
    main()
