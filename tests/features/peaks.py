"""Print the most memory that reading one tap took, and all taps of twelve layers; `test_hooks.py` runs it.

Each is read in a process of its own, forked from one that has loaded the libraries. With one thread that is safe.
"""

from __future__ import annotations

import ctypes
import os
import resource

import torch
from timm.models.vision_transformer import VisionTransformer

from probebench.catalog.taps import Tap, all_taps
from probebench.features.hooks import TapReader

M_MMAP_THRESHOLD = -3  # of malloc.h


def main() -> None:
    torch.set_num_threads(1)
    # Big blocks straight from the system and back, so that the peak counts what is alive and not the heap's holes.
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 65536)
    net = VisionTransformer(img_size=64, patch_size=8, embed_dim=64, depth=12, num_heads=1, num_classes=0).eval()
    for name, taps in (("one", [Tap("final", "final")]), ("all", all_taps(12, ("cls", "patch_mean")))):
        if os.fork():
            os.wait()
            continue
        reader = TapReader(net, taps, "mean")
        with torch.inference_mode(), reader.attached():
            for _ in range(2):
                reader.read(torch.zeros(64, 3, 64, 64))
        print(name, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)
        os._exit(0)


if __name__ == "__main__":
    main()
