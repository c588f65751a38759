"""What a network's output, its best tap, pooling, pair and attentive probe are worth, side by side.

    python -m benchmarks.statistics.representations
    python -m benchmarks.statistics.representations --checkpoint vit_s14.safetensors --size 98 \
        --architecture vit_small_patch14_dinov2.lvd142m --images cifar10_small.npz --train 2000 --test 1000
    python -m benchmarks.statistics.representations --checkpoint vit_s14.safetensors --size 98 \
        --architecture vit_small_patch14_dinov2.lvd142m --images pacs/photo

Every row is chosen on held-out training images: the best tap among those with the first pooling, the best tap and
pooling, and so on. Columns: accuracy on the test images with its 95% interval; the difference from the output, with a
95% interval and the p-value of the exact paired test (two-sided, one row at a time); number of features; seconds of
all fits among which the row was chosen, the search for a combination included. The last column compares a combination
with its best member.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tabulate import tabulate

from probebench import DatasetSpec, ModelSpec, Tap, TapResult, all_taps, run_sweep
from probebench.catalog.catalog import dataset_of
from probebench.catalog.taps import FINAL, OUTPUT
from probebench.datasets import Split
from probebench.measure.prepare import model_of
from probebench.models import default_catalog
from probebench.stats import discordant, paired, paired_interval

COMBINED = ("last4", "pair", "triple")


def npz(path: str, train: int, test: int) -> tuple[list[str], Split, Split]:
    """Read evenly spaced images of an npz file, so that all classes stay."""
    with np.load(path, allow_pickle=False) as stored:
        names = np.unique(stored["y_train"])
        parts = []
        for part, count in (("train", train), ("test", test)):
            rows = np.linspace(0, len(stored[f"x_{part}"]), count or len(stored[f"x_{part}"]), endpoint=False).astype(
                int
            )
            parts.append(Split(stored[f"x_{part}"][rows], np.searchsorted(names, stored[f"y_{part}"][rows])))
    return [str(name) for name in names], *parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="glyphvit", help="of the catalog")
    parser.add_argument("--dataset", nargs="+", default=["glyphs_49", "digits", "digits_inverted"])
    parser.add_argument("--checkpoint", type=Path, help="weights of a network of your own, in place of --model")
    parser.add_argument("--architecture", help="its name in timm")
    parser.add_argument("--size", type=int, help="its input size in pixels")
    parser.add_argument(
        "--images", type=Path, help="npz file with x_train ... y_test, or a folder with a folder a class"
    )
    parser.add_argument("--train", type=int, default=0, help="that many images of an npz file; all by default")
    parser.add_argument("--test", type=int, default=0)
    parser.add_argument("--poolings", default="mean,cls,patch_mean", help="the first is the base")
    parser.add_argument("--first-layer", type=int, default=1)
    parser.add_argument("--attentive", action="store_true", help="also at the best tap; slow on a CPU")
    args = parser.parse_args()
    model: str | ModelSpec = args.model
    if args.checkpoint:
        model = ModelSpec("mine", args.architecture, checkpoint=args.checkpoint, kwargs={"img_size": args.size})
    found: Iterable[str | DatasetSpec] = args.dataset
    if args.images is not None and args.images.is_dir():
        reader, kwargs = "probebench.datasets.unsplit:unsplit_folder", {"folder": str(args.images), "test_every": 3}
        found = [DatasetSpec(args.images.name, reader, kwargs=kwargs)]
    elif args.images is not None:
        kwargs = {"path": str(args.images), "train": args.train, "test": args.test}
        found = [DatasetSpec(args.images.stem, f"{npz.__module__}:npz", kwargs=kwargs)]
    for dataset in found:
        compare(model, dataset, args)


def compare(model: str | ModelSpec, dataset: str | DatasetSpec, args: argparse.Namespace) -> None:
    catalog = default_catalog()
    spec, data = model_of(model, catalog), dataset_of(dataset, catalog)
    base, *more = args.poolings.split(",")
    protocol = "default@2" if base == "mean" else f"default@2+{base}"
    taps = [
        tap
        for tap in all_taps(spec.depth, more, COMBINED)
        if not isinstance(tap.layer, int) or tap.layer >= args.first_layer
    ]
    result = run_sweep(spec, data, protocol=protocol, taps=taps)
    singles = [each for tap, each in result.taps.items() if not tap.is_combination]
    plain = [each for each in singles if not each.tap.pooling]
    rows = {
        "output": [result.taps[Tap(OUTPUT, OUTPUT)]],
        f"final, {base}": [result.taps[Tap(FINAL, FINAL)]],
        "best tap": plain,
        "best tap and pooling": singles,
        "last4, best pooling": [each for tap, each in result.taps.items() if tap.layer == "last4"],
        "best pair": [result.taps[Tap("pair", "pair")]],
        "best triple": [result.taps[Tap("triple", "triple")]],
    }
    if args.attentive:
        attentive = run_sweep(spec, data, protocol="attentive@1", taps=[best(plain).tap])
        rows["attentive at the best tap"] = list(attentive.taps.values())
    reference = rows["output"][0]
    print(f"\n{spec.name} on {data.name}, {protocol}, {result.n_train:,} training and {result.n_test:,} test images;")
    print(f"{len(result.taps)} representations tried, {result.extract_seconds:.0f} s of extraction\n")
    header = ["representation", "where", "acc %", "95% CI", "vs output", "95% CI", "p", "features", "fits s", "note"]
    table = [cells(name, best(of), of, reference) for name, of in rows.items()]
    print(tabulate(table, header, tablefmt="github", disable_numparse=True))
    every = best(list(result.taps.values()))
    print(f"\nbest of all by held-out accuracy: {every.tap.id}; of single taps: {best(singles).tap.id}")


def best(results: list[TapResult]) -> TapResult:
    return min(results, key=lambda each: (-(each.held_out_accuracy or 0.0), each.tap))


def cells(name: str, row: TapResult, of: list[TapResult], reference: TapResult) -> list[str]:
    low, high = (100 * end for end in row.ci95)
    text = [name, row.tap.id, f"{100 * row.accuracy:.1f}", f"{low:.1f}-{high:.1f}"]
    lost, gained = discordant(reference.correct, row.correct)
    ends = paired_interval(lost, gained, len(reference.correct))
    p = paired(reference.correct, row.correct).p_two_sided
    text += [
        f"{100 * (row.accuracy - reference.accuracy):+.1f}",
        f"{100 * ends[0]:+.1f} to {100 * ends[1]:+.1f}",
        f"{p:.2g}",
    ]
    note = ""
    if (made := row.combination) is not None:
        members = " + ".join(tap.id for tap in made.members)
        note = members
        if made.best_member is not None and made.gain is not None:
            note += f": {100 * made.gain:+.1f} over {made.best_member.id} (p = {made.p_value:.2g})"
    elif row.same_as is not None:
        note = f"equals {row.same_as.id}"
    return [*text, str(row.width), f"{sum(each.seconds for each in of):.0f}", note]


if __name__ == "__main__":
    main()
