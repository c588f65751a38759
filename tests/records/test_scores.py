"""Cases whose test images have a score each: baselines, verdicts, tied taps, comparisons and records."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import save

from probebench.catalog.cases import Sweep
from probebench.catalog.protocols import DEFAULT
from probebench.catalog.taps import Tap
from probebench.errors import ProbebenchError, StoreError
from probebench.records import baselines, run_record
from probebench.records.baselines import Baseline
from probebench.records.compare import compare
from probebench.records.merge import Stored, merge
from probebench.records.tap_selection import select_tap
from probebench.records.verdicts import judge
from probebench.records.view import RecordView
from probebench.reporting.terminal.comparison import render
from tests.records.samples import stored
from tests.records.valid import validate

SWEEP = Sweep("glyphvit", "letters_grid", "default@2")
ACT, RC2 = Tap(6, "act"), Tap(6, "rc2")
N = 300


def scores(mean, seed=0):
    values = np.random.default_rng(seed).normal(size=N)
    return (mean + 0.3 * (values - values.mean())).astype(np.float32)


def baseline(taps, **changes):
    values = {"fingerprint": DEFAULT.fingerprint, "test_set": "t" * 16, "n_test": N, "weights": "w" * 16} | changes
    return Baseline(SWEEP, correct=taps, **values)


def record(taps, metric="map", name="run.json", **changes):
    """A run on one dataset whose score is no accuracy."""
    bits = {tap: np.zeros(N, dtype=bool) for tap in taps}
    run = stored({("net", "grid"): bits}, name=name, **changes)
    (sweep,) = run.record["sweeps"]
    sweep["metric"] = metric
    for case in run.record["cases"]:
        value = float(taps[Tap(case["layer"], case["site"]).id].mean())
        case |= {"accuracy": value, "ci95": [value - 0.05, value + 0.05], "metrics": {}}
    found = {f"net-grid-{tap}": values for tap, values in taps.items()}
    sweep["selection"] = select_tap(run.record["cases"], found)
    return Stored(run.name, run.record, found)


def test_baselines_are_read_back_as_they_were_written(tmp_path):
    written = baseline({RC2: scores(0.5), ACT: scores(-0.2)})
    baselines.write(tmp_path, written)
    path, side = baselines.paths(tmp_path, SWEEP)
    cases = json.loads(path.read_text())["cases"]
    assert cases == {"L06-act": {"score": -0.2}, "L06-rc2": {"score": 0.5}}
    found = baselines.read(tmp_path, SWEEP)
    assert found.accuracy(RC2) == pytest.approx(0.5, abs=1e-6)
    assert all(np.array_equal(found.correct[tap], written.correct[tap]) for tap in (ACT, RC2))
    assert side.stat().st_size > 2 * 4 * N


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"L06-rc2": {"score": 0.6}}, "case L06-rc2 says score 0.6, the other file 0.5"),
        ({"L06-rc2": {"accuracy": 0.5, "correct": 150}}, "case L06-rc2 has no 'score'"),
    ],
)
def test_a_baseline_that_was_edited_is_refused(tmp_path, damage, message):
    baselines.write(tmp_path, baseline({RC2: scores(0.5)}))
    path, _ = baselines.paths(tmp_path, SWEEP)
    table = json.loads(path.read_text())
    path.write_text(json.dumps(table | {"cases": table["cases"] | damage}))
    with pytest.raises(StoreError, match=message):
        baselines.read(tmp_path, SWEEP)


def test_verdicts_are_those_of_the_sign_flip_test():
    before = scores(0.5)
    noise = 0.05 * np.random.default_rng(1).normal(size=N).astype(np.float32)
    now = {
        "same": before,
        "noise": before + noise - noise.mean(),
        "worse": before + noise - noise.mean() - np.float32(0.02),
        "better": before + noise - noise.mean() + np.float32(0.02),
        "small": before - np.float32(0.001),
    }
    taps = {Tap(layer, "act"): name for layer, name in enumerate(now, start=1)}
    judged = judge(
        baseline({tap: now[name] for tap, name in taps.items()}),
        baseline(dict.fromkeys(taps, before)),
        alpha=0.01,
        min_drop=0.005,
        family=5,
    )
    assert {name: judged[tap].verdict for tap, name in taps.items()} == {
        "same": "same",
        "noise": "same",
        "worse": "regressed",
        "better": "improved",
        "small": "same",  # certain, but not material
    }
    worse = judged[Tap(3, "act")]
    assert worse.baseline_accuracy == pytest.approx(0.5, abs=1e-6)
    assert worse.lost + worse.gained == N
    assert worse.lost > worse.gained
    assert worse.p_value < 1e-6
    assert judged[Tap(1, "act")].p_value == 1.0


def test_taps_are_tied_by_the_sign_flip_test():
    noise = 0.05 * np.random.default_rng(2).normal(size=(2, N)).astype(np.float32)
    best = scores(0.5)
    taps = {
        "L01-act": best,
        "L02-act": best + noise[0] - noise[0].mean(),
        "L03-act": best + noise[1] - noise[1].mean() - np.float32(0.05),
        "final": scores(0.3, seed=3),
    }
    found = record(taps).record["sweeps"][0]["selection"]
    assert (found["worse"], found["better"]) == (2, 0)
    assert {found["tap"], *found["tied"]} == {"L01-act", "L02-act"}


@pytest.mark.parametrize("metric", ["map", "r2"])
def test_a_record_is_read_back_and_is_of_the_schema(tmp_path, metric):
    run = record({"L01-act": scores(0.4), "final": scores(-0.1 if metric == "r2" else 0.3)}, metric)
    path = tmp_path / "run.json"
    run_record.save(run.record, path, run.correct)
    found = run_record.load(path)
    validate(json.loads(path.read_text()))
    read = run_record.load_correct(found, path)
    assert all(np.array_equal(read[name], values) for name, values in run.correct.items())
    assert RecordView(found).sweeps[0].task.metrics == (metric,)
    side = tmp_path / "run.correct.safetensors"
    content = save({name: values + np.float32(0.1) for name, values in read.items()})
    side.write_bytes(content)
    text = json.loads(path.read_text())
    text["correct"]["sha256"] = run_record.correct_bits.sha256(content)
    path.write_text(json.dumps(text))
    with pytest.raises(StoreError, match="contradicts the accuracy of net-grid-"):
        run_record.load_correct(run_record.load(path), path)


def test_an_accuracy_is_still_a_fraction_for_the_schema():
    run = record({"final": scores(0.3)})
    run.record["cases"][0]["accuracy"] = 1.2
    with pytest.raises(jsonschema.ValidationError):
        validate(run.record)


def test_two_runs_are_compared_in_pairs_and_merged():
    a = record({"L01-act": scores(0.5), "final": scores(0.4)}, name="a.json")
    b = record({"L01-act": scores(0.5), "final": scores(0.35)}, name="b.json", hours=1)
    comparison = compare(a, b)
    assert [pair.judgement.verdict for pair in comparison.pairs] == ["regressed", "same"]
    shown = render(comparison, ("a.json", "b.json"), every=True, width=100, color=False, ascii_only=True)
    assert "0.400" in shown
    assert "-0.050" in shown
    assert "A %" not in shown
    joined, correct = merge([a, b])
    assert np.array_equal(correct["net-grid-final"], b.correct["net-grid-final"])
    assert joined["sweeps"][0]["selection"]["tap"] == "L01-act"


def test_without_scores_of_images_two_runs_are_not_compared():
    a, b = (record({"final": scores(0.4)}, name=name) for name in ("a.json", "b.json"))
    with pytest.raises(ProbebenchError, match=r"the scores of the test images are not known of b\.json"):
        compare(a, replace(b, correct={}))
