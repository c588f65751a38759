"""Time the same sweeps in one process, with `pytest -n 2`, as shards, on Ray, and from the feature cache, and compare
their results.

    python benchmarks/performance/engines.py
    python benchmarks/performance/engines.py --rounds 3 --select --probe-model=vit_b16 --probe-dataset=cifar10,cifar100

Every run is a separate pytest process, start-up included. The ratio is the median over rounds of (its wall time) /
(the wall time of one process in the same round). `same` says whether accuracy, verdict and correct test images of every
case are equal.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from tabulate import tabulate

from probebench.records import run_record

ROOT = Path(__file__).resolve().parents[2]
SELECT = ["--probe-model=glyphvit,glyphvit_random", "--probe-dataset=digits,digits_inverted", "--probe-layer=4-6,final"]


@dataclass(frozen=True)
class Measured:
    """The wall time of one way, its result for each case, and the number of images that went through networks."""

    seconds: float
    cases: dict[str, tuple[object, ...]]
    images: int


def run(folder: Path, select: list[str], *options: str) -> Measured:
    path = folder / "run.json"
    command = [sys.executable, "-m", "pytest", "benchmarks/", "-q", f"--probe-json={path}", *select, *options]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    record = run_record.load(path)
    correct = run_record.load_correct(record, path)
    cases = {
        case["id"]: (case["accuracy"], case["verdict"], case["lost"], case["gained"], correct[case["id"]].tobytes())
        for case in record["cases"]
    }
    return Measured(seconds, cases, sum(sweep["images"] for sweep in record["sweeps"]))


def shards(folder: Path, select: list[str], *options: str) -> Measured:
    """Run two shards one after the other, and return the time of the slower, as on two machines."""
    a, b = (run(folder, select, f"--probe-shard={part}/2", *options) for part in (1, 2))
    return Measured(max(a.seconds, b.seconds), a.cases | b.cases, a.images + b.images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--select", nargs=argparse.REMAINDER, default=SELECT, help="options that choose the cases")
    args = parser.parse_args()
    off = "--probe-cache=off"
    ways = {"one process": (run, [off]), "-n 2": (run, ["-n", "2", off]), "slower of 2 shards": (shards, [off])}
    if find_spec("ray") is not None:
        ways["Ray on this machine"] = (run, ["--probe-engine=ray", off])
    found: dict[str, list[Measured]] = {name: [] for name in (*ways, "from the cache")}
    for _ in range(args.rounds):
        with TemporaryDirectory() as name:
            folder = Path(name)
            kept = f"--probe-cache={folder / 'features'}"
            run(folder, args.select, kept)
            for way, (measure, options) in {**ways, "from the cache": (run, [kept])}.items():
                found[way].append(measure(folder, args.select, *options))
    alone = found["one process"]
    rows = []
    for way, each in found.items():
        ratio = statistics.median(a.seconds / b.seconds for a, b in zip(each, alone, strict=True))
        same = "yes" if all(one.cases == alone[0].cases for one in each) else "NO"
        rows.append(
            [way, f"{statistics.median(one.seconds for one in each):.1f}", f"{ratio:.2f}", each[0].images, same]
        )
    header = ["way", "wall, s", "ratio", "images through networks", "same"]
    print(tabulate(rows, headers=header, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
