"""A process whose children extract the same features and are killed at it; `test_killed.py` runs it.

Children are forked, so that torch is imported once. With one thread that is safe.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import torch

from probebench.features.cache import FeatureCache, writer
from probebench.models.build import build_model
from tests.features.conftest import SPEC, Asked, noise, same

OPERATIONS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.utime"}

torch.set_num_threads(1)
writer.SHARD_BYTES = 1  # every batch is a shard


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_at_operation(number: int, root: Path) -> None:
    """Kill this process just before it does something to a file of the cache for the n-th time."""
    seen = 0

    def hook(event: str, args: tuple[object, ...]) -> None:
        nonlocal seen
        if event in OPERATIONS and isinstance(args[0], str | os.PathLike) and str(args[0]).startswith(str(root)):
            seen += 1
            if seen == number:
                die()

    sys.addaudithook(hook)


def child(work) -> int:
    """Run something in a forked child; its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(work())
        except BaseException:
            traceback.print_exc()
            os._exit(70)
    return pid


def killed(status: int) -> bool:
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("how", choices=["operations", "moments"])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    asked = Asked(build_model(SPEC), noise(40))
    expected, root, rng = asked.plain(), args.root, random.Random(args.seed)

    def work() -> int:
        return 0 if same(asked(FeatureCache(root)), expected) else 1

    start = time.perf_counter()
    statuses = [os.waitpid(child(work), 0)[1]]
    seconds = time.perf_counter() - start
    FeatureCache(root).remove(FeatureCache(root).entries()[0])

    kills = wrong = largest = 0
    while kills < args.kills:
        if args.how == "operations":
            number = rng.randrange(1, 200)  # a whole extraction takes about 175

            def dying(number: int = number) -> int:
                dies_at_operation(number, root)
                return work()

            children = [child(dying)]
        else:
            children = [child(work), child(work)]  # two at once, of which one is killed
            time.sleep(rng.uniform(0, seconds))
            os.kill(children[0], signal.SIGKILL)
        found = [os.waitpid(pid, 0)[1] for pid in children]
        kills += killed(found[0])
        wrong += sum(status != 0 and not killed(status) for status in found)
        largest = max(largest, sum(path.stat().st_size for path in root.rglob("*.f32")))
        cache = FeatureCache(root)
        whole = any(about.finished and not about.unfinished for about in map(cache.about, cache.entries()))
        # From the beginning again now and then; else the next goes on from what this one has left.
        if whole and (args.how == "moments" or not killed(found[0])):
            for entry in cache.entries():
                cache.remove(entry)
    statuses.append(os.waitpid(child(work), 0)[1])
    cache = FeatureCache(root)
    report = {
        "kills": kills,
        "wrong": wrong + sum(status != 0 for status in statuses),
        "largest": largest,
        "bytes": sum(values.nbytes for values in expected.values()),
        "held": sum(path.stat().st_size for path in root.rglob("*.f32")),
        "problems": [problem for entry in cache.entries() for problem in cache.verify(entry)],
        "strays": [str(path) for entry in cache.entries() for path in entry.strays()],
        "others": sorted(path.name for path in root.iterdir() if not (path / "manifest.json").exists()),
        "extracted": asked(cache).images,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
