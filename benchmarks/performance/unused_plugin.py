"""Compare an unrelated pytest run with the plugin installed with the same run under `-p no:probebench`.

    python benchmarks/performance/unused_plugin.py

It times whole processes with one test that passes; other plugins stay enabled. The two commands alternate, so that a
change in the machine's speed affects both. The ratio is the median of the ratios of neighbouring runs.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=40)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "test_trivial.py").write_text("def test_trivial():\n    pass\n")
        Path(directory, "pytest.ini").write_text("[pytest]\n")

        def once(*more: str) -> float:
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *more]
            start = time.perf_counter()
            subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL)
            return time.perf_counter() - start

        for _ in range(3):
            once(), once("-p", "no:probebench")
        with_it, without = [], []
        for index in range(args.pairs):
            if index % 2:
                with_it.append(once())
                without.append(once("-p", "no:probebench"))
            else:
                without.append(once("-p", "no:probebench"))
                with_it.append(once())
    ratios = [a / b for a, b in zip(with_it, without, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    print(f"with {statistics.median(with_it):.3f} s, without {statistics.median(without):.3f} s, {args.pairs} pairs")
    print(f"ratio {statistics.median(ratios):.3f} (quartiles {low:.3f}-{high:.3f})")


if __name__ == "__main__":
    main()
