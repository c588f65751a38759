"""Measure the cost of finding duplicates, as a share of the time that the extraction of features takes.

    python -m benchmarks.performance.duplicates

Photographs of 500 x 375 pixels, one of which is in train and test, go through a network without a feature cache, which
is the dearer case: with one, files are read for its key in any case. Both sides are timed in the same process.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from probebench import DatasetSpec, ModelSpec
from probebench.measure.duplicates import find_equal_pixels
from probebench.measure.extract import extract
from probebench.measure.prepare import prepare, read_images


def write_photographs(folder: Path, count: int) -> None:
    """Write JPEG files of about 80 kB in two classes, a fifth of them for testing."""
    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / ("test" if number % 5 == 0 else "train") / ("a" if number % 2 else "b")
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (47, 63, 3), dtype=np.uint8)).resize((500, 375))
        noisy = np.asarray(coarse).astype(int) + rng.integers(-12, 12, (375, 500, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(place / f"{number}.jpg", quality=90)
    (folder / "test" / "b" / "copy.jpg").write_bytes((folder / "train" / "a" / "1.jpg").read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--model", default="vit_tiny_patch16_224", help="timm's name of an architecture")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    model = ModelSpec("net", args.model, weights="random", seed=0)
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder), args.images)
        spec = DatasetSpec("photographs", "probebench.datasets.folder:image_folder", {"root": folder})
        prepared = prepare(model, spec, taps=["final"], device=args.device)
        images = read_images(spec, spec, prepared.protocol)
        start = time.perf_counter()
        images.duplicates()
        compared = time.perf_counter() - start
        plan = prepared.plan()
        features = extract(prepared, prepared.taps, prepared.settings(plan))
        start = time.perf_counter()
        found = find_equal_pixels(prepared, features)
        compared += time.perf_counter() - start
    print(f"{found.describe()}")
    print(
        f"{args.model} on {args.device}, {args.images:,} images: extraction {features.seconds:.1f} s, "
        f"duplicates {compared:.2f} s, {100 * compared / features.seconds:.1f}%"
    )


if __name__ == "__main__":
    main()
