"""Check the cost model of docs/scale.md: measure small sizes, fit the constants on some, predict the others.

    OMP_NUM_THREADS=1 python -m benchmarks.performance.cost                # about five minutes on one core
    OMP_NUM_THREADS=1 python -m benchmarks.performance.cost --part fits    # or extraction, bytes

From the root of the repository. One thread. Prints for each part what is measured against what is predicted, and the
worst ratio. The constants of fits, `probebench.probes.operations.OPERATIONS`, are those of whole paths (`default@1`).
This prints them as this run would have them, and checks `default@2`, whose paths end early.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from tabulate import tabulate

from benchmarks.performance.architectures import facts
from benchmarks.performance.probes import Data, one_tap, power_law
from probebench import all_taps, run_sweep
from probebench.catalog import builtin_models
from probebench.catalog.protocols import DEFAULT, DEFAULT_1, Protocol
from probebench.catalog.taps import Tap
from probebench.datasets import Split
from probebench.datasets.views import Views
from probebench.features.cache import FeatureCache
from probebench.features.hooks import TapReader
from probebench.measure.cost import matrix_rate
from probebench.models.build import build_model
from probebench.probes import find_probe
from probebench.probes.base import FitSize
from probebench.probes.operations import OPERATIONS, fit_parts, path_operations

STRENGTHS = len(DEFAULT_1.path or ())
RIDGE = replace(DEFAULT_1, name="ridge", probe="ridge_path")

CALIBRATION = [
    # training rows, features, classes, taps; each power-law features
    *[(n, d, k, 1) for n in (500, 2000, 8000) for d in (64, 256, 768) for k in (10, 100) if n * d * k < 3e8],
    (2000, 64, 3, 1),
    (8000, 256, 3, 1),
    (2000, 256, 30, 1),
    (8000, 256, 30, 1),
    (1000, 1536, 10, 1),
    (16000, 192, 10, 1),
    (16000, 192, 30, 1),
]
HELD_OUT = [
    (160, 768, 10, 1),
    (5000, 384, 10, 1),
    (5000, 1536, 10, 1),
    (1600, 384, 100, 1),
    (1000, 128, 30, 1),
    (1000, 64, 10, 8),
    (1000, 64, 10, 32),
    (4000, 512, 3, 1),
    (4000, 384, 200, 1),
    (30000, 64, 10, 1),
    (30000, 256, 10, 1),
    (20000, 768, 10, 1),
    (1000, 2048, 10, 1),
    (3000, 3072, 10, 1),
]
REAL = [
    # images of digits, redrawn if there are too few, and of glyphs
    ("digits", None, Tap(7, "rc2")),
    ("digits", None, Tap(7, "act")),
    ("glyphs", None, Tap(7, "rc2")),
    ("glyphs", None, Tap(7, "act")),
    ("digits", 8000, Tap(12, "rc2")),
    ("digits", 8000, Tap(7, "act")),
]


@dataclass(frozen=True)
class Measured:
    """The time that a probe took.

    Attributes:
        name: of the features
        seconds: of processor time, a tap
        rate: floating-point operations a second of this core, just before and after
        iterations: of the solver, a tap
    """

    name: str
    n: int
    width: int
    classes: int
    taps: int
    seconds: float
    rate: float
    iterations: float


def time_fit(name: str, data: Data, taps: int, protocol: Protocol) -> Measured:
    """Time the choice of C and the last fit at some taps; quick fits three times, for the median."""
    n, width = data.train.shape
    rng = np.random.default_rng(0)
    train = {Tap(i + 1, "rc2"): data.train for i in range(taps)}
    test = dict.fromkeys(train, data.test[:500])
    held_out = rng.permutation(n) < n // 5
    probe = find_probe(protocol.probe).fit
    found = []
    while not found or (len(found) < 3 and found[0][0] * taps < 1):
        rate = matrix_rate()
        fits = [fit for _, fit in probe(train, data.train_labels, test, held_out, protocol, "cpu", 1)]
        seconds = statistics.fmean(fit.seconds for fit in fits)
        found.append((seconds, max(rate, matrix_rate()), statistics.fmean(fit.iterations for fit in fits)))
    seconds, rate, iterations = sorted(found)[len(found) // 2]
    return Measured(name, n, width, len(np.unique(data.train_labels)), taps, seconds, rate, iterations)


def calibrate(measured: Sequence[Measured]) -> dict[str, float]:
    """Fit the constants so that the logarithms of predicted and measured times differ least.

    Terms that the times do not determine stay near the present constants.
    """
    from scipy.optimize import least_squares

    names = list(OPERATIONS)
    sizes = np.array(
        [[fit_parts(m.n, m.width, m.classes, STRENGTHS, m.taps)[name] for name in names] for m in measured]
    )
    taken = np.log([m.seconds * m.rate for m in measured])
    start = np.log([OPERATIONS[name] for name in names])

    def off(logs: np.ndarray) -> np.ndarray:
        return np.concatenate([np.log(sizes @ np.exp(logs)) - taken, 0.4 * (logs - start)])

    found = least_squares(off, start)
    return {name: float(f"{value:.2g}") for name, value in zip(names, np.exp(found.x), strict=True)}


def time_synthetic(sizes: Sequence[tuple[int, int, int, int]], protocol: Protocol) -> list[Measured]:
    found = []
    for n, width, classes, taps in sizes:
        found.append(time_fit("power law", power_law(n, width, classes)(), taps, protocol))
        print(f"  {found[-1]}", flush=True)
    return found


def time_real(protocol: Protocol) -> list[Measured]:
    net = build_model(builtin_models()["glyphvit"])
    found = []
    for dataset, n, tap in REAL:
        found.append(time_fit(f"glyphvit {tap.id}, {dataset}", one_tap(net, dataset, n, 500, tap)(), 1, protocol))
        print(f"  {found[-1]}", flush=True)
    return found


def shipped(m: Measured, protocol: Protocol) -> float:
    """Return the operations that a plan counts for a fit of that size."""
    size = FitSize(m.n, 500, m.width, m.classes, len(protocol.path or ()), m.taps)
    return find_probe(protocol.probe).operations(size)


def print_fits(title: str, found: Sequence[Measured], predicted: dict[str, Sequence[float]]) -> None:
    """Print measured seconds beside those that operations, by a name for each column, predict."""
    columns = ["features", "N", "d", "classes", "taps", "measured, s"]
    rows = [[m.name, m.n, m.width, m.classes, m.taps, f"{m.seconds:.2f}"] for m in found]
    lines = []
    for name, operations in predicted.items():
        seconds = [each / m.rate for each, m in zip(operations, found, strict=True)]
        ratios = [each / m.seconds for each, m in zip(seconds, found, strict=True)]
        columns += [f"{name}, s", "ratio"]
        for row, each, ratio in zip(rows, seconds, ratios, strict=True):
            row += [f"{each:.2f}", f"{ratio:.2f}"]
        lines.append(f"{name}: {summary(ratios)}")
    for row, m in zip(rows, found, strict=True):
        row.append(round(m.iterations))
    print(f"\n{title}\n" + tabulate(rows, headers=[*columns, "iterations"], tablefmt="github", disable_numparse=True))
    print("\n".join(lines))


def check_fits() -> None:
    paths = {
        "calibrated on": time_synthetic(CALIBRATION, DEFAULT_1),
        "held out": time_synthetic(HELD_OUT, DEFAULT_1),
        "real features, held out": time_real(DEFAULT_1),
    }
    constants = calibrate(paths["calibrated on"])
    print("\nconstants of this run", constants, "\nof probebench.probes.operations ", dict(OPERATIONS))
    for title, found in paths.items():
        own = [path_operations(m.n, m.width, m.classes, STRENGTHS, m.taps, constants) for m in found]
        print_fits(f"default@1, {title}", found, {"this run's": own, "shipped": [shipped(m, DEFAULT_1) for m in found]})
    ridge = [(500, 256, 10, 1), (4000, 256, 100, 1), (4000, 768, 10, 1)]  # the constant is of these
    for title, protocol, found in (
        ("ridge", RIDGE, time_synthetic(ridge, RIDGE)),
        ("default@2", DEFAULT, time_synthetic([*CALIBRATION, *HELD_OUT], DEFAULT)),
        ("default@2, real features", DEFAULT, time_real(DEFAULT)),
    ):
        print_fits(title, found, {"shipped": [shipped(m, protocol) for m in found]})


def summary(ratios: Sequence[float]) -> str:
    """Summarise the ratios of predicted to measured times."""
    off = [abs(np.log(ratio)) for ratio in ratios]
    total = f"half of them within {np.exp(statistics.median(off)):.2f} times"
    return f"predicted / measured {min(ratios):.2f} to {max(ratios):.2f}, {total}, worst {np.exp(max(off)):.2f} times"


# Extraction

NETWORKS = [
    # timm's name, side of the input, images in a batch; the first two give the rate for the others
    ("vit_tiny_patch16_224", 224, 4),
    ("vit_small_patch16_224", 224, 4),
    ("vit_small_patch14_dinov2", 224, 4),
    ("vit_small_patch14_dinov2", 448, 1),
    ("vit_base_patch32_224", 224, 4),
    ("vit_base_patch16_224", 224, 2),
    ("eva02_tiny_patch14_336", 336, 2),
]


def images_per_second(architecture: str, size: int, batch: int, rounds: int = 5) -> float:
    """Measure the speed of an untrained network with all taps read; the median over batches."""
    torch.manual_seed(0)
    net = timm.create_model(architecture, num_classes=0, img_size=size).eval()
    reader = TapReader(net, all_taps(len(net.blocks)), "mean")
    images = torch.randn(batch, 3, size, size)
    times = []
    with torch.inference_mode(), reader.attached():
        for _ in range(rounds + 1):
            start = time.perf_counter()
            reader.read(images)
            times.append(time.perf_counter() - start)
    return batch / statistics.median(times[1:])


def check_extraction() -> None:
    found = []
    for architecture, size, batch in NETWORKS:
        operations = facts(architecture, img_size=size).operations
        found.append((architecture, size, operations, images_per_second(architecture, size, batch)))
    rate = float(np.exp(np.mean([np.log(operations * speed) for *_, operations, speed in found[:2]])))
    rows, ratios = [], []
    for architecture, size, operations, speed in found:
        predicted = rate / operations
        ratios.append(predicted / speed)
        cells = [f"{operations / 1e9:.1f}", f"{operations * speed / 1e9:.0f}", f"{speed:.2f}", f"{predicted:.2f}"]
        rows.append([architecture, size, *cells, f"{ratios[-1]:.2f}"])
    columns = ["network", "pixels", "GFLOP an image", "GFLOP/s reached", "images/s", "predicted", "ratio"]
    print("\n" + tabulate(rows, headers=columns, tablefmt="github", disable_numparse=True))
    print(f"rate of the first two {rate / 1e9:.0f} GFLOP/s; the others: {summary(ratios[2:])}")


def photographs(count: int, width: int = 500, height: int = 375) -> list[bytes]:
    """Make JPEG files with as much detail as a photograph: noise whose amplitude falls with its frequency."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.rfftfreq(width), np.fft.fftfreq(height)))
    amplitude = 1 / np.maximum(frequency, 1 / width)
    files = []
    for _ in range(count):
        shape = (3, *frequency.shape)
        noise = np.fft.irfft2(amplitude * (rng.normal(size=shape) + 1j * rng.normal(size=shape)), s=(height, width))
        noise[1:] = noise[0] + 0.3 * noise[1:]  # colours go together
        pixels = np.clip(128 + 50 * noise / noise.std(), 0, 255).astype(np.uint8).transpose(1, 2, 0)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def check_decoding(count: int = 100) -> None:
    from probebench.datasets.files import ImageFiles

    with tempfile.TemporaryDirectory() as folder:
        files = photographs(count)
        names = [f"{i}.jpg" for i in range(count)]
        for name, content in zip(names, files, strict=True):
            (Path(folder) / name).write_bytes(content)
        rows = []
        small = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        for what, images in (("JPEG, 500 x 375", ImageFiles(Path(folder), names)), ("array, 32 x 32", small)):
            views = Views(
                Split(images, np.zeros(count, np.int64)), np.arange(count), DEFAULT.test_view, 224, 0, "bicubic"
            )
            times = []
            for _ in range(5):
                start = time.perf_counter()
                for i in range(count):
                    views[i]
                times.append(time.perf_counter() - start)
            rows.append([what, f"{count / statistics.median(times):.0f}"])
    print(f"\n{statistics.fmean(map(len, files)) / 1000:.0f} kB a JPEG")
    print(tabulate(rows, headers=["images to 224 x 224", "images/s, one core"], tablefmt="github"))


# Bytes


def check_bytes() -> None:
    taps = [Tap(layer, site) for layer in (1, 6) for site in ("ln1", "act", "rc2")] + [Tap("final", "final")]
    rows = []
    for chosen in (taps[:1], taps, None):
        with tempfile.TemporaryDirectory() as folder:
            cache = FeatureCache(Path(folder), always=True)
            found = run_sweep("glyphvit", "digits", taps=chosen, cache=cache, protocol=RIDGE, device="cpu", jobs=1)
            kept = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        widths = sum(each.width for each in found.taps.values())
        # `final` is always read for test images, because shift is measured there.
        extra = 0 if chosen is None or taps[-1] in chosen else 64 * found.n_test
        predicted = 4 * ((found.n_train + found.n_test) * widths + extra)
        rows.append([len(found.taps), widths, found.n_train + found.n_test, predicted, kept, f"{predicted / kept:.4f}"])
    columns = ["taps", "sum of widths", "images", "predicted bytes", "cache on disk", "ratio"]
    print("\n" + tabulate(rows, headers=columns, tablefmt="github"))


PARTS = {"extraction": check_extraction, "decoding": check_decoding, "bytes": check_bytes, "fits": check_fits}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, help="only this (default: all)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, timm {timm.__version__}, one thread, {matrix_rate() / 1e9:.0f} GFLOP/s")
    for name, check in PARTS.items():
        if args.part in (None, name):
            check()


if __name__ == "__main__":
    main()
