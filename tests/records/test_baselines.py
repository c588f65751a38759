from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from probebench.catalog import builtin_datasets, builtin_models
from probebench.catalog.cases import Sweep
from probebench.catalog.protocols import PAPER
from probebench.catalog.taps import Tap, all_taps
from probebench.errors import StoreError
from probebench.measure.entries import baseline_of
from probebench.measure.result import SweepResult
from probebench.metrics import Estimate, Metrics
from probebench.probes.evaluate import TapResult
from probebench.records import baselines
from probebench.records.baselines import Baseline
from probebench.records.verdicts import judge

SWEEP = Sweep("glyphvit", "digits", "paper@1")
N = 1000
ACT, RC2, FINAL = Tap(6, "act"), Tap(6, "rc2"), Tap("final", "final")


def right(count, flip_lost=0, flip_gained=0):
    """`count` of N right; then some of them lost, and some of the others gained."""
    correct = np.arange(N) < count
    correct[:flip_lost] = False
    correct[N - flip_gained :] = True
    return correct


def result(taps, **changes):
    fields = {"weights_digest": "w" * 16, "test_set": "t" * 16, "n_test": N} | changes
    found = SweepResult(
        model=builtin_models()["glyphvit"],
        dataset=builtin_datasets()["digits"],
        protocol=fields.pop("protocol", PAPER),
        trained_on="digits",
        n_train=512,
        images=1512,
        extract_seconds=1.0,
        device="cpu",
        **fields,
    )
    for tap, correct in taps.items():
        accuracy = Estimate(correct.mean(), (0.0, 1.0))
        metrics = Metrics(accuracy, None, accuracy, None, None)
        found.taps[tap] = TapResult(tap, 64, metrics, correct, 0.1, 10, C=1.0, gap=None, held_out_accuracy=None)
    return found


def stored(taps, **changes):
    fields = {"fingerprint": PAPER.fingerprint, "test_set": "t" * 16, "n_test": N, "weights": "w" * 16}
    return Baseline(SWEEP, correct=taps, **(fields | changes))


def update(directory, measured, how):
    return baselines.update(directory, baseline_of(SWEEP, measured), measured.model, how)


def merged(old, measured, how):
    return baselines.merge(old, baseline_of(SWEEP, measured), measured.model, how)


def verdicts(taps, baseline, *, alpha=0.01, min_drop=0.005, family=1, **changes):
    now = result(taps, **changes)
    found = judge(baseline_of(SWEEP, now), baseline, alpha=alpha, min_drop=min_drop, family=family)
    return {tap: judgement.verdict for tap, judgement in found.items()}


# Files


def test_baselines_that_are_links_stay_links(tmp_path):
    before, files = tmp_path / "before", baselines.paths(tmp_path / "links", SWEEP)
    baselines.write(before, stored({ACT: right(700)}))
    files[0].parent.mkdir(parents=True)
    for link, file in zip(files, baselines.paths(before, SWEEP), strict=True):
        link.symlink_to(file)
    baselines.write(tmp_path / "links", stored({ACT: right(600)}))
    assert all(link.is_symlink() for link in files)
    for folder in (before, tmp_path / "links"):
        assert baselines.read(folder, SWEEP).accuracy(ACT) == 0.6
        assert len(list((folder / SWEEP.protocol).iterdir())) == 2


def test_what_is_written_is_read_back(tmp_path):
    rng = np.random.default_rng(0)
    baseline = stored({tap: rng.random(N) < 0.7 for tap in all_taps(12)})
    baselines.write(tmp_path, baseline)
    found = baselines.read(tmp_path, SWEEP)
    assert replace(found, correct={}) == replace(baseline, correct={})
    assert list(found.correct) == all_taps(12)
    assert all(np.array_equal(found.correct[tap], baseline.correct[tap]) for tap in all_taps(12))


def test_the_json_is_sorted_one_line_a_case_and_the_side_file_one_bit_an_example(tmp_path):
    baselines.write(tmp_path, stored({tap: right(700) for tap in reversed(all_taps(12))}))
    path, side = baselines.paths(tmp_path, SWEEP)
    assert path == tmp_path / "paper@1" / "glyphvit-digits.json"
    lines = path.read_text().splitlines()
    assert '    "L06-act": {"accuracy": 0.7, "correct": 700},' in lines
    assert len(lines) == 99 + 13
    assert list(json.loads(path.read_text())["cases"]) == [tap.id for tap in all_taps(12)]
    assert side.stat().st_size < 99 * N / 8 + 200
    before = path.read_bytes(), side.read_bytes()
    baselines.write(tmp_path, baselines.read(tmp_path, SWEEP))
    assert (path.read_bytes(), side.read_bytes()) == before


def test_no_file_is_no_baseline(tmp_path):
    assert baselines.read(tmp_path, SWEEP) is None


def damage_json(path, side):
    path.write_text(path.read_text()[:-20])


def damage_side(path, side):
    side.write_bytes(side.read_bytes()[:-1] + b"\xff")


def truncate_side(path, side):
    side.write_bytes(side.read_bytes()[:100])


def side_that_is_no_safetensors_but_has_the_digest(path, side):
    digest = json.loads(path.read_text())["correct_sha256"]
    side.write_bytes(b"not safetensors")
    path.write_text(path.read_text().replace(digest, hashlib.sha256(b"not safetensors").hexdigest()))


def side_of_another_shape(path, side):
    digest = json.loads(path.read_text())["correct_sha256"]
    side.write_bytes(save({"correct": np.zeros(4, np.uint8)}))
    path.write_text(path.read_text().replace(digest, hashlib.sha256(side.read_bytes()).hexdigest()))


def remove_side(path, side):
    side.unlink()


def edit_by_hand(path, side):
    path.write_text(path.read_text().replace('"correct": 700', '"correct": 900', 1))


def edit_accuracy(path, side):
    path.write_text(path.read_text().replace('"accuracy": 0.7,', '"accuracy": 0.6,', 1))


def edit_n_test(path, side):
    path.write_text(path.read_text().replace('"n_test": 1000', '"n_test": 999'))


def edit_digest(path, side):
    path.write_text(path.read_text().replace('"correct_sha256": "', '"correct_sha256": "0'))


def extra_key(path, side):
    path.write_text(path.read_text().replace('  "cases"', '  "note": "accepted by me",\n  "cases"'))


def extra_key_of_a_case(path, side):
    path.write_text(path.read_text().replace('"correct": 700', '"correct": 700, "flaky": true'))


def drop_a_key(path, side):
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "fingerprint" not in line))


def swap_cases(path, side):
    table = json.loads(path.read_text())
    table["cases"] = dict(reversed(table["cases"].items()))
    path.write_text(json.dumps(table))


def of_another_model(path, side):
    path.write_text(path.read_text().replace('"glyphvit"', '"glyphvit_random"'))


def no_schema(path, side):
    path.write_text(path.read_text().replace('"schema": 1', '"schema": "one"'))


def misspell(path, side):
    path.write_text(path.read_text().replace("L06-act", "L06-atc"))


def newer_schema(path, side):
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))


def drop_a_case(path, side):
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "L06-act" not in line))


def of_another_kind(key, value):
    def damage(path, side):
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

    return damage


def a_case_that_is_none(path, side):
    table = json.loads(path.read_text())
    table["cases"]["L06-act"] = 3
    path.write_text(json.dumps(table))


def not_a_table(path, side):
    path.write_text("[]")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_json, "cannot be read"),
        (damage_side, "do not belong together"),
        (truncate_side, "do not belong together"),
        (remove_side, "is missing"),
        (side_that_is_no_safetensors_but_has_the_digest, "cannot be read .SafetensorError"),
        (side_of_another_shape, "the shape .4,."),
        (edit_by_hand, "case L06-act says correct 900, the other file 700; was it edited by hand"),
        (edit_accuracy, "case L06-act says accuracy 0.6, the other file 0.7; was it edited by hand"),
        (edit_n_test, "the other file"),
        (edit_digest, "do not belong together"),
        (extra_key, "the file has an entry 'note', which probebench does not write"),
        (extra_key_of_a_case, "case L06-act has an entry 'flaky'"),
        (drop_a_key, "the file has no 'fingerprint'"),
        (swap_cases, "not in order"),
        (of_another_model, "it is of model 'glyphvit_random', its path says 'glyphvit'"),
        (no_schema, "no schema number"),
        (misspell, "Did you mean 'act'"),
        (newer_schema, "made by a newer probebench: it has schema 2, this one reads up to 1"),
        (drop_a_case, "lists 1 cases .* has 2"),
        (of_another_kind("weights", None), "weights is 'None', which is not text; was it edited by hand"),
        (of_another_kind("fingerprint", 3), "fingerprint is '3', which is not text"),
        (of_another_kind("n_test", "1000"), "n_test is '1000', which is not a whole number"),
        (of_another_kind("cases", [1, 2]), "cases is .* which is not an object"),
        (a_case_that_is_none, "case L06-act is '3', which is not an object"),
        (not_a_table, "cannot be read"),
    ],
)
def test_a_damaged_baseline_is_refused_and_not_half_used(tmp_path, damage, message):
    baselines.write(tmp_path, stored({ACT: right(700), FINAL: right(600)}))
    damage(*baselines.paths(tmp_path, SWEEP))
    with pytest.raises(StoreError, match=message):
        baselines.read(tmp_path, SWEEP)


def test_a_damaged_baseline_is_replaced_by_a_whole_one_and_a_newer_one_never(tmp_path):
    whole = result({tap: right(700) for tap in all_taps(12)})
    baselines.write(tmp_path, stored({ACT: right(700)}))
    damage_side(*baselines.paths(tmp_path, SWEEP))
    with pytest.raises(StoreError, match="belong together"):
        update(tmp_path, result({ACT: right(600)}), "all")
    with pytest.raises(StoreError, match="belong together"):
        update(tmp_path, whole, "new")
    assert update(tmp_path, whole, "all")
    newer_schema(*baselines.paths(tmp_path, SWEEP))
    with pytest.raises(baselines.NewerBaseline, match="Upgrade probebench"):
        update(tmp_path, whole, "all")


def test_an_older_schema_is_read_and_any_update_writes_the_present_one(tmp_path, monkeypatch):
    baselines.write(tmp_path, stored({ACT: right(700)}))
    path, _ = baselines.paths(tmp_path, SWEEP)
    # As if schema 1 had called the test images by another name, and schema 2 had changed nothing.
    path.write_text(path.read_text().replace('"test_set"', '"images"'))
    monkeypatch.setattr(baselines, "SCHEMA", 3)
    rename = lambda table: {"test_set" if key == "images" else key: value for key, value in table.items()}  # noqa: E731
    monkeypatch.setattr(baselines, "UPGRADERS", {1: rename, 2: dict})
    assert baselines.read(tmp_path, SWEEP).accuracy(ACT) == 0.7
    assert json.loads(path.read_text())["schema"] == 1
    assert update(tmp_path, result({ACT: right(500)}), "new")
    assert json.loads(path.read_text())["schema"] == 3
    assert baselines.read(tmp_path, SWEEP).accuracy(ACT) == 0.7
    assert not update(tmp_path, result({ACT: right(700)}), "all")


def test_every_older_schema_can_be_upgraded():
    assert sorted(baselines.UPGRADERS) == list(range(1, baselines.SCHEMA))


def test_the_diff_of_an_update_is_the_lines_of_its_cases_and_the_digest(tmp_path):
    baselines.write(tmp_path, stored({tap: right(700) for tap in all_taps(12)}))
    path, _ = baselines.paths(tmp_path, SWEEP)
    before = path.read_text().splitlines()
    assert update(tmp_path, result({ACT: right(712)}), "all")
    diff = [line for line in difflib.ndiff(before, path.read_text().splitlines()) if line[0] in "+-"]
    digests = [line for line in diff if "correct_sha256" in line]
    assert [line for line in diff if line not in digests] == [
        '-     "L06-act": {"accuracy": 0.7, "correct": 700},',
        '+     "L06-act": {"accuracy": 0.712, "correct": 712},',
    ]
    assert len(digests) == 2


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "paper@1").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write .*glyphvit-digits"):
        baselines.write(tmp_path, stored({ACT: right(700)}))


# Verdicts


def test_without_baseline_a_case_is_new():
    assert verdicts({ACT: right(700)}, None) == {ACT: "new"}
    assert verdicts({ACT: right(700), RC2: right(5)}, stored({ACT: right(700)})) == {ACT: "same", RC2: "new"}


def test_a_clear_drop_regresses_and_a_clear_rise_improves():
    baseline = stored({ACT: right(700), RC2: right(700)})
    now = {ACT: right(700, flip_lost=60), RC2: right(760)}
    assert verdicts(now, baseline, family=2) == {ACT: "regressed", RC2: "improved"}


def test_churn_in_both_directions_is_no_verdict():
    # 60 lost and 50 gained: ten fewer right, far from significant.
    assert verdicts({ACT: right(700, 60, 50)}, stored({ACT: right(700)})) == {ACT: "same"}


@pytest.mark.parametrize(("lost", "verdict"), [(6, "same"), (7, "regressed")])
def test_the_level_is_exact(lost, verdict):
    # One-sided exact McNemar with nothing gained: 2^-6 = 0.0156 and 2^-7 = 0.0078 on either side of 0.01.
    assert verdicts({ACT: right(700, lost)}, stored({ACT: right(700)}), min_drop=0.0) == {ACT: verdict}


def test_the_level_is_the_whole_runs():
    drop, baseline = {ACT: right(700, 10)}, stored({ACT: right(700)})
    assert verdicts(drop, baseline, family=10) == {ACT: "regressed"}  # 2^-10 <= 0.01 / 10
    assert verdicts(drop, baseline, family=11) == {ACT: "same"}


def test_a_drop_that_is_not_material_is_no_verdict():
    drop, baseline = {ACT: right(700, 20)}, stored({ACT: right(700)})
    assert verdicts(drop, baseline, min_drop=0.02) == {ACT: "regressed"}
    assert verdicts(drop, baseline, min_drop=0.021) == {ACT: "same"}


@pytest.mark.parametrize(
    "changes", [{"test_set": "u" * 16}, {"n_test": N + 1}, {"protocol": replace(PAPER, C=2.0)}], ids=str
)
def test_other_fingerprints_and_test_sets_are_not_compared(changes):
    taps = {ACT: np.zeros(changes.get("n_test", N), bool)}
    assert verdicts(taps, stored({ACT: right(700)}), **changes) == {ACT: "not comparable"}


def test_a_judgement_says_what_moved():
    now = result({ACT: right(700, 60, 5)})
    judgement = judge(baseline_of(SWEEP, now), stored({ACT: right(700)}), alpha=0.01, min_drop=0.005, family=1)[ACT]
    assert (judgement.baseline_accuracy, judgement.lost, judgement.gained) == (0.7, 60, 5)
    assert judgement.p_value < 1e-10


# Updates


def test_an_update_of_a_subset_leaves_the_other_cases_alone():
    old = stored({ACT: right(700), RC2: right(600)})
    new = merged(old, result({ACT: right(500)}), "all")
    assert new.accuracy(ACT) == 0.5
    assert new.accuracy(RC2) == 0.6


def test_update_new_adds_and_never_replaces():
    old = stored({ACT: right(700)})
    new = merged(old, result({ACT: right(500), RC2: right(600)}), "new")
    assert (new.accuracy(ACT), new.accuracy(RC2)) == (0.7, 0.6)


def test_an_update_that_changes_nothing_writes_nothing():
    old = stored({ACT: right(700), RC2: right(600)})
    assert merged(old, result({ACT: right(700)}), "all") is None
    assert merged(old, result({ACT: right(500)}), "new") is None


def test_the_first_update_stores_what_was_measured():
    assert merged(None, result({ACT: right(700)}), "new").accuracy(ACT) == 0.7


def test_update_new_does_not_mix_weights():
    old = stored({ACT: right(700)})
    assert merged(old, result({ACT: right(500)}, weights_digest="v" * 16), "new") is None
    with pytest.raises(StoreError, match="measured with other weights"):
        merged(old, result({RC2: right(500)}, weights_digest="v" * 16), "new")


def test_update_all_does_not_mix_weights_either():
    old, other = stored({ACT: right(700), RC2: right(600)}), {"weights_digest": "v" * 16}
    with pytest.raises(
        StoreError, match=r"other weights .*1 of its cases would stay.*--probe-protocol=paper@1 --probe-"
    ):
        merged(old, result({ACT: right(500)}, **other), "all")
    new = merged(old, result({ACT: right(500), RC2: right(400)}, **other), "all")
    assert (new.weights, new.accuracy(RC2)) == ("v" * 16, 0.4)


def test_an_update_drops_entries_of_taps_that_do_not_exist():
    old = stored({ACT: right(700), Tap(13, "act"): right(600)})
    assert set(merged(old, result({RC2: right(500)}), "all").correct) == {ACT, RC2}


def test_another_test_set_replaces_a_baseline_whole_or_not_at_all():
    old, other = stored({ACT: right(700), RC2: right(600)}), {"test_set": "u" * 16}
    new = merged(old, result({ACT: right(500), RC2: right(400)}, **other), "all")
    assert (new.test_set, new.accuracy(RC2)) == ("u" * 16, 0.4)
    with pytest.raises(StoreError, match=r"1 of its cases would stay.*--probe-update=all"):
        merged(old, result({ACT: right(500)}, **other), "all")
    with pytest.raises(StoreError, match="2 of its cases would stay"):
        merged(old, result({FINAL: right(500)}, **other), "new")
