"""Measure how often a run of the embedded suite raises a false alarm, and the smallest drop that it finds.

    python -m benchmarks.statistics.verdicts --work DIR [--jobs 2] [--quick]

Measures glyphvit on the embedded datasets under `default@2` in many settings: again with other batch sizes, threads and
orders; in bfloat16; with other images held out; with noise on the weights of one block. The correct test images are
stored in DIR, so that an interrupted run can continue. Then it examines several rules for calling a case regressed: how
often a rule is wrong if nothing got worse, and what it finds if something did.

docs/statistics.md has the results.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from safetensors.torch import save_file
from scipy.stats import binom, hypergeom
from sklearn.isotonic import IsotonicRegression

from probebench import all_taps, datasets
from probebench.catalog import Catalog
from probebench.catalog.protocols import DEFAULT
from probebench.datasets.splits import held_out_part, training_sets
from probebench.datasets.views import Views, pixel_statistics
from probebench.features.batching import BatchSize
from probebench.features.forward import extract
from probebench.features.settings import ExtractionSettings
from probebench.models.build import build_model
from probebench.probes import get_probe
from tools.damage_weights import damaged

SUITE = Catalog.default().dataset_names("embedded")
ALPHA, MIN_DROP = 0.01, 0.005
FAMILY = len(SUITE) * len(all_taps(12))
TEST = 20_000  # simulated runs of a null hypothesis
DRAWS = 1_000  # resampled test sets of a damaged run


@dataclass(frozen=True)
class Setting:
    """One way to run the suite.

    Attributes:
        threads: of the forward pass
        order: seed of the order in which taps are fitted; None for their own
        seed: of the protocol, and so of the held-out part
        block, noise: the block whose matrices get Gaussian noise, and its size in their own standard deviations
    """

    name: str
    batch_size: int = 256
    threads: int = 1
    order: int | None = None
    bfloat16: bool = False
    seed: int = 0
    block: int = 0
    noise: float = 0.0


CLEAN = Setting("clean")
BATCHES = (5, 7, 16, 31, 32, 64, 97, 100, 128, 200, 255, 257, 300, 449, 512, 600, 898, 899, 1000, 2000)
RERUNS = [Setting(f"rerun{i}", size, threads=1 + i % 2, order=i) for i, size in enumerate(BATCHES, start=1)]
BFLOAT16 = Setting("bfloat16", bfloat16=True)
OTHER_SPLIT = Setting("seed1", seed=1)
AMOUNTS = {6: (0.3, 1.0, 2.0, 3.0, 4.0), 2: (3.0,)}
DAMAGES = [
    Setting(f"block{block}x{noise}", block=block, noise=noise)
    for block, amounts in AMOUNTS.items()
    for noise in amounts
]
PART = ("digits", "digits_contrast")  # the datasets on which damage is measured


DIGITS = tuple(name for name in SUITE if name != "glyphs_49")  # which differ in the shift alone


def plan(quick: bool) -> list[tuple[Setting, str]]:
    """List the settings to measure. Each rerun takes one dataset in turn; damage is measured on some."""
    if quick:
        return [(setting, "digits") for setting in (CLEAN, RERUNS[1], BFLOAT16, OTHER_SPLIT, DAMAGES[2], DAMAGES[4])]
    jobs = [(setting, name) for setting in (CLEAN, BFLOAT16) for name in SUITE]
    jobs += [(setting, DIGITS[i % len(DIGITS)]) for i, setting in enumerate(RERUNS)]
    return jobs + [(setting, name) for setting in (*DAMAGES, OTHER_SPLIT) for name in PART]


# Measuring


def weights(setting: Setting, work: Path) -> Path | None:
    """Return the file of damaged weights of a setting, or None if its weights are undamaged."""
    if not setting.block:
        return None
    path = work / f"{setting.name}.safetensors"
    if not path.exists():
        save_file(damaged(setting.block, setting.noise), path)
    return path


def measure(setting: Setting, dataset: str, work: Path) -> None:
    """Write which test images were right, bool of shape (taps, n), unless the file exists."""
    path = work / f"{setting.name}-{dataset}.npy"
    if path.exists():
        return
    torch.set_num_threads(setting.threads)
    protocol = replace(DEFAULT, seed=setting.seed)
    catalog = Catalog.default()
    spec, data = catalog.model("glyphvit"), datasets.load(catalog.dataset(dataset))
    (chosen,) = training_sets(data.train, protocol)
    built = build_model(spec, weights=weights(setting, work))
    mean, std = pixel_statistics(protocol, spec)
    taps = all_taps(spec.depth)
    if setting.bfloat16:
        built.net.forward_features = torch.autocast("cpu", torch.bfloat16)(built.net.forward_features)
    train, test = (
        extract(
            built,
            Views(split, indices, protocol.test_view, spec.input_size, protocol.seed, protocol.resizing(spec)),
            taps,
            ExtractionSettings(protocol.pooling, mean, std, BatchSize(setting.batch_size), "cpu"),
        )
        for split, indices in ((data.train, chosen), (data.test, np.arange(len(data.test))))
    )
    if setting.order is not None:
        shuffled = np.random.default_rng(setting.order).permutation(len(taps))
        train = {taps[i]: train[taps[i]] for i in shuffled}
    held_out = held_out_part(data.train, chosen, protocol)
    fits = dict(get_probe(protocol.probe)(train, data.train.labels[chosen], test, held_out, protocol, "cpu", 1))
    correct = np.stack([fits[tap].predictions == data.test.labels for tap in taps])
    with path.with_suffix(".part").open("wb") as file:
        np.save(file, correct)
    path.with_suffix(".part").replace(path)


# Rules: each takes how many images were right before and now, lost and gained, of shape (taps, runs), and says which
# cases have regressed.


@dataclass(frozen=True)
class Counts:
    """Counts at the taps of one sweep in many simulated runs: int arrays of shape (taps, runs)."""

    before: np.ndarray
    now: np.ndarray
    lost: np.ndarray
    gained: np.ndarray
    n: int


Rule = Callable[[Counts], np.ndarray]


def stepped_down(p: np.ndarray, alpha: float, family: int) -> np.ndarray:
    """Apply Holm's procedure within each column of p-values, against the size of the whole family."""
    order = np.argsort(p, axis=0, kind="stable")
    limits = alpha / (family - np.arange(len(p)))
    passed = np.logical_and.accumulate(np.take_along_axis(p, order, axis=0) <= limits[:, None], axis=0)
    rejected = np.empty_like(passed)
    np.put_along_axis(rejected, order, passed, axis=0)
    return rejected


def paired(c: Counts, alpha: float = ALPHA, min_drop: float = MIN_DROP, family: int = FAMILY) -> np.ndarray:
    """Apply probebench's rule: McNemar's exact test, Holm's procedure, a material drop."""
    p = np.where(c.lost > 0, binom.sf(c.lost - 1, c.lost + c.gained, 0.5), 1.0)
    return stepped_down(p, alpha, family) & (c.before - c.now >= min_drop * c.n) & (c.now < c.before)


def unpaired(c: Counts, alpha: float = ALPHA, min_drop: float = MIN_DROP, family: int = FAMILY) -> np.ndarray:
    """Apply the same rule with Fisher's exact test, which does not use which images were right."""
    p = hypergeom.sf(c.before - 1, 2 * c.n, c.before + c.now, c.n)
    return stepped_down(p, alpha, family) & (c.before - c.now >= min_drop * c.n) & (c.now < c.before)


def tolerance(points: float) -> Rule:
    """Call a case regressed if its accuracy fell by so many points."""
    return lambda c: c.before - c.now >= points / 100 * c.n


RULES: Mapping[str, Rule] = {
    "probebench (paired)": paired,
    "unpaired": unpaired,
    "tolerance 0.5": tolerance(0.5),
    "tolerance 1": tolerance(1.0),
    "tolerance 2": tolerance(2.0),
}


# Simulation


def swapped(a: np.ndarray, b: np.ndarray, runs: int, rng: np.random.Generator) -> Counts:
    """Simulate runs in which nothing got worse: for each test image swap the two runs at random, at all taps together.

    So as many images change sides, taps depend on each other as before, and a loss is as likely as a gain.
    """
    change = b.astype(np.float32) - a
    signs = rng.choice(np.array([-1, 1], np.float32), (a.shape[1], runs))
    net = np.rint(change @ signs).astype(np.int64)
    moved = np.abs(change).sum(axis=1, keepdims=True).astype(np.int64)
    total = (a.sum(axis=1) + b.sum(axis=1))[:, None]
    return Counts((total - net) // 2, (total + net) // 2, (moved - net) // 2, (moved + net) // 2, a.shape[1])


def resampled(a: np.ndarray, b: np.ndarray, runs: int, rng: np.random.Generator) -> Counts:
    """Draw the test images of two runs again, with replacement."""
    n = a.shape[1]
    weight = rng.multinomial(n, np.full(n, 1 / n), size=runs).T.astype(np.float32)
    before, now, lost, gained = (
        np.rint(which.astype(np.float32) @ weight).astype(np.int64) for which in (a, b, a & ~b, ~a & b)
    )
    return Counts(before, now, lost, gained, n)


def chunks(total: int, size: int = 1000) -> Iterator[int]:
    while total > 0:
        yield min(size, total)
        total -= size


def false_alarms(pairs: Sequence[tuple[np.ndarray, np.ndarray]], runs: int) -> dict[str, float]:
    """Return for each rule the share of simulated runs, over all pairs, in which any case has regressed."""
    rng, red = np.random.default_rng(0), dict.fromkeys(RULES, 0)
    for count in chunks(runs):
        raised = {name: np.zeros(count, bool) for name in RULES}
        for a, b in pairs:
            counts = swapped(a, b, count, rng)
            for name, rule in RULES.items():
                raised[name] |= rule(counts).any(axis=0)
        for name in RULES:
            red[name] += int(raised[name].sum())
    return {name: value / runs for name, value in red.items()}


def found(a: np.ndarray, b: np.ndarray, runs: int) -> dict[str, np.ndarray]:
    """Return for each rule which cases it finds in which resampled runs: bool of shape (taps, runs)."""
    counts = resampled(a, b, runs, np.random.default_rng(0))
    return {name: rule(counts) for name, rule in RULES.items()}


def smallest_drop(drops: np.ndarray, rates: np.ndarray, power: float = 0.95) -> float | None:
    """Return the smallest drop found with at least that probability, or None if the largest is not.

    The rate also depends on how many images changed sides, so that cases scatter; the probability is a
    rising function of the drop, fitted by isotonic regression.

    Args:
        drops: true drops, as fractions
        rates: how often each was found
    """
    fitted = IsotonicRegression().fit(drops, rates).predict(drops)
    enough = drops[fitted >= power]
    return float(enough.min()) if len(enough) else None


# Report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where measurements are kept")
    parser.add_argument("--jobs", type=int, default=1, help="settings measured at a time")
    parser.add_argument("--quick", action="store_true", help="a few settings on one dataset, to try the script")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    jobs = plan(args.quick)
    # Files of damaged weights first, so that no two processes write one.
    for setting in {setting.name: setting for setting, _ in jobs}.values():
        weights(setting, args.work)
    tasks = (delayed(measure)(setting, name, args.work) for setting, name in jobs)
    for done, _ in enumerate(Parallel(args.jobs, return_as="generator_unordered")(tasks), start=1):
        print(f"\rmeasured {done} of {len(jobs)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    correct = {(setting.name, name): np.load(args.work / f"{setting.name}-{name}.npy") for setting, name in jobs}
    figures = analyse(correct, [setting for setting in DAMAGES if any(s == setting for s, _ in jobs)])
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


def analyse(correct: Mapping[tuple[str, str], np.ndarray], damages: Sequence[Setting]) -> dict[str, object]:
    """Print the figures and return them."""

    def both(setting: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {name: (correct["clean", name], now) for (which, name), now in correct.items() if which == setting}

    print("## Reruns that change nothing\n")
    names = sorted({which for which, _ in correct if which.startswith("rerun")}, key=lambda name: int(name[5:]))
    flips = {which: {name: int((a != b).sum()) for name, (a, b) in both(which).items()} for which in names}
    settings = {setting.name: setting for setting in RERUNS}
    print("| rerun | batch size | threads | datasets | cases | predictions that changed sides | regressed |")
    print("|---|---|---|---|---|---|---|")
    raised = {}
    for which in names:
        counts = [swapped_nothing(a, b) for a, b in both(which).values()]
        raised[which] = int(sum(paired(each).sum() for each in counts))
        cases, setting = sum(len(each.before) for each in counts), settings[which]
        print(
            f"| {which[5:]} | {setting.batch_size} | {setting.threads} | {', '.join(flips[which])} | {cases} "
            f"| {sum(flips[which].values())} | {raised[which]} |"
        )

    print("\n## Runs that raise a false alarm, %\n")
    nulls = {"bfloat16": ["bfloat16"], "other images held out": ["seed1"], "damage, changed about": ["block6x3.0"]}
    alarms = {}
    print("| rule | " + " | ".join(nulls) + " |")
    print("|---" * (1 + len(nulls)) + "|")
    for title, which in nulls.items():
        pairs = [pair for name in which for pair in both(name).values()]
        if pairs:
            alarms[title] = false_alarms(pairs, TEST)
            changed = np.mean([(a != b).mean() for a, b in pairs])
            print(
                f"<!-- {title}: {100 * changed:.2f}% of predictions differ, {sum(len(a) for a, _ in pairs)} cases -->"
            )
    for rule in RULES:
        print(f"| {rule} | " + " | ".join(f"{100 * alarms[title][rule]:.2f}" for title in alarms) + " |")
    observed = {
        which: {
            rule: int(sum(RULES[rule](swapped_nothing(a, b)).sum() for a, b in both(which).values())) for rule in RULES
        }
        for which in ("bfloat16", "seed1")
        if both(which)
    }
    print("\nCases that each rule calls regressed in these runs as they are:\n")
    print("| rule | " + " | ".join(observed) + " |")
    print("|---" * (1 + len(observed)) + "|")
    for rule in RULES:
        print(f"| {rule} | " + " | ".join(str(observed[which][rule]) for which in observed) + " |")

    print("\n## Damage\n")
    drops: list[np.ndarray] = []
    rates: dict[str, list[np.ndarray]] = {rule: [] for rule in RULES}
    red: dict[str, dict[str, float]] = {}
    for setting in damages:
        raised_runs = {rule: np.zeros(DRAWS, bool) for rule in RULES}
        for a, b in both(setting.name).values():
            drops.append(a.mean(axis=1) - b.mean(axis=1))
            for rule, which in found(a, b, DRAWS).items():
                rates[rule].append(which.mean(axis=1))
                raised_runs[rule] |= which.any(axis=0)
        red[setting.name] = {rule: float(raised_runs[rule].mean()) for rule in RULES} | {
            "largest drop": float(max(each.max() for each in drops[-len(both(setting.name)) :]))
        }
    print("| block | noise | largest drop, points | " + " | ".join(f"red by {rule}, %" for rule in RULES) + " |")
    print("|---" * (3 + len(RULES)) + "|")
    for setting in damages:
        row = red[setting.name]
        print(
            f"| {setting.block} | {setting.noise:g} | {100 * row['largest drop']:.1f} | "
            + " | ".join(f"{100 * row[rule]:.0f}" for rule in RULES)
            + " |"
        )
    every = np.concatenate(drops)
    smallest = {rule: smallest_drop(every, np.concatenate(rates[rule])) for rule in RULES}
    print("\n| rule | smallest drop of a case found with 95% probability, points |")
    print("|---|---|")
    for rule, value in smallest.items():
        print(f"| {rule} | {'none' if value is None else f'{100 * value:.2f}'} |")
    return {
        "reruns": [asdict(settings[which]) | {"flips": flips[which], "regressed": raised[which]} for which in names],
        "false_alarms": alarms,
        "observed": observed,
        "red": red,
        "smallest_drop": smallest,
    }


def swapped_nothing(a: np.ndarray, b: np.ndarray) -> Counts:
    """Return the two runs unchanged, as the only simulated run."""
    before, now, lost, gained = (which.sum(axis=1)[:, None] for which in (a, b, a & ~b, ~a & b))
    return Counts(before, now, lost, gained, a.shape[1])


if __name__ == "__main__":
    main()
