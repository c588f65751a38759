"""Compare the memory of the logistic path with its plan, and time a fit of the size of a ViT-B from disk.

    python benchmarks/performance/probe_memory.py             # the plan against the peak, case by case
    python benchmarks/performance/probe_memory.py --vit-b 6 2   # N = 50,000 from disk: taps of width 768 and 3,072

Every case runs in a separate process. The peak is that of anonymous memory, because features are in files whose pages
the system may drop at any time. It is sampled every few milliseconds, minus the memory of the process before the fit.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from tabulate import tabulate

from probebench.catalog.protocols import DEFAULT
from probebench.catalog.taps import Tap
from probebench.probes.logistic_path import fit
from probebench.probes.memory import make_plan

CASES = [
    # training rows, test rows, width, classes
    (1796, 899, 64, 10),
    (1552, 1940, 256, 97),
    (5000, 2000, 768, 10),
    (20000, 5000, 768, 100),
    (5000, 2000, 3072, 10),
    (1000, 2000, 3072, 97),
    (50000, 10000, 768, 10),
]
assert DEFAULT.path is not None


def anonymous() -> int:
    """Return the bytes of anonymous memory of this process and its children."""
    total = 0
    for process in [os.getpid(), *children()]:
        try:
            status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
        except OSError:  # it has ended
            continue
        fields = dict(line.split(":", 1) for line in status.splitlines())
        total += int(fields.get("RssAnon", "0 kB").split()[0]) * 1024
    return total


def children() -> list[int]:
    """Return the processes that any thread of this one has started."""
    found = []
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has ended
            found += map(int, (thread / "children").read_text(encoding="ascii").split())
    return found


class Peak(threading.Thread):
    """A thread that samples the memory until `stop`."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = self.highest = anonymous()
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.002):
            self.highest = max(self.highest, anonymous())

    def stop(self) -> int:
        self._done.set()
        self.join()
        return self.highest - self.before


def on_disk(folder: Path, name: str, labels: np.ndarray, width: int) -> np.ndarray:
    """Write random features to a file, with variances that fall as 1/k around a centre for each class."""
    n = len(labels)
    path = folder / f"{name}.npy"
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, width))
    rng = np.random.default_rng(len(name))
    scale = (np.arange(1, width + 1) ** -0.5).astype(np.float32)
    centres = np.random.default_rng(0).normal(size=(labels.max() + 1, width)).astype(np.float32) * scale / 4
    for first in range(0, n, 4096):
        part = slice(first, min(first + 4096, n))
        out[part] = rng.standard_normal((part.stop - part.start, width), dtype=np.float32) * scale
        out[part] += centres[labels[part]]
    out.flush()
    del out
    return np.load(path, mmap_mode="r")


def measure(n: int, m: int, width: int, classes: int) -> None:
    """Print the plan and the peak; runs in a separate process."""
    with tempfile.TemporaryDirectory() as folder:
        labels = np.arange(n) % classes
        train = on_disk(Path(folder), "train", labels, width)
        test = on_disk(Path(folder), "test", np.arange(m) % classes, width)
        held_out = np.random.default_rng(0).permutation(n) < n // 5
        warm = {Tap(1, "rc2"): np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)}
        list(fit(warm, np.arange(100) % 3, warm, np.arange(100) % 5 == 0, DEFAULT, "cpu", 1))
        plan = make_plan(n, width, classes, len(DEFAULT.path), 1 << 40, "cpu")
        every = {Tap(i + 1, "act"): train for i in range(plan.taps)}
        peak = Peak()
        peak.start()
        list(fit(every, labels, dict.fromkeys(every, test), held_out, DEFAULT, "cpu", 1))
        print(plan.taps, plan.bytes, peak.stop())


def vit_b(narrow: int, wide: int, jobs: int) -> None:
    n, m, classes = 50000, 10000, 10
    with tempfile.TemporaryDirectory() as folder:
        labels = {"train": np.arange(n) % classes, "test": np.arange(m) % classes}
        files = {
            width: [on_disk(Path(folder), f"{name}{width}", y, width) for name, y in labels.items()]
            for width in (768, 3072)
        }
        taps = {Tap(i + 1, "rc2"): 768 for i in range(narrow)} | {Tap(i + 1, "act"): 3072 for i in range(wide)}
        held_out = np.random.default_rng(0).permutation(n) < n // 5
        peak = Peak()
        peak.start()
        start = time.perf_counter()
        train, test = ({tap: files[width][i] for tap, width in taps.items()} for i in (0, 1))
        for tap, found in fit(train, labels["train"], test, held_out, DEFAULT, "cpu", jobs):
            print(f"{tap.id}: {found.seconds:.0f} s of processor time, gap {found.gap:.0e}", flush=True)
        print(f"{len(taps)} taps in {time.perf_counter() - start:.0f} s, {jobs} jobs, peak {peak.stop() / 1e9:.1f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vit-b", type=int, nargs=2, metavar=("NARROW", "WIDE"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--case", type=int, nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        measure(*args.case)
    elif args.vit_b:
        vit_b(*args.vit_b, args.jobs)
    else:
        rows = []
        for case in CASES:
            command = [sys.executable, __file__, "--case", *map(str, case)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            taps, plan, peak = map(int, out.split())
            rows.append([*case, taps, f"{plan / 1e6:.0f}", f"{peak / 1e6:.0f}", f"{peak / plan:.2f}"])
            print(rows[-1], flush=True)
        columns = ["N", "test", "d", "C", "taps", "plan, MB", "peak, MB", "ratio"]
        print(tabulate(rows, headers=columns, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
