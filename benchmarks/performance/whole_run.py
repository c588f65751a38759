"""Compare embedded sweeps with the obvious way: one forward pass and one scikit-learn fit for every case.

    python benchmarks/performance/whole_run.py

Both measure the same accuracies. The obvious way takes too long for all cases, so it is timed on a sample of taps,
evenly spaced over all 98, and scaled up. Each sampled case is one pass over the train and test images with one hook
that keeps the features of its tap, and one fit on all cores, as scikit-learn uses them. The sweep is timed completely;
loading is included in both. The order alternates between rounds, and the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from tabulate import tabulate

from probebench import Tap, all_taps, datasets, run_sweep
from probebench.catalog import Catalog
from probebench.catalog.protocols import PAPER
from probebench.datasets.splits import training_sets
from probebench.datasets.views import Views
from probebench.features.batching import BatchSize
from probebench.features.forward import extract
from probebench.features.settings import ExtractionSettings
from probebench.models.build import build_model
from probebench.probes.sklearn_logistic import make_classifier

TAPS = all_taps(12)


def obvious(model: str, dataset: str, tap: Tap) -> float:
    """Measure one case by itself, from the name of the model to its accuracy."""
    catalog = Catalog.default()
    spec = catalog.model(model)
    net, data = build_model(spec), datasets.load(catalog.dataset(dataset))
    (chosen,) = training_sets(data.train, PAPER)
    settings = ExtractionSettings.for_model(PAPER, spec, BatchSize(256), "cpu")
    features = []
    for split, indices, kind in (
        (data.train, chosen, PAPER.train_view),
        (data.test, np.arange(len(data.test)), PAPER.test_view),
    ):
        values = extract(net, Views(split, indices, kind, spec.input_size, PAPER.seed), [tap], settings)[tap]
        features.append(values / np.linalg.norm(values, axis=1, keepdims=True))
    classifier = make_classifier(PAPER).fit(features[0], data.train.labels[chosen])
    return float(classifier.score(features[1], data.test.labels))


def time_sweep(dataset: str, sample: list[Tap]) -> tuple[float, dict[Tap, float]]:
    start = time.perf_counter()
    result = run_sweep("glyphvit", dataset, protocol=PAPER)
    seconds = time.perf_counter() - start
    return seconds, {tap: result.taps[tap].accuracy for tap in sample}


def time_cases(dataset: str, sample: list[Tap]) -> tuple[float, dict[Tap, float]]:
    """Time a sample of cases, and scale the seconds up to all taps."""
    start = time.perf_counter()
    accuracies = {tap: obvious("glyphvit", dataset, tap) for tap in sample}
    return (time.perf_counter() - start) / len(sample) * len(TAPS), accuracies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="*", default=["glyphs", "digits"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sample", type=int, default=7, help="taps that the obvious way is timed on")
    args = parser.parse_args()
    sample = TAPS[:: max(1, len(TAPS) // args.sample)][: args.sample]
    rows = []
    for dataset in args.datasets:
        run_sweep("glyphvit", dataset)  # warm: imports, worker processes, the jittered digits
        sweeps, cases = [], []
        for index in range(args.rounds):
            for step, into in ((time_sweep, sweeps), (time_cases, cases))[:: 1 if index % 2 else -1]:
                into.append(step(dataset, sample))
        together, alone = (statistics.median(seconds for seconds, _ in found) for found in (sweeps, cases))
        apart = max(abs(sweeps[0][1][tap] - cases[0][1][tap]) for tap in sample)
        rows.append([dataset, f"{together:.1f}", f"{alone:.1f}", f"1/{alone / together:.1f}", f"{100 * apart:.2f}"])
    header = ["dataset", "sweep, s", "98 cases one by one, s", "ratio", "largest difference, points"]
    print(tabulate(rows, headers=header, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
