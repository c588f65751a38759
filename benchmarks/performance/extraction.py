"""Compare the speed of extracting all taps with that of a bare forward pass of the same network.

    python benchmarks/performance/extraction.py

Each round times both, one after the other in alternating order, on the same images in memory, in batches of the size
that a sweep uses. The ratio is the median over rounds of (seconds of the bare pass) / (seconds with all taps). Each
configuration is one row. On a GPU a round has eight batches, because features are copied during the work on the next
batch, and a second row is for features that stay on the GPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import nullcontext
from itertools import count

import torch
from tabulate import tabulate
from timm.models.vision_transformer import VisionTransformer

from probebench.catalog import builtin_models
from probebench.catalog.taps import all_taps
from probebench.features.batching import BatchSize
from probebench.features.forward import HostCopy, Store
from probebench.features.hooks import TapReader
from probebench.models.build import build_model


def glyphvit() -> torch.nn.Module:
    return build_model(builtin_models()["glyphvit"]).net


def vit_b16() -> torch.nn.Module:
    torch.manual_seed(0)
    return VisionTransformer(img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12, num_classes=0).eval()


CONFIGURATIONS = {
    # name: network, side of its input, dtype
    "glyphvit-fp32": (glyphvit, 32, torch.float32),
    "vit_b16-fp32": (vit_b16, 224, torch.float32),
    "vit_b16-bf16": (vit_b16, 224, torch.bfloat16),
}


def measure(name: str, rounds: int, device: str, batch: int | None, stay: bool) -> list[object]:
    make, side, dtype = CONFIGURATIONS[name]
    on_gpu = device.startswith("cuda")
    net = make().to(device=device, dtype=dtype)
    batch = batch or BatchSize.for_network(net, device).now
    images = torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    taps = all_taps(12)
    reader = TapReader(net, taps, "mean")
    # As sweeps over eight batches would, one after the other.
    where = device if stay else None
    stores = (store for _ in count() for store in [Store(taps, 8 * batch, where)] * (1 if on_gpu else 8))

    batches = 8 if on_gpu else 1

    def once(tapped: bool) -> float:
        store = next(stores) if tapped else None
        copy = HostCopy(store.put, device) if store is not None and on_gpu and not stay else None
        with torch.inference_mode(), reader.attached() if tapped else nullcontext():
            if on_gpu:
                torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(batches):
                net.forward_features(images)
                if copy is not None:
                    copy.send(reader.collect())
                elif store is not None:
                    store.put(reader.collect() if stay else [values.numpy() for values in reader.collect()])
            if copy is not None:
                copy.finish()
            if on_gpu:
                torch.cuda.synchronize()
            return (time.perf_counter() - start) / batches

    for tapped in (False, True) * 2:
        once(tapped)
    bare, all_of_them = [], []
    for index in range(rounds):
        for tapped in (False, True) if index % 2 else (True, False):
            (all_of_them if tapped else bare).append(once(tapped))
    ratios = [b / t for b, t in zip(bare, all_of_them, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    return [
        name,
        "GPU" if stay else "memory",
        batch,
        round(batch / statistics.median(bare), 1),
        round(batch / statistics.median(all_of_them), 1),
        f"{statistics.median(ratios):.3f}",
        f"{low:.3f}-{high:.3f}",
    ]


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
    header = ["configuration", "features in", "batch", "bare images/s", "98 taps images/s", "ratio", "quartiles"]
    print(tabulate(rows, headers=header, tablefmt="github"))


if __name__ == "__main__":
    main()
