"""Print the most memory that a sweep took beside its plan, in one mode of plans; `test_plan.py` runs it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.performance.probe_memory import Peak
from probebench import DatasetSpec, run_sweep
from probebench.catalog.protocols import get_protocol
from probebench.features.cache import FeatureCache, writer
from tests.features.conftest import SPEC

MB = 10**6
MEMORY = {"memory": 2000 * MB, "passes": 45 * MB, "disk": 45 * MB}
PROTOCOL = replace(get_protocol("default@2"), path=(0.01,))
WIDE = replace(SPEC, depth=1, kwargs=SPEC.kwargs | {"embed_dim": 96})


def run(n: int, **more):
    data = DatasetSpec(name="many", reader="tests.measure.test_plan:noise_dataset", kwargs={"n": n})
    return run_sweep(WIDE, data, protocol=PROTOCOL, device="cpu", jobs=1, batch_size=64, **more)


def main() -> None:
    torch.set_num_threads(1)
    writer.SHARD_BYTES = 4_000_000
    run(60)  # libraries are loaded
    mode, folder = sys.argv[1:]
    cache = FeatureCache(Path(folder)) if mode == "disk" else None
    peak = Peak()
    peak.start()
    found = run(1_500, memory=MEMORY[mode], cache=cache)
    print(found.plan.mode, found.plan.passes, found.plan.memory, peak.stop(), len(found.taps))


if __name__ == "__main__":
    main()
