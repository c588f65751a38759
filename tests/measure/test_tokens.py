"""Sweeps whose probe reads tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from probebench import DatasetSpec, run_sweep
from probebench.catalog.protocols import ATTENTIVE, DEFAULT
from probebench.catalog.taps import Tap
from probebench.datasets import Split
from probebench.errors import FeatureError, ProbebenchError
from probebench.features.cache import FeatureCache
from probebench.measure.cost import fit_operations
from probebench.measure.plan import Workload, plan_sweep
from tests.tiny import tiny_model

MODEL = tiny_model(16, depth=2, patch_size=4, embed_dim=16)
DATA = DatasetSpec("spots", f"{__name__}:spots")
PROTOCOL = replace(ATTENTIVE, queries=4, epochs=8, batch=16, rates=(0.01, 0.03), path=(0.01, 1.0), path_least=None)
LINEAR = replace(PROTOCOL, probe="logistic", queries=None)
TAPS = ["L01-rc2", "final"]


def spots():
    """The blue one of sixteen squares has the class in its red; the red of the others is random."""
    rng = np.random.default_rng(0)
    squares = rng.integers(0, 256, (320, 16, 3))
    squares[:, :, 2] //= 4
    labels = np.arange(320, dtype=np.int64) % 3
    squares[np.arange(320), rng.integers(0, 16, 320)] = np.array([[30, 0, 250], [128, 0, 250], [225, 0, 250]])[labels]
    images = np.kron(squares.reshape(320, 4, 4, 3), np.ones((1, 4, 4, 1))).astype(np.uint8)
    return ["a", "b", "c"], Split(images[:200], labels[:200]), Split(images[200:], labels[200:])


def sweep(taps=TAPS, protocol=PROTOCOL, **options):
    return run_sweep(MODEL, DATA, taps=taps, protocol=protocol, device="cpu", **{"jobs": 1} | options)


@pytest.fixture(scope="module")
def result():
    return sweep()


def test_the_linear_probe_beside_it_is_that_of_the_same_protocol_on_pooled_features(result):
    linear = sweep(protocol=LINEAR)
    for tap, found in result.taps.items():
        beside = linear.taps[tap]
        assert (found.linear.accuracy, found.linear.ci95) == (beside.accuracy, beside.ci95)
        gained, lost = (
            int((a & ~b).sum()) for a, b in ((found.correct, beside.correct), (beside.correct, found.correct))
        )
        p = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
        assert found.linear.p_value == pytest.approx(p)
        assert found.width_matched is None
        row = next(row for row in result.to_rows() if row["tap"] == tap.id)
        assert (row["linear"], row["linear_p"]) == (found.linear.accuracy, found.linear.p_value)
        assert found.width == 16
        assert found.seconds > 0
    assert ATTENTIVE.path == DEFAULT.path
    assert replace(ATTENTIVE, name="default@2", probe="logistic", **dict.fromkeys(LATER)) == DEFAULT


LATER = ("queries", "epochs", "epoch_patience", "batch", "rates", "weight_decay")


def test_a_second_sweep_gives_the_same(result):
    again = sweep()
    for tap, found in result.taps.items():
        assert np.array_equal(again.taps[tap].correct, found.correct)
        assert again.taps[tap].metrics == found.metrics


def test_it_beats_the_linear_probe_where_what_counts_is_in_a_few_tokens(result):
    found = result.taps[Tap(1, "rc2")]
    assert found.accuracy > found.linear.accuracy + 0.1
    assert found.linear.p_value < 0.01


def test_tokens_on_the_disk_give_the_same(result, tmp_path):
    cache = FeatureCache(tmp_path, always=True)
    final = Tap("final", "final")
    for images in (320, 0):
        found = sweep(["final"], cache=cache)
        assert found.taps[final].metrics == result.taps[final].metrics
        assert found.images == images
    # The pooled features serve other protocols too.
    assert sweep(["final"], LINEAR, cache=cache).images == 0


def test_several_draws_take_their_rows_of_tokens():
    few = sweep(["final"], replace(PROTOCOL, shots=8, draws=2, held_out=0.25, epochs=3)).taps[Tap("final", "final")]
    assert few.correct.shape == (2, 120)
    assert 0 <= few.linear.p_value <= 1


def test_patch_tokens_go_with_the_mean_over_patches():
    patches = sweep(["final"], replace(PROTOCOL, pooling="patch_mean", epochs=3))
    linear = sweep(["final"], replace(LINEAR, pooling="patch_mean"))
    final = Tap("final", "final")
    assert patches.taps[final].linear.accuracy == linear.taps[final].accuracy


def test_without_names_every_tap_with_tokens_is_measured():
    found = sweep(None, replace(PROTOCOL, epochs=1, rates=(0.01,)))
    assert len(found.taps) == 2 * 8 + 2
    assert Tap("output", "output") not in found.taps
    assert not any(each.same_as for each in found.taps.values())


@pytest.mark.parametrize("tap", ["output", "L01-act.cls", "L01-act.tokens"])
def test_taps_that_cannot_be_read_are_refused_by_name(tap):
    with pytest.raises(ProbebenchError, match=tap):
        sweep(["final", tap])


def test_other_tasks_are_refused():
    with pytest.raises(
        ProbebenchError, match=r"cannot measure dataset 'spots' of task 'multilabel': its probe attentive"
    ):
        run_sweep(MODEL, replace(DATA, task="multilabel", metric="map"), taps=TAPS, protocol=PROTOCOL, device="cpu")


def test_more_tokens_than_there_is_room_for_are_refused_with_their_size():
    with pytest.raises(
        FeatureError, match=r"keeps every token: .* for 320 images, 17 tokens and 16 taps, .*--probe-layer"
    ):
        sweep([f"L0{layer}-{site}" for layer in (1, 2) for site in SITES], memory=3_000_000)


SITES = ("ln1", "mha", "rc1", "ln2", "fc1", "act", "fc2", "rc2")


def workload(tokens, taps=2, **more):
    widths = {Tap(layer, "rc2"): 768 for layer in range(1, taps + 1)}
    sizes = {"n_read": 50_000, "n_train": 50_000, "n_test": 10_000, "classes": 10, "draws": 1, "narrow": 768}
    return Workload(ATTENTIVE, widths, **sizes | more, tokens=tokens)


def test_tokens_are_planned_in_memory_then_on_the_disk_and_then_refused():
    asked = workload(197)
    assert asked.feature_bytes == 60_000 * 2 * 768 * (4 + 2 * 197)
    assert plan_sweep(asked, memory=200 * 10**9, disk=0, jobs=2).mode == "memory"
    assert plan_sweep(asked, memory=0, disk=0, jobs=2, device=100 * 10**9).mode == "device"
    disk = plan_sweep(asked, memory=60 * 10**9, disk=50 * 10**9, jobs=1)
    assert (disk.mode, disk.disk) == ("disk", asked.feature_bytes)
    with pytest.raises(FeatureError, match=r"37 GB for 60,000 images, 197 tokens and 2 taps"):
        plan_sweep(asked, memory=20 * 10**9, disk=10**9, jobs=1)


def test_the_time_of_fits_grows_with_tokens_and_epochs():
    few, many = (fit_operations(workload(tokens)) for tokens in (50, 200))
    assert 2 * few < many < 4 * few
    longer = replace(workload(50), protocol=replace(ATTENTIVE, epochs=2 * ATTENTIVE.epochs))
    assert 1.5 * few < fit_operations(longer) < 2 * few
