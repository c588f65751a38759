"""Recommendations among several poolings and concatenations: what is tried, what is chosen, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from probebench import DatasetSpec, Tap, all_taps, recommend, run_sweep
from probebench.cli.main import main
from probebench.datasets import load
from probebench.errors import LayoutError, UnknownName
from probebench.probes.evaluate import Combination
from probebench.recommendation import classify
from tests.tiny import tiny_model

MODEL = tiny_model(16, depth=4, patch_size=8, embed_dim=16)
SPEC = DatasetSpec("squares", "tests.tiny:squares")
NAMES = ("last4", "pair", "triple")


@pytest.fixture(scope="module")
def found():
    return recommend(MODEL, SPEC, poolings=("cls", "patch_mean"), combinations=NAMES, device="cpu", jobs=1)


@pytest.fixture(scope="module")
def sweep():
    taps = all_taps(4, ["patch_mean"], NAMES)
    return run_sweep(MODEL, SPEC, taps=taps, protocol="default@2+cls", device="cpu", jobs=1)


def test_the_best_representation_of_all_that_were_tried_is_chosen(found, sweep):
    best = min(sweep.taps.values(), key=lambda one: (-one.held_out_accuracy, one.tap))
    assert [row.tap for row in found.table] == [tap.id for tap in sweep.taps]
    assert [row.test for row in found.table] == [one.accuracy for one in sweep.taps.values()]
    assert (found.tap, found.test) == (best.tap, best.metrics.accuracy)
    assert found.gain == pytest.approx(best.accuracy - sweep.taps[Tap("output", "output")].accuracy)
    at = {row.tap: row.pooling for row in found.table}
    assert [at[name] for name in ("L01-act", "L01-act.patch_mean", "last4.patch_mean", "output", "pair")] == [
        "cls",
        "patch_mean",
        "patch_mean",
        "",
        "",
    ]
    assert found.combinations == {tap.id: one.combination for tap, one in sweep.taps.items() if one.combination}
    assert list(found.combinations) == ["last4", "last4.patch_mean", "pair", "triple"]
    tried = found.combinations["triple"].tried + 2
    assert tried > found.combinations["pair"].tried + 2 > 3
    assert f"the best of {len(found.table) - 4} taps and {tried} concatenations on validation" in str(found)
    assert f"over {len(found.table) - 1} taps" in str(found)  # Holm's procedure
    assert "pooling   cls; taps with another have its name behind a dot, as in L01-act.patch_mean" in str(found)


def test_each_concatenation_has_a_line_with_the_paired_test_against_its_best_member(found, sweep):
    lines = [line for line in found.lines() if line.partition(" ")[0] in NAMES]
    assert len(lines) == 4
    for line, (name, made) in zip(lines, found.combinations.items(), strict=True):
        one, member = sweep.taps[Tap.parse(name)], sweep.taps[made.best_member]
        lost, gained = (int((a & ~b).sum()) for a, b in ((member.correct, one.correct), (one.correct, member.correct)))
        p = binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
        assert f"{100 * (one.accuracy - member.accuracy):+.1f} points, p = {p:.2g})" in line
        assert f" with {one.width} features, " in line
        assert f" than its best member {member.tap.id} with {member.width} (" in line
        if name in ("pair", "triple"):
            assert " + ".join(tap.id for tap in made.members) in line
    assert "pooled by patch_mean: test" in lines[1]
    assert {row[0] for row in found.rows()} >= {*found.combinations, "final", "output"}


def test_a_concatenation_is_called_better_only_if_the_test_says_so(found):
    members, at = (Tap(1, "act"), Tap(2, "ln2")), {row.tap: row for row in found.table}
    made = {
        "pair": Combination(members, members[0], 0.04, 0.03, 8),
        "triple": Combination(members, members[0], -0.04, 0.001, 15),
        "last4": Combination(members, None, None, None, 1),
    }
    text, width = str(replace(found, combinations=made)), at["L01-act"].width
    assert f"features, better than its best member L01-act with {width} (+4.0 points, p = 0.03)\n" in text
    assert f"features, worse than its best member L01-act with {width} (-4.0 points, p = 0.001)\n" in text
    assert f"test {100 * at['last4'].test:.1f}% with 64 features; none of its members was probed alone\n" in text
    # With three tests, 0.03 is not enough.
    made["last4"] = Combination(members, members[1], 0.03, 0.04, 1)
    text = str(replace(found, combinations=made))
    assert f"not significantly better than its best member L01-act with {width} (+4.0 points, p = 0.03)\n" in text


def test_the_exported_pair_predicts_what_was_measured(monkeypatch):
    chosen = []

    def choose_the_pair(cases, correct, original=recommend.__globals__["select_tap"]):
        chosen.append(original(cases, correct) | {"tap": "pair"})
        return chosen[0]

    monkeypatch.setitem(recommend.__globals__, "select_tap", choose_the_pair)
    found = recommend(MODEL, SPEC, poolings=("cls", "mean"), combinations="pair", device="cpu", jobs=1, budget=4)
    about = json.loads(json.dumps(dict(found.export.about)))
    members = found.combinations["pair"].members
    assert (about["tap"], about["members"]) == ("pair", [tap.id for tap in members])
    assert about["protocol"] == "default@2+cls"
    deepest = max(tap.layer if isinstance(tap.layer, int) else 4 * (tap.layer != "embed") for tap in members)
    assert about["network"]["blocks"] == max(1, deepest)
    images = torch.from_numpy(load(SPEC).test.images).permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.5)
    net, labels = classify.build(about, None), load(SPEC).test.labels
    predicted = found.export.probe.predict(classify.features(net, about["features"], images).numpy())
    assert np.mean(predicted == labels) == pytest.approx(found.test.value)
    assert found.saved_compute == {row.tap: row.saved_compute for row in found.table}["pair"]


def test_taps_with_the_same_features_are_named_and_tried_once():
    model = tiny_model(16, depth=1, patch_size=8, embed_dim=16, class_token=False, global_pool="avg", fc_norm=False)
    found = recommend(model, SPEC, device="cpu", jobs=1)
    assert found.same_as == {"output": "final"}
    assert "same      output is final, up to rounding: fitted once" in str(found)
    text = str(replace(found, tap=Tap("final", "final")))
    assert "gain      none: final is output, what the network itself returns, up to rounding" in text
    assert "none: output is what the network itself returns" in str(replace(found, tap=Tap("output", "output")))
    many = {f"L{n:02d}-act.patch_mean": f"L{n:02d}-act" for n in range(1, 9)}
    assert "L03-act.patch_mean is L03-act and 5 more, up to rounding" in str(replace(found, same_as=many))


def test_names_and_networks_that_are_refused(capsys, tmp_path):
    for option, kind, name, near in (
        ("poolings", "pooling", "patch-mean", "patch_mean"),
        ("combinations", "combination", "pairs", "pair"),
    ):
        with pytest.raises(UnknownName, match=f"unknown {kind} '{name}'. Did you mean '{near}'"):
            recommend(MODEL, SPEC, **{option: [name]})
    for option, name, near in (("--pooling", "mean,patch-mean", "patch_mean"), ("--combine", "pairs", "pair")):
        with pytest.raises(SystemExit, match="2"):
            main(["recommend", "--model", "glyphvit", "--data", "digits", option, name])
        assert f"argument {option}: unknown {option[2:].replace('bine', 'bination')}" in (
            err := capsys.readouterr().err
        )
        assert f"Did you mean '{near}'" in err
    model = tiny_model(16, patch_size=8, embed_dim=16, class_token=False, global_pool="avg")
    for poolings in (["cls"], ["mean", "cls"]):
        with pytest.raises(LayoutError, match="has no class token to pool; choose mean or patch_mean"):
            recommend(model, SPEC, poolings=poolings, device="cpu")
    with pytest.raises(LayoutError, match="last4: VisionTransformer has only 2 layers"):
        recommend(tiny_model(16, patch_size=8, embed_dim=16), SPEC, combinations=["last4"], device="cpu")
