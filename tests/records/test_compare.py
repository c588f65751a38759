from __future__ import annotations

import numpy as np
import pytest

from probebench.catalog.cases import Sweep
from probebench.catalog.protocols import PAPER
from probebench.catalog.taps import Tap
from probebench.errors import ProbebenchError, UnknownName
from probebench.measure.entries import baseline_of
from probebench.records.baselines import Baseline
from probebench.records.compare import compare
from probebench.records.verdicts import judge
from probebench.reporting.terminal.comparison import render, summary
from tests.records.samples import N, right, stored
from tests.records.test_baselines import result

NET, OTHER = ("net", "digits"), ("other", "digits")


def found(comparison):
    return {
        (pair.models[1], pair.taps[1].id, pair.chosen): (pair.judgement.verdict, round(pair.change, 4))
        for pair in comparison.pairs
    }


def show(comparison, every=False):
    return render(comparison, ("a.json", "b.json"), every=every, width=100, color=False, ascii_only=True)


# One model twice


def test_one_model_is_compared_tap_by_tap():
    a = stored({NET: {"L01-act": right(700), "L02-act": right(700), "final": right(700), "embed": right(9)}})
    b = stored(
        {NET: {"L01-act": right(700, 60), "L02-act": right(760), "final": right(700, 5, 5), "L03-act": right(9)}}
    )
    comparison = compare(a, b)
    assert found(comparison) == {
        ("net", "L01-act", False): ("regressed", -0.06),
        ("net", "final", False): ("same", 0.0),
        ("net", "L02-act", False): ("improved", 0.06),
    }
    assert [pair.taps[0].id for pair in comparison.pairs] == ["L01-act", "final", "L02-act"]  # by change
    assert (comparison.only_a, comparison.only_b) == (1, 1)
    assert comparison.regressed
    assert not compare(b, b).regressed
    assert summary(comparison) == "3 cases compared: 1 regressed, 1 improved, 1 same; 1 only in A, 1 only in B"


def test_verdicts_and_p_values_are_those_against_a_baseline():
    rng = np.random.default_rng(0)
    taps = [Tap(layer, "act") for layer in range(1, 9)]
    before = {tap: rng.random(N) < 0.7 for tap in taps}
    now = {tap: before[tap] ^ (rng.random(N) < 0.01 * i) for i, tap in enumerate(taps)}
    a, b = (stored({NET: {tap.id: bits for tap, bits in side.items()}}) for side in (before, now))
    comparison = compare(a, b)
    baseline = Baseline(Sweep("net", "digits", "paper@1"), PAPER.fingerprint, "t" * 16, N, "w" * 16, before)
    measured = result(now)
    expected = judge(baseline_of(baseline.sweep, measured), baseline, alpha=0.01, min_drop=0.005, family=len(taps))
    assert {pair.taps[0]: pair.judgement for pair in comparison.pairs} == expected
    assert {judgement.verdict for judgement in expected.values()} >= {"same", "regressed"}


def test_the_level_is_that_of_all_compared_cases():
    a = stored({NET: {f"L{i:02d}-act": right(700) for i in range(1, 12)}})

    def b(lost):
        return stored({NET: {f"L{i:02d}-act": right(700, lost if i == 1 else 0) for i in range(1, 12)}})

    # 2^-10 <= 0.01 / 10, and not 0.01 / 11.
    assert not compare(a, b(10)).regressed
    assert compare(a, b(11)).regressed
    assert compare(a, b(10), alpha=0.02).regressed
    assert not compare(a, b(11), min_drop=0.02).regressed


def test_without_bits_the_test_is_unpaired_and_says_so():
    a, b = stored({NET: {"final": right(700)}}), stored({NET: {"final": right(700, 60)}}, bits=False)
    comparison = compare(a, b)
    assert found(comparison) == {("net", "final", False): ("regressed", -0.06)}
    (pair,) = comparison.pairs
    assert pair.move.lost is None
    assert pair.judgement.p_value > compare(a, stored({NET: {"final": right(700, 60)}})).pairs[0].judgement.p_value
    assert "tested unpaired" in show(comparison)
    assert "unpaired" not in show(compare(a, a))
    assert not compare(a, stored({NET: {"final": right(700, 30)}}, bits=False)).regressed  # paired, it would have


@pytest.mark.parametrize(("key", "what"), [("test_set", "test set"), ("fingerprint", "protocol fingerprint")])
def test_what_cannot_be_compared_is_never_a_verdict(key, what):
    a = stored({NET: {"final": right(700)}}, "a.json")
    b = stored({NET: {"final": right(7)}}, "b.json", **{key: "0" * 16})
    with pytest.raises(ProbebenchError, match=rf"no case of a.json .* b.json: {what} .* in a.json, 0{{16}} in b.json"):
        compare(a, b)
    birds = stored({("net", "birds"): {"final": right(700)}})
    a.record["cases"] += birds.record["cases"]
    a.record["sweeps"] += birds.record["sweeps"]
    b.record["cases"] += birds.record["cases"]
    b.record["sweeps"] += birds.record["sweeps"]
    comparison = compare(a, b)
    assert not comparison.regressed
    assert [pair.judgement.verdict for pair in comparison.pairs] == ["same", "not comparable"]
    assert summary(comparison) == "1 case compared: 1 same; 1 not comparable"
    assert f"1 case not comparable: {what}" in show(comparison)


def test_runs_of_different_protocols_have_nothing_in_common():
    with pytest.raises(ProbebenchError, match="no protocol, dataset and tap in common"):
        compare(stored({NET: {"final": right(7)}}), stored({NET: {"final": right(7)}}, protocol="paper@1"))


# Two models


HELD_OUT = {"L01-act": 0.9, "L02-act": 0.8}


def test_two_models_are_compared_at_shared_taps_and_at_the_chosen_ones():
    a = stored({NET: {"L01-act": right(700), "L02-act": right(800)}}, held_out=HELD_OUT)
    b = stored({OTHER: {"L02-act": right(600), "L03-act": right(900)}}, held_out={"L02-act": 0.3, "L03-act": 0.5})
    comparison = compare(a, b)
    assert found(comparison) == {
        ("other", "L02-act", False): ("regressed", -0.2),
        ("other", "L03-act", True): ("improved", 0.2),
    }
    text = show(comparison)
    assert text.startswith("A: net, a.json\nB: other, b.json\n")
    assert "L01-act -> L03-act (chosen)" in text


def test_taps_that_were_chosen_on_test_do_not_stand_for_a_model():
    a, b = stored({NET: {"final": right(700)}}), stored({OTHER: {"final": right(700)}})
    assert [pair.chosen for pair in compare(a, b).pairs] == [False]


def test_two_models_of_one_run():
    run = stored({NET: {"final": right(700)}, OTHER: {"final": right(600)}})
    assert found(compare(run, run, models=("net", "other"))) == {("other", "final", False): ("regressed", -0.1)}
    assert len(compare(run, run).pairs) == 2
    with pytest.raises(UnknownName, match=r"unknown model of run.json 'othr'. Did you mean 'other'"):
        compare(run, run, models=("net", "othr"))


def test_it_must_be_clear_which_models_are_meant():
    a = stored({NET: {"final": right(700)}, OTHER: {"final": right(600)}})
    with pytest.raises(ProbebenchError, match=r"no model in common: net, other in run.json, third .*--models A B"):
        compare(a, stored({("third", "digits"): {"final": right(600)}}))


# The table


def test_a_long_table_keeps_what_moved_and_the_largest_changes():
    taps = [f"L{layer:02d}-{site}" for layer in range(1, 9) for site in ("ln1", "act", "rc2", "fc1")]
    a = stored({NET: {tap: right(700) for tap in taps}})
    b = stored({NET: {tap: right(700, 40 if i < 22 else 0) for i, tap in enumerate(taps)}})
    comparison = compare(a, b)
    assert show(comparison).count("regressed") == 22 + 1
    assert "10 more rows, none of which moved: --all shows them" in show(comparison)
    assert show(comparison, every=True).count("same") == 10 + 1
    quiet = compare(a, a)
    assert "12 more rows" in show(quiet)
    assert max(map(len, show(comparison).splitlines())) <= 100
