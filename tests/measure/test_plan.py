from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from probebench import DatasetSpec, run_sweep
from probebench.catalog.protocols import get_protocol
from probebench.catalog.taps import all_taps
from probebench.datasets import Split
from probebench.errors import FeatureError
from probebench.features.cache import FeatureCache
from probebench.measure.plan import Workload, plan_sweep
from tests.features.conftest import SPEC
from tests.measure import peaks

MB = 1_000_000
PROTOCOL = get_protocol("default@2")
WIDTHS = {tap: 3072 if tap.site in ("fc1", "act") else 768 for tap in all_taps(12)}  # a ViT-B


def demand(widths=WIDTHS, n=50_000, protocol=PROTOCOL, draws=1, narrow=768):
    return Workload(protocol, widths, n_read=n, n_train=n, n_test=10_000, classes=10, draws=draws, narrow=narrow)


def test_bytes_of_the_features_of_a_vit_b():
    # 12 layers of 6 x 768 + 2 x 3,072, and embed, final and output; float32; 60,000 images.
    assert demand().feature_bytes == 4 * 60_000 * (12 * (6 * 768 + 2 * 3072) + 3 * 768)


def test_what_fits_is_read_at_once():
    plan = plan_sweep(demand(), memory=10**12, disk=0, jobs=4)
    assert (plan.mode, plan.groups, plan.jobs, plan.passes, plan.disk) == ("memory", (tuple(WIDTHS),), 4, 1, 0)
    assert plan.memory >= demand().feature_bytes


def test_what_fits_beside_the_network_stays_on_its_device():
    needed = plan_sweep(demand(), memory=10**12, disk=0, jobs=1).memory
    plan = plan_sweep(demand(), memory=10**9, disk=0, jobs=4, device=needed)
    assert (plan.mode, plan.groups, plan.jobs, plan.passes, plan.disk) == ("device", (tuple(WIDTHS),), 1, 1, 0)
    assert plan.device == needed
    assert plan.memory < 200 * MB
    assert plan_sweep(demand(), memory=10**12, disk=0, jobs=4, device=needed - 1).mode == "memory"


def test_what_does_not_fit_goes_to_the_disk():
    plan = plan_sweep(demand(), memory=16_000 * MB, disk=50_000 * MB, jobs=4)
    assert plan.mode == "disk"
    assert plan.passes == 1
    assert plan.disk == demand().feature_bytes
    assert plan.memory <= 16_000 * MB


def test_without_room_on_the_disk_there_are_several_passes():
    plan = plan_sweep(demand(), memory=16_000 * MB, disk=1000 * MB, jobs=4)
    assert plan.mode == "passes"
    assert plan.passes == len(plan.groups) > 1
    assert plan.disk == 0


@pytest.mark.parametrize("disk", [0, 10**12])
@pytest.mark.parametrize("memory", [7_000 * MB, 9_000 * MB, 20_000 * MB, 40_000 * MB])
def test_every_tap_is_in_one_group_and_no_group_takes_more_than_there_is(memory, disk):
    plan = plan_sweep(demand(), memory=memory, disk=disk, jobs=8)
    assert [tap for group in plan.groups for tap in group] == list(WIDTHS)
    assert plan.memory <= memory
    assert 1 <= plan.jobs <= 8


def test_more_memory_never_means_more_passes():
    passes = [plan_sweep(demand(), memory=gigabytes * 1000 * MB, disk=0, jobs=2).passes for gigabytes in range(8, 60)]
    assert passes == sorted(passes, reverse=True)
    assert passes[0] > passes[-1] == 1


def test_less_memory_means_fewer_jobs_before_it_means_an_error():
    alone = plan_sweep(demand(), memory=7_000 * MB, disk=0, jobs=8)
    assert alone.jobs < 8
    with pytest.raises(FeatureError, match=r"L01-fc1 alone, 50,000 x 3072 features .*: raise --probe-memory"):
        plan_sweep(demand(), memory=500 * MB, disk=0, jobs=8)


def test_draws_and_scaled_rows_take_copies():
    one, five = demand(), demand(draws=5)
    assert five.held_bytes(list(WIDTHS), "disk") > one.held_bytes(list(WIDTHS), "disk")
    paper = demand(protocol=get_protocol("paper@1"))
    # Hidden pre-activations whose rows are scaled have a second probe, too.
    narrowed = 12 * 4 * (50_000 + 10_000) * 768
    assert (
        paper.held_bytes(list(WIDTHS), "disk") - one.held_bytes(list(WIDTHS), "disk") == paper.feature_bytes + narrowed
    )


def noise_dataset(n=60, size=16, seed=0):
    rng = np.random.default_rng(seed)
    splits = []
    for _ in range(2):
        labels = rng.integers(0, 3, n)
        images = rng.integers(0, 100, (n, size, size))
        images[np.arange(size)[None] // 5 == labels[:, None]] += 90
        splits.append(Split(images.astype(np.uint8), labels.astype(np.int64)))
    return ["a", "b", "c"], *splits


DATASET = DatasetSpec(name="noise", reader="tests.measure.test_plan:noise_dataset")


def shortened(name):
    """A protocol with no more images, draws and strengths than it takes to have several."""
    protocol = get_protocol(name)
    return replace(
        protocol,
        train_multiple=1,
        draws=protocol.draws and 2,
        path=protocol.path and protocol.path[:: len(protocol.path) // 3],
    )


@pytest.mark.parametrize("protocol", ["default@2", "paper@1", "few_shot_4@1"])
def test_results_do_not_depend_on_the_plan(tmp_path, protocol):
    protocol = shortened(protocol)

    def measure(memory, cache):
        found = run_sweep(SPEC, DATASET, protocol=protocol, memory=memory, cache=cache, jobs=1, device="cpu")
        return found, {tap: each.correct.tolist() for tap, each in found.taps.items()}

    whole, expected = measure(None, None)
    assert whole.plan.mode == "memory"
    least = min(memory for memory in range(100_000, whole.plan.memory, 5_000) if _fits(whole, protocol, memory))
    several, found = measure(least + 5_000, None)
    assert several.plan.mode == "passes"
    assert several.plan.passes > 1
    assert several.images == whole.images * several.plan.passes
    assert found == expected
    assert several.shift_distance == whole.shift_distance


def _fits(whole, protocol, memory):
    widths = {tap: each.width for tap, each in whole.taps.items()}
    asked = Workload(
        protocol,
        widths,
        n_read=whole.images - whole.n_test,
        n_train=whole.n_train,
        n_test=whole.n_test,
        classes=3,
        draws=protocol.draws or 1,
        narrow=8,
    )
    try:
        plan_sweep(asked, memory=memory, disk=0, jobs=1)
    except FeatureError:
        return False
    return True


def test_results_from_the_disk_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("probebench.features.cache.writer.SHARD_BYTES", 1000)
    cache = FeatureCache(tmp_path / "features", always=False)
    whole = run_sweep(SPEC, DATASET, jobs=1, device="cpu")
    found = run_sweep(SPEC, DATASET, memory=whole.plan.memory - 1, cache=cache, jobs=1, device="cpu")
    assert found.plan.mode == "disk"
    assert found.images == whole.images
    assert len(cache.entries()) == 2  # kept, though a cache by itself would not have
    for tap, each in whole.taps.items():
        assert np.array_equal(each.correct, found.taps[tap].correct)


@pytest.fixture
def roomy_gpu(monkeypatch):
    """The CPU stands for a GPU that has memory to spare."""
    monkeypatch.setattr("probebench.measure.prepare._usable_on_gpu", lambda device: 10**9)


L2 = replace(PROTOCOL, feature_norm="l2")
RIDGE = replace(PROTOCOL, probe="ridge_path")
KNN = replace(PROTOCOL, probe="knn")


@pytest.mark.parametrize(
    "protocol",
    [PROTOCOL, shortened("few_shot_4@1"), L2, RIDGE, KNN],
    ids=["default", "few shot", "l2", "ridge", "knn"],
)
def test_results_from_the_device_are_the_same(protocol, roomy_gpu):
    def measure(**more):
        return run_sweep(SPEC, DATASET, protocol=protocol, jobs=1, device="cpu", **more)

    on_host, staying = measure(device_memory=0), measure()
    assert (on_host.plan.mode, staying.plan.mode) == ("memory", "device")
    assert on_host.plan.device == 0 < staying.plan.device
    assert staying.images == on_host.images
    assert staying.shift_distance == on_host.shift_distance
    for tap, each in on_host.taps.items():
        assert np.array_equal(each.correct, staying.taps[tap].correct)
        assert (each.C, each.width_matched) == (staying.taps[tap].C, staying.taps[tap].width_matched)


def test_features_of_probes_that_run_on_the_cpu_do_not_stay(roomy_gpu):
    assert run_sweep(SPEC, DATASET, protocol=shortened("paper@1"), jobs=1, device="cpu").plan.mode == "memory"


def test_what_stays_is_bounded_by_what_is_free(roomy_gpu, monkeypatch):
    needed = run_sweep(SPEC, DATASET, jobs=1, device="cpu").plan.device
    monkeypatch.setattr("probebench.measure.prepare._usable_on_gpu", lambda device: needed - 1)
    assert run_sweep(SPEC, DATASET, jobs=1, device="cpu", device_memory=10**9).plan.mode == "memory"


def test_what_is_to_be_kept_on_disk_does_not_stay(tmp_path, roomy_gpu):
    cache = FeatureCache(tmp_path / "features", always=True)
    assert run_sweep(SPEC, DATASET, jobs=1, device="cpu", cache=cache).plan.mode == "memory"
    assert len(cache.entries()) == 2


def test_what_was_kept_before_is_read_also_where_features_stay(tmp_path, roomy_gpu):
    run_sweep(SPEC, DATASET, jobs=1, device="cpu", cache=FeatureCache(tmp_path / "features", always=True))
    found = run_sweep(SPEC, DATASET, jobs=1, device="cpu", cache=FeatureCache(tmp_path / "features", always=False))
    assert (found.plan.mode, found.images) == ("device", 0)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to measure memory")
@pytest.mark.parametrize("mode", peaks.MEMORY)
def test_the_peak_is_within_the_plan(warm, tmp_path, mode):
    """3,000 images, 11 taps of up to 384 features: 20 MB of features, of which no second copy may be held."""
    command = [sys.executable, "-m", "tests.measure.peaks", mode, str(tmp_path / "features")]
    out = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    found, passes, planned, peak, taps = out.stdout.split()
    assert (found, int(taps)) == (mode, 11)
    assert (int(passes) > 1) == (mode == "passes")
    assert int(planned) <= peaks.MEMORY[mode]
    # The images themselves, as arrays and as the batch in the network, are not part of the plan.
    assert int(peak) <= 1.1 * int(planned) + 4 * MB
