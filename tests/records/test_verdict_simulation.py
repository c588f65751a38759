"""The script that simulates verdicts: its rules are those of the product, its null hypothesis is one."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.statistics import verdicts
from probebench.records.verdicts import judge_moves
from probebench.stats import paired as paired_move
from probebench.stats import unpaired as unpaired_move


@pytest.fixture(scope="module")
def script():
    return verdicts


def runs(taps=12, n=400, worse=0.04, seed=0):
    """Two runs on the same images, the second worse at some taps."""
    rng = np.random.default_rng(seed)
    before = rng.random((taps, n)) < 0.7
    flips = rng.random((taps, n)) < 0.05
    lost = (rng.random((taps, n)) < worse * np.arange(taps)[:, None] / taps * 4) & before
    return before, (before ^ flips) & ~lost


@pytest.mark.parametrize("rule", ["paired", "unpaired"])
@pytest.mark.parametrize("seed", range(3))
def test_a_rule_agrees_with_the_verdicts_of_a_run(script, rule, seed):
    before, now = runs(seed=seed)
    found = getattr(script, rule)(script.swapped_nothing(before, now), 0.01, 0.005, 30)[:, 0]
    if rule == "paired":
        moves = {i: paired_move(a, b) for i, (a, b) in enumerate(zip(before, now, strict=True))}
    else:
        moves = {i: unpaired_move(a.sum(), b.sum(), len(a)) for i, (a, b) in enumerate(zip(before, now, strict=True))}
    judged = judge_moves(moves, alpha=0.01, min_drop=0.005, family=30)
    assert [judged[i].verdict == "regressed" for i in range(len(before))] == found.tolist()
    assert rule == "unpaired" or 0 < found.sum() < len(found)


def test_swapping_keeps_how_many_changed_sides_and_takes_no_side(script):
    before, now = runs()
    counts = script.swapped(before, now, 2000, np.random.default_rng(0))
    assert (counts.lost + counts.gained == (before != now).sum(axis=1)[:, None]).all()
    assert (counts.before - counts.now == counts.lost - counts.gained).all()
    assert (counts.before + counts.now == (before.sum(axis=1) + now.sum(axis=1))[:, None]).all()
    assert np.allclose(counts.lost.mean(axis=1), counts.gained.mean(axis=1), rtol=0.05)


def test_under_the_null_hypothesis_the_level_holds_and_a_tolerance_does_not(script):
    alarms = script.false_alarms([runs(seed=seed) for seed in range(3)], 3000)
    assert alarms["probebench (paired)"] <= 0.01
    assert alarms["tolerance 1"] > 0.5


def test_resampled_runs_have_the_true_drop_on_average(script):
    before, now = runs(worse=0.1)
    counts = script.resampled(before, now, 2000, np.random.default_rng(0))
    drops = (counts.before - counts.now).mean(axis=1) / counts.n
    assert np.allclose(drops, before.mean(axis=1) - now.mean(axis=1), atol=0.003)
    assert (counts.before - counts.now == counts.lost - counts.gained).all()


def test_the_smallest_drop_is_where_the_power_is_reached(script):
    drops = np.linspace(0, 0.1, 101)
    rates = np.where(drops >= 0.06, 1.0, drops / 0.06 * 0.5)
    assert script.smallest_drop(drops, rates) == pytest.approx(0.06)
    assert script.smallest_drop(drops, rates / 2) is None


def test_every_dataset_has_reruns_and_nothing_is_measured_twice(script):
    plan = script.plan(quick=False)
    assert len({(setting.name, dataset) for setting, dataset in plan}) == len(plan)
    reruns = [dataset for setting, dataset in plan if setting.name.startswith("rerun")]
    assert len(reruns) == 20
    assert min(reruns.count(name) for name in script.DIGITS) >= 2
