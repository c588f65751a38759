"""The cost model; that it holds is measured by benchmarks/performance/cost.py, and docs/scale.md has the outcome."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.performance.architectures import facts, read
from benchmarks.performance.study import (
    DATASETS,
    Dataset,
    Rates,
    Variant,
    by_gpu,
    by_variant,
    demand,
    few,
    overview,
    study,
    sweep,
)
from probebench.catalog.protocols import get_protocol
from probebench.catalog.taps import Tap, all_taps
from probebench.measure.cost import busiest_core, fit_operations, matrix_rate, search_operations
from probebench.measure.plan import Workload
from probebench.probes.base import FitSize
from probebench.probes.operations import chosen_path_operations, path_operations

WIDTHS = {tap: 3072 if tap.site in ("fc1", "act") else 768 for tap in all_taps(12)}  # a ViT-B


def asked(widths=WIDTHS, n=50_000, protocol="default@2", draws=1, narrow=768, classes=10):
    chosen = get_protocol(protocol)
    return Workload(chosen, widths, n_read=n, n_train=n, n_test=10_000, classes=classes, draws=draws, narrow=narrow)


def test_a_sweep_is_the_sum_of_its_taps():
    one = asked({Tap(1, "rc2"): 768})
    two = asked({Tap(1, "rc2"): 768, Tap(2, "rc2"): 768})
    assert fit_operations(one) == chosen_path_operations(FitSize(50_000, 10_000, 768, 10, 11))
    assert fit_operations(asked(one.widths, protocol="default@1")) == path_operations(50_000, 768, 10, 10)
    assert fit_operations(two) == 2 * fit_operations(one)
    assert fit_operations(replace(one, draws=5)) == 5 * fit_operations(one)


def test_only_hidden_activations_are_probed_again_at_equal_width():
    assert {tap.site for tap in asked().matched} == {"act"}
    assert asked(narrow=None).matched == []
    assert asked(n=700).matched == []  # there are no more components than rows
    act = {Tap(1, "act"): 3072}
    for protocol in ("default@1", "default@2"):
        without = fit_operations(asked(act, protocol=protocol, narrow=None))
        again = fit_operations(asked(act, protocol=protocol)) - without
        fit = fit_operations(asked({Tap(1, "rc2"): 768}, protocol=protocol))
        # A projection comes on top, unless the probe has it from its own axes.
        assert again > fit if protocol == "default@1" else again == pytest.approx(fit)


def test_the_probe_decides():
    path = asked(classes=100, protocol="default@1")
    assert fit_operations(asked(classes=100)) < fit_operations(path) / 2
    ridge = replace(path, protocol=replace(path.protocol, probe="ridge_path"))
    assert fit_operations(ridge) < fit_operations(path) / 3
    paper = asked(protocol="paper@1", narrow=None)
    assert fit_operations(paper) == fit_operations(asked(protocol="default@1", narrow=None))


def test_cores_share_the_fits():
    alone = asked({Tap(1, "rc2"): 768})
    assert busiest_core(alone, [[*alone.widths]], 8) == fit_operations(alone)  # a fit is not divided
    four = asked({Tap(layer, "rc2"): 768 for layer in range(1, 5)})
    assert busiest_core(four, [[*four.widths]], 1) == fit_operations(four)
    assert busiest_core(four, [[*four.widths]], 2) == fit_operations(four) / 2
    assert busiest_core(four, [[*four.widths]], 16) == fit_operations(four) / 4
    assert busiest_core(replace(four, draws=5), [[*four.widths]], 2) == 5 * fit_operations(four) / 2


def test_groups_of_taps_wait_for_each_other():
    four = asked({Tap(layer, "rc2"): 768 for layer in range(1, 5)})
    taps = [*four.widths]
    assert busiest_core(four, [taps[:3], taps[3:]], 3) == fit_operations(four) / 2


def test_a_wide_tap_holds_up_its_group():
    mixed = asked({Tap(1, "rc2"): 768, Tap(1, "fc1"): 3072})
    wide = asked({Tap(1, "fc1"): 3072})
    assert busiest_core(mixed, [[*mixed.widths]], 2) == fit_operations(wide)


def test_the_speed_of_a_core_is_measured():
    assert 1e8 < matrix_rate() < 1e13


# The study

RATES = Rates(network=1e14, core=1e11, decoded=100, resized=1000)


def test_the_table_of_architectures_is_what_is_counted():
    every = {each.architecture: each for each in read()}
    for name in ("vit_tiny_patch16_224", "vit_small_patch14_dinov2", "eva02_tiny_patch14_336"):
        assert every[name] == facts(name, every[name].checkpoints)
    # Multiplications with additions of a ViT-B: projections and hidden layers, attention, patches; and the three sites
    # that are linear images of pooled vectors.
    tokens, width = 197, 768
    block = tokens * 12 * width**2 + 2 * tokens**2 * width + 9 * width**2
    by_hand = 2 * (12 * block + 196 * 768 * width)
    assert every["vit_base_patch16_224"].operations == by_hand
    assert sum(every["vit_base_patch16_224"].taps().values()) == 131_328


def test_a_study_adds_sweeps_up():
    every = [each for each in read() if each.architecture == "vit_base_patch16_224"]
    dataset = Dataset("some", 10, 50_000, 10_000)
    one = sweep(every[0], dataset)
    assert one.network == every[0].operations * 60_000
    assert one.features == 4 * 60_000 * 131_328
    assert one.cases == 99
    assert one.probes == fit_operations(asked())
    assert study(every, [dataset, dataset]).probes == pytest.approx(2 * every[0].checkpoints * one.probes)
    gpu, ready, probes = one.hours(RATES)
    assert (gpu, ready) == (one.network / 1e14 / 3600, 600 / 3600)
    assert probes == one.probes / 1e11 / 3600


def test_cheaper_studies():
    (facts_,) = (each for each in read() if each.architecture == "vit_base_patch16_224")
    dataset = Dataset("some", 100, 50_000, 10_000, files=False)
    whole = sweep(facts_, dataset)
    fewer = sweep(facts_, dataset, Variant("", kept=few))
    screened = sweep(facts_, dataset, Variant("", screened=10))
    assert fewer.cases == 25
    assert screened.cases == 11
    assert screened.features == whole.features
    assert fewer.probes < whole.probes
    assert screened.probes < 0.7 * whole.probes
    shots = demand(facts_, dataset, get_protocol("few_shot_16@1"), lambda _: True)
    assert (shots.n_train, shots.draws) == (1600, 5)
    assert 1600 < shots.n_read < 5 * 1600
    assert study([facts_], [dataset], Variant("", left_out=frozenset({"some"}))).cases == 0
    assert study([facts_], [dataset], Variant("", largest=1e7)).cases == 0


def test_the_tables():
    assert len({dataset.name for dataset in DATASETS}) == 40
    some = read()[:2]
    assert "40 datasets, 3,516,599 images" in overview(some, DATASETS, 10)
    assert "| without ImageNet " in by_variant(some, DATASETS[:2], 1.0, RATES, 7)
    assert "| H100 SXM, bf16 (989) " in by_gpu(study(some, DATASETS[:2]), RATES, 7)


def test_a_search_costs_its_fits():
    plain = asked({Tap(1, "act"): 300, Tap(1, "rc2"): 100})
    assert search_operations(plain, 1) == 0
    pair, triple = (replace(plain, combined=members) for members in (2, 3))
    one = fit_operations(replace(plain, widths={Tap(1, "act"): 400}, narrow=None))
    assert search_operations(pair, 1) == 9 * one
    assert search_operations(pair, 4) == 3 * one
    assert search_operations(triple, 1) > 2 * search_operations(pair, 1)
