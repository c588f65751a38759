"""Estimate the cost of a study of timm's checkpoints on 40 datasets: docs/scale.md shows the tables.

    python -m benchmarks.performance.study
    python -m benchmarks.performance.study --checkpoints 480 --network 300e12 --decoding 200 --days 14

Run it from the root of the repository. Nothing is measured or downloaded. The checkpoints are those that probebench can
read (architectures.csv). Their sums are scaled to `--checkpoints`, on the assumption that the others are alike. Options
set the rates; the defaults are those that docs/scale.md measured or, for GPUs, assumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tabulate import tabulate

from benchmarks.performance.architectures import Facts, read
from probebench.catalog.protocols import DEFAULT, FEW_SHOT_16, Protocol
from probebench.catalog.taps import Tap
from probebench.measure.cost import fit_operations
from probebench.measure.plan import Workload

RECORD_BYTES, BASELINE_BYTES = 1300, 56
"""Of a case in a run record and in a baseline, besides one bit for each test image in both."""

CACHE_BYTES = 50e9
"""--probe-cache-size unless told otherwise."""


@dataclass(frozen=True)
class Dataset:
    """One dataset.

    Attributes:
        files: whether images are files of photographs, or small and in arrays
    """

    name: str
    classes: int
    train: int
    test: int
    files: bool = True


DATASETS = [
    # Datasets of the catalog (docs/datasets.md).
    Dataset("cifar10", 10, 50_000, 10_000, files=False),
    Dataset("cifar100", 100, 50_000, 10_000, files=False),
    *[
        Dataset(f"cifar10_within_{corruption}", 10, 8_000, 2_000, files=False)
        for corruption in ("contrast", "gaussian_noise", "motion_blur", "snow", "speckle_noise")
    ],
    Dataset("flowers102", 102, 2_040, 6_149),
    Dataset("oxford_pet", 37, 3_680, 3_669),
    Dataset("domainnet_clipart", 345, 33_525, 14_604),
    Dataset("domainnet_infograph", 345, 36_023, 15_582),
    Dataset("domainnet_painting", 345, 50_416, 21_850),
    Dataset("domainnet_quickdraw", 345, 120_750, 51_750),
    Dataset("domainnet_real", 345, 120_906, 52_041),
    Dataset("domainnet_sketch", 345, 48_212, 20_916),
    Dataset("imagenet1k", 1000, 1_281_167, 50_000),
    Dataset("food101", 101, 75_750, 25_250),
    Dataset("sun397", 397, 19_850, 19_850),
    Dataset("stanford_cars", 196, 8_144, 8_041),
    Dataset("fgvc_aircraft", 100, 6_667, 3_333),
    Dataset("dtd", 47, 3_760, 1_880),
    Dataset("caltech101", 101, 3_030, 5_647),
    Dataset("mnist", 10, 60_000, 10_000, files=False),
    Dataset("fer2013", 7, 28_709, 7_178, files=False),
    Dataset("stl10", 10, 5_000, 8_000, files=False),
    Dataset("eurosat", 10, 21_600, 5_400, files=False),
    Dataset("gtsrb", 43, 26_640, 12_630, files=False),
    Dataset("country211", 211, 42_200, 21_100),
    Dataset("pcam", 2, 294_912, 32_768, files=False),
    Dataset("clevr_counts", 8, 70_000, 15_000),
    Dataset("rendered_sst2", 2, 7_792, 1_821),
    # Sizes of the datasets of CLIP (arXiv 2103.00020, table 9) that are not in the catalog.
    Dataset("resisc45", 45, 3_150, 25_200),
    Dataset("birdsnap", 500, 42_283, 2_149),
    Dataset("kitti_distance", 4, 6_770, 711),
    # The other datasets of VTAB (arXiv 1910.04867) except dSprites, in the splits of TensorFlow Datasets, with train
    # and validation joined.
    Dataset("svhn", 10, 73_257, 26_032, files=False),
    Dataset("diabetic_retinopathy", 5, 46_032, 42_670),
    Dataset("dmlab", 6, 88_178, 22_735),
    Dataset("smallnorb_azimuth", 18, 24_300, 24_300, files=False),
    Dataset("smallnorb_elevation", 9, 24_300, 24_300, files=False),
    Dataset("clevr_distance", 6, 70_000, 15_000),
]


@dataclass(frozen=True)
class Rates:
    """The speed of a machine, per second.

    Attributes:
        network: floating-point operations that a GPU reaches in networks
        core: floating-point operations that a processor core reaches in matrix products (`matrix_rate`)
        decoded, resized: images that a core prepares: from files, and from small arrays
    """

    network: float
    core: float
    decoded: float
    resized: float


@dataclass(frozen=True)
class Cost:
    """The cost of a study, or of a part of one.

    Attributes:
        network: operations of networks
        probes: operations of probes, in the unit of `probebench.measure.cost.fit_operations`
        files, arrays: images of each kind that are prepared
        features: bytes, if all are kept
        cases: how many
        bits: of test images in all cases
    """

    network: float = 0.0
    probes: float = 0.0
    files: float = 0.0
    arrays: float = 0.0
    features: float = 0.0
    cases: float = 0.0
    bits: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(a + b for a, b in zip(self.values(), other.values(), strict=True)))

    def __mul__(self, factor: float) -> Cost:
        return Cost(*(factor * value for value in self.values()))

    def values(self) -> tuple[float, ...]:
        return self.network, self.probes, self.files, self.arrays, self.features, self.cases, self.bits

    def hours(self, rates: Rates) -> tuple[float, float, float]:
        """Return hours: GPUs for networks, cores to prepare images, cores for probes."""
        ready = self.files / rates.decoded + self.arrays / rates.resized
        return self.network / rates.network / 3600, ready / 3600, self.probes / rates.core / 3600

    @property
    def records(self) -> float:
        """Return the bytes of run records, with their bits."""
        return RECORD_BYTES * self.cases + self.bits / 8

    @property
    def baselines(self) -> float:
        """Return the bytes of baselines, with their bits."""
        return BASELINE_BYTES * self.cases + self.bits / 8


@dataclass(frozen=True)
class Variant:
    """A way to do the study.

    Attributes:
        kept: which taps are read
        screened: how many taps get the full probe, after ridge at all; None for all without screening
        left_out: datasets that are not measured
        largest: most parameters of a checkpoint
    """

    name: str
    protocol: Protocol = DEFAULT
    kept: Callable[[Tap], bool] = lambda _: True
    screened: int | None = None
    left_out: frozenset[str] = frozenset()
    largest: float = float("inf")


def demand(facts: Facts, dataset: Dataset, protocol: Protocol, kept: Callable[[Tap], bool]) -> Workload:
    """Compute the workload of a sweep. Images that several draws share are read once."""
    shots, draws = protocol.shots, protocol.draws or 1
    n_train = dataset.train if shots is None else min(dataset.train, shots * dataset.classes)
    n_read = round(dataset.train * (1 - (1 - n_train / dataset.train) ** draws))
    return Workload(
        protocol,
        {tap: width for tap, width in facts.taps().items() if kept(tap)},
        n_read=n_read,
        n_train=n_train,
        n_test=dataset.test,
        classes=dataset.classes,
        draws=draws,
        narrow=facts.narrow,
    )


def sweep(facts: Facts, dataset: Dataset, variant: Variant = Variant("")) -> Cost:
    """Compute the cost of one checkpoint on one dataset."""
    asked = demand(facts, dataset, variant.protocol, variant.kept)
    probes, taps = fit_operations(asked), len(asked.widths)
    count = taps
    if variant.screened is not None:
        # A mean tap for each chosen one, and `final`. Ridge is fitted twice, on the part that is not held out.
        count = min(taps, variant.screened + 1)
        ridge = replace(asked, protocol=replace(variant.protocol, probe="ridge_path"), narrow=None)
        probes = probes * count / taps + fit_operations(ridge)
    images = asked.n_read + asked.n_test
    return Cost(
        network=float(facts.operations * images),
        probes=probes,
        files=float(images if dataset.files else 0),
        arrays=float(0 if dataset.files else images),
        features=float(asked.feature_bytes),
        cases=float(count),
        bits=float(count * asked.n_test * asked.draws),
    )


def study(every: Sequence[Facts], datasets: Sequence[Dataset], variant: Variant = Variant("")) -> Cost:
    """Compute the cost of all checkpoints on all datasets."""
    small = [facts for facts in every if facts.parameters <= variant.largest]
    chosen = [dataset for dataset in datasets if dataset.name not in variant.left_out]
    parts = (sweep(facts, dataset, variant) * facts.checkpoints for facts in small for dataset in chosen)
    return sum(parts, Cost())


def variants() -> Iterator[Variant]:
    main = frozenset({"imagenet1k"})
    yield Variant("everything")
    yield Variant("without ImageNet", left_out=main)
    yield Variant(
        "the same, DomainNet left out too", left_out=main | {d.name for d in DATASETS if "domainnet" in d.name}
    )
    yield Variant("without ImageNet, act, rc2 and final only", kept=few, left_out=main)
    yield Variant("without ImageNet, ridge, then 10 taps", screened=10, left_out=main)
    yield Variant("without ImageNet, up to 100 M parameters", left_out=main, largest=1e8)
    yield Variant("few_shot_16@2, everything", FEW_SHOT_16)
    yield Variant("few_shot_16@2, act, rc2 and final only", FEW_SHOT_16, kept=few)
    yield Variant("the same, up to 100 M parameters", FEW_SHOT_16, kept=few, largest=1e8)


def few(tap: Tap) -> bool:
    return tap.site in ("act", "rc2", "final")


GPUS: Mapping[str, float] = {
    # Dense peaks from Nvidia's data sheets, times the share that a network is assumed to reach.
    "H100 SXM, float32 (67 TFLOP/s)": 0.6 * 67e12,
    "H100 SXM, TF32 (495)": 0.4 * 495e12,
    "H100 SXM, bf16 (989)": 0.4 * 989e12,
    "A100 SXM, float32 (19.5)": 0.6 * 19.5e12,
    "A100 SXM, TF32 (156)": 0.4 * 156e12,
    "A100 SXM, bf16 (312)": 0.4 * 312e12,
}


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def volume(value: float) -> str:
    return f"{value / 1e12:,.0f} TB" if value >= 1e13 else f"{value / 1e9:,.0f} GB"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return "\n" + tabulate(rows, headers=header, tablefmt="github", disable_numparse=True) + "\n"


def by_variant(every: Sequence[Facts], datasets: Sequence[Dataset], scale: float, rates: Rates, days: float) -> str:
    rows = []
    for variant in variants():
        cost = study(every, datasets, variant) * scale
        gpu, ready, probes = cost.hours(rates)
        hours = [number(value) for value in (gpu, ready, probes, probes / 24 / days)]
        sizes = [volume(value) for value in (cost.features, cost.records, cost.baselines)]
        rows.append([variant.name, f"{cost.cases / 1e6:.1f} M", *hours, *sizes])
    hours = ["GPU h, networks", "core h, images", "core h, probes", f"cores for {days:g} days"]
    return table(["study", "cases", *hours, "features", "records", "baselines"], rows)


def by_gpu(whole: Cost, rates: Rates, days: float) -> str:
    rows = []
    for name, reached in GPUS.items():
        gpu, ready, _ = whole.hours(replace(rates, network=reached))
        # Images are prepared while the GPU works; it waits if it has fewer cores than this.
        hours = (gpu, gpu / 24, gpu / 24 / days)
        rows.append([name, f"{reached / 1e12:.0f}", *map(number, hours), f"{ready / gpu:.1f}"])
    needed = ["GPUs for 1 day", f"for {days:g} days", "cores a GPU to make images ready"]
    return table(["GPU", "TFLOP/s reached, assumed", "GPU h", *needed], rows)


def by_dataset(every: Sequence[Facts], datasets: Sequence[Dataset], scale: float, rates: Rates, most: int = 8) -> str:
    """List the costs of the datasets whose probes take longest."""
    costs = {dataset: study(every, [dataset]) * scale for dataset in datasets}
    rows = []
    for dataset in sorted(datasets, key=lambda dataset: -costs[dataset].probes)[:most]:
        cost, sizes = costs[dataset], (dataset.classes, dataset.train, dataset.test)
        cells = [f"{size:,}" for size in sizes] + [number(value) for value in cost.hours(rates)]
        rows.append([dataset.name, *cells, volume(cost.features)])
    hours = ["GPU h, networks", "core h, images", "core h, probes"]
    return table(["dataset", "classes", "train", "test", *hours, "features"], rows)


def overview(every: Sequence[Facts], datasets: Sequence[Dataset], checkpoints: int) -> str:
    known = sum(facts.checkpoints for facts in every)

    def mean(of: Callable[[Facts], float]) -> float:
        return sum(facts.checkpoints * of(facts) for facts in every) / known

    images = sum(dataset.train + dataset.test for dataset in datasets)
    whole = study(every, datasets) * (checkpoints / known)
    parameters = mean(lambda facts: facts.parameters)
    fit = mean(lambda facts: sum(sweep(facts, dataset).features <= CACHE_BYTES for dataset in datasets))
    return "\n".join(
        [
            f"{known} checkpoints of {len(every)} architectures can be read; sums are scaled to {checkpoints:,}",
            f"mean of a checkpoint: {parameters / 1e6:.0f} M parameters, "
            f"{mean(lambda facts: facts.operations) / 1e9:.0f} GFLOP an image, "
            f"{mean(lambda facts: len(facts.taps())):.0f} taps, {mean(lambda f: sum(f.taps().values())):,.0f} values",
            f"{len(datasets)} datasets, {images:,} images; {volume(4 * checkpoints * parameters)} of weights",
            f"{checkpoints * len(datasets):,} sweeps, {checkpoints * images / 1e9:.1f} billion images, "
            f"{whole.network:.1e} FLOP of networks, {whole.probes:.1e} of probes",
            f"features of a sweep: {volume(whole.features / checkpoints / len(datasets))} on average, those of "
            f"{fit / len(datasets):.0%} of sweeps no more than the cache may take by default",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, default=1500, help="default: %(default)s")
    parser.add_argument(
        "--network", type=float, default=GPUS["H100 SXM, float32 (67 TFLOP/s)"], help="FLOP/s that a GPU reaches"
    )
    parser.add_argument("--core", type=float, default=85, help="GFLOP/s of a core's float32 products (default: 85)")
    parser.add_argument("--decoding", type=float, default=250, help="photographs a second and core (default: 250)")
    parser.add_argument("--resizing", type=float, default=2000, help="small images a second and core (default: 2000)")
    parser.add_argument("--days", type=float, default=7, help="to be finished in (default: %(default)s)")
    args = parser.parse_args()
    every = read()
    scale = args.checkpoints / sum(facts.checkpoints for facts in every)
    rates = Rates(args.network, 1e9 * args.core, args.decoding, args.resizing)
    print(overview(every, DATASETS, args.checkpoints))
    print(by_variant(every, DATASETS, scale, rates, args.days))
    print(by_gpu(study(every, DATASETS) * scale, rates, args.days))
    print("datasets whose probes take most")
    print(by_dataset(every, DATASETS, scale, rates))


if __name__ == "__main__":
    main()
