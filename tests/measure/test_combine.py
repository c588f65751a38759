"""Concatenations of taps: the search for the best ones, and what is said about them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from probebench import DatasetSpec, run_sweep
from probebench.catalog.protocols import DEFAULT, get_protocol
from probebench.catalog.taps import Tap
from probebench.errors import ProbebenchError
from probebench.features.cache import FeatureCache
from probebench.measure import combine
from probebench.measure.combine import concatenate
from probebench.probes import get_probe
from tests.tiny import tiny_model

SPEC = DatasetSpec("squares", "tests.tiny:squares")
MODEL = tiny_model(16, depth=4, patch_size=8, embed_dim=16)
TAPS = ["embed", "L01-act", "L02-act", "L03-ln2", "L04-rc2", "final"]
PAIR, TRIPLE, LAST4 = (Tap(name, name) for name in ("pair", "triple", "last4"))
PROTOCOL = replace(DEFAULT, name="short", path=(0.01, 1.0), path_least=None)


def sweep(taps, protocol=PROTOCOL, **options):
    return run_sweep(MODEL, SPEC, taps=taps, protocol=protocol, device="cpu", **{"jobs": 1} | options)


@pytest.fixture(scope="module")
def result():
    return sweep([*TAPS, "last4", "pair", "triple"])


def test_the_pair_is_the_one_that_is_best_on_held_out_images(result, monkeypatch):
    """Against a search by hand, with numpy's concatenation of the features and the same probe."""
    seen = {}
    monkeypatch.setattr(combine, "search", lambda *arguments: seen.update(arguments=arguments) or iter(()))
    sweep([*TAPS, "pair"])
    prepared, _, features, results, _, _ = seen["arguments"]
    singles = [Tap.parse(name) for name in TAPS]
    best = max(singles, key=lambda tap: (results[tap].held_out_accuracy, [-x for x in tap._order]))
    training = prepared.sets[0]
    scores = {}
    for other in singles:
        if other == best or results[other].same_as is not None:
            continue
        train, test = (
            {other: np.concatenate([np.asarray(part[tap]) for tap in (best, other)], axis=1)}
            for part in (features.train, features.test)
        )
        probe = get_probe(PROTOCOL.probe)
        ((_, fit),) = probe(train, training.labels, test, training.held_out, PROTOCOL, "cpu", 1)
        scores[other] = fit.held_out_accuracy, np.mean(fit.predictions == prepared.data.test.labels)
    # Sites of equal merit are tried in the order of their own merit.
    order = sorted(scores, key=lambda tap: (-results[tap].held_out_accuracy, tap))
    partner = max(order, key=lambda tap: (scores[tap][0], -order.index(tap)))
    made = result.taps[PAIR].combination
    assert made.members == (best, partner)
    assert made.best_member == best
    assert made.tried == len(scores)
    assert result.taps[PAIR].accuracy == pytest.approx(scores[partner][1])
    assert result.taps[PAIR].held_out_accuracy == pytest.approx(scores[partner][0])


def test_a_combination_is_compared_with_its_best_member_on_the_same_images(result):
    for tap in (LAST4, PAIR, TRIPLE):
        found = result.taps[tap]
        made = found.combination
        best = result.taps[made.best_member]
        measured = [result.taps[each] for each in made.members if each in result.taps]
        assert best.held_out_accuracy == max(each.held_out_accuracy for each in measured)
        assert made.gain == pytest.approx(found.accuracy - best.accuracy)
        lost, gained = int((best.correct & ~found.correct).sum()), int((~best.correct & found.correct).sum())
        expected = binomtest(gained, lost + gained).pvalue if lost + gained else 1.0
        assert made.p_value == pytest.approx(min(1.0, expected))


def test_a_triple_goes_on_from_the_pair(result):
    pair, triple = result.taps[PAIR].combination, result.taps[TRIPLE].combination
    assert triple.members[:2] == pair.members
    assert triple.members[2] not in pair.members
    assert triple.tried > pair.tried
    alone = sweep([*TAPS, "triple"]).taps
    assert PAIR not in alone
    assert alone[TRIPLE].combination == triple


def test_wide_combinations_have_a_width_control(result):
    assert result.taps[PAIR].width == sum(result.taps[tap].width for tap in result.taps[PAIR].combination.members)
    assert result.taps[LAST4].width == 64
    assert {result.taps[tap].width_matched.width for tap in (LAST4, PAIR, TRIPLE)} == {16}


def test_last4_knows_its_members_even_where_they_were_not_measured(result):
    made = result.taps[LAST4].combination
    assert [tap.id for tap in made.members] == ["L01-rc2", "L02-rc2", "L03-rc2", "L04-rc2"]
    assert made.best_member == Tap(4, "rc2")
    alone = sweep(["last4.cls"]).taps[Tap("last4", "last4", "cls")].combination
    assert alone.members[0] == Tap(1, "rc2", "cls")
    assert (alone.best_member, alone.gain, alone.p_value) == (None, None, None)


def test_the_same_is_found_in_several_passes_and_from_the_disk(result, tmp_path):
    taps = [*TAPS, "pair"]
    passes = sweep(taps, memory=sweep(taps).plan.memory - 100_000)
    assert passes.plan.passes > 1
    disk = sweep(taps, cache=FeatureCache(tmp_path, always=True))
    for other in (passes, disk, sweep(taps, jobs=2)):
        assert other.taps[PAIR].combination.members == result.taps[PAIR].combination.members
        assert np.array_equal(other.taps[PAIR].correct, result.taps[PAIR].correct)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_rows_are_scaled_tap_by_tap_where_the_protocol_scales_them(kind):
    rng = np.random.default_rng(0)
    one, other = Tap(1, "act"), Tap(2, "act")
    rows = {tap: rng.standard_normal((5, width), dtype=np.float32) for tap, width in ((one, 3), (other, 4))}
    rows[one][2] = 0
    features = {tap: kind(values) for tap, values in rows.items()}
    plain = concatenate(features, [other, one], DEFAULT)
    assert np.array_equal(plain, np.concatenate([rows[other], rows[one]], axis=1))
    scaled = np.asarray(concatenate(features, [one, other], get_protocol("paper@1")))
    assert np.linalg.norm(scaled[:, :3], axis=1) == pytest.approx([1, 1, 0, 1, 1])
    assert np.linalg.norm(scaled[:, 3:], axis=1) == pytest.approx(np.ones(5))
    assert np.array_equal(rows[other], np.asarray(features[other]))  # the features themselves stay as they are


@pytest.mark.parametrize(
    ("taps", "protocol", "message"),
    [
        (["L01-act", "pair"], DEFAULT, "pair is made of 2 taps, but 1 are selected; select more"),
        (["L01-act", "final", "last4", "triple"], DEFAULT, "triple is made of 3 taps, but 2 are selected"),
        (["L01-act", "final", "pair"], "paper@1", "pair cannot be searched for: protocol paper@1 holds out no images"),
    ],
)
def test_what_cannot_be_searched_for_is_refused_before_any_work(taps, protocol, message):
    with pytest.raises(ProbebenchError, match=message):
        sweep(taps, protocol)
