"""Compare the speed of extracting all taps, under one and under three poolings, with a bare forward pass.

    python benchmarks/performance/extraction.py

Each round times the three, one after the other in alternating order, on the same images in memory, in batches of the
size that a sweep uses. Ratios are medians over rounds: seconds of the bare pass by seconds with all taps, and seconds
with three poolings by seconds with one. Each configuration is one row. On a GPU a round has eight batches, because
features are copied during the work on the next batch, and a second row is for features that stay on the GPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from functools import partial
from itertools import count

import torch
from tabulate import tabulate
from timm.models.vision_transformer import VisionTransformer

from probebench.catalog import builtin_models
from probebench.catalog.taps import Tap, all_taps
from probebench.features.batching import BatchSize
from probebench.features.forward import HostCopy, Store
from probebench.features.hooks import TapReader
from probebench.models.build import build_model


def glyphvit() -> torch.nn.Module:
    return build_model(builtin_models()["glyphvit"]).net


def vit(width: int, heads: int) -> torch.nn.Module:
    torch.manual_seed(0)
    return VisionTransformer(patch_size=16, embed_dim=width, depth=12, num_heads=heads, num_classes=0).eval()


CONFIGURATIONS = {
    # name: network, side of its input, dtype
    "glyphvit-fp32": (glyphvit, 32, torch.float32),
    "vit_s16-fp32": (partial(vit, 384, 6), 224, torch.float32),
    "vit_b16-fp32": (partial(vit, 768, 12), 224, torch.float32),
    "vit_b16-bf16": (partial(vit, 768, 12), 224, torch.bfloat16),
}


def measure(name_of_row: str, rounds: int, device: str, batch: int | None, stay: bool) -> list[object]:
    make, side, dtype = CONFIGURATIONS[name_of_row]
    on_gpu = device.startswith("cuda")
    net = make().to(device=device, dtype=dtype)
    batch = batch or BatchSize.for_network(net, device).now
    images = torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    wanted: dict[str, list[Tap]] = {"bare": [], "one": all_taps(12), "three": all_taps(12, ("patch_mean", "cls"))}
    readers = {name: TapReader(net, taps, "mean") for name, taps in wanted.items()}
    # As sweeps over eight batches would, one after the other.
    where, kept = device if stay else None, 1 if on_gpu else 8

    def fresh(taps: list[Tap]) -> Iterator[Store]:
        return (store for _ in count() for store in [Store(taps, 8 * batch, where)] * kept)

    stores = {name: fresh(taps) for name, taps in wanted.items()}

    batches = 8 if on_gpu else 1

    def once(name: str) -> float:
        reader, taps = readers[name], wanted[name]
        store = next(stores[name])
        copy = HostCopy(store.put, device) if taps and on_gpu and not stay else None
        with torch.inference_mode(), reader.attached():
            if on_gpu:
                torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(batches):
                found = reader.read(images)
                if copy is not None:
                    copy.send(found)
                elif taps:
                    store.put(found if stay else [values.numpy() for values in found])
            if copy is not None:
                copy.finish()
            if on_gpu:
                torch.cuda.synchronize()
            return (time.perf_counter() - start) / batches

    for name in (*wanted, *wanted):
        once(name)
    seconds: dict[str, list[float]] = {name: [] for name in wanted}
    for index in range(rounds):
        for name in list(wanted)[:: 1 if index % 2 else -1]:
            seconds[name].append(once(name))
    ratios = [bare / one for bare, one in zip(seconds["bare"], seconds["one"], strict=True)]
    more = [three / one for three, one in zip(seconds["three"], seconds["one"], strict=True)]
    return [
        name_of_row,
        "GPU" if stay else "memory",
        batch,
        round(batch / statistics.median(seconds["bare"]), 1),
        round(batch / statistics.median(seconds["one"]), 1),
        *_quartiles(ratios),
        *_quartiles(more),
    ]


def _quartiles(ratios: list[float]) -> tuple[str, str]:
    low, median, high = statistics.quantiles(ratios, n=4)
    return f"{median:.3f}", f"{low:.3f}-{high:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configurations", nargs="*", help=f"any of {', '.join(CONFIGURATIONS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, help="images per forward pass (default: as --probe-batch-size)")
    parser.add_argument("--threads", type=int, help="of torch on the CPU")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = [
        measure(name, args.rounds, args.device, args.batch, stay)
        for name in args.configurations or CONFIGURATIONS
        for stay in (False, True)[: 1 + args.device.startswith("cuda")]
    ]
    print(f"{args.device}, {torch.get_num_threads()} threads, torch {torch.__version__}, {args.rounds} rounds")
    header = ["configuration", "features in", "batch", "bare images/s", "99 taps images/s", "bare / taps", "quartiles"]
    header += ["three / one pooling", "quartiles"]
    print(tabulate(rows, headers=header, tablefmt="github"))


if __name__ == "__main__":
    main()
