from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from probebench.errors import StoreError
from probebench.records import run_record
from tests.records.samples import N, right, stored
from tests.records.valid import validate

RUN = stored({("net", "digits"): {"L01-act": right(700, 3, 2), "final": right(600)}})


def saved(tmp_path, run=RUN):
    path = tmp_path / "run.json"
    run_record.save(run.record, path, run.correct)
    return path, tmp_path / "run.correct.safetensors"


def test_what_is_saved_is_loaded(tmp_path):
    path, side = saved(tmp_path)
    record = run_record.load(path)
    validate(record)
    assert record == RUN.record | {"correct": record["correct"]}
    correct = run_record.load_correct(record, path)
    assert correct.keys() == RUN.correct.keys()
    assert all(np.array_equal(correct[name], RUN.correct[name]) for name in correct)
    assert side.stat().st_size < 2 * (N / 8 + 150)


def test_a_record_can_be_compressed(tmp_path):
    plain, _ = saved(tmp_path)
    path = tmp_path / "small.json.gz"
    run_record.save(RUN.record, path, RUN.correct)
    assert path.stat().st_size < plain.stat().st_size / 2
    record = run_record.load(path)
    assert record == RUN.record | {"correct": record["correct"]}
    assert record["correct"]["file"] == "small.correct.safetensors"
    assert run_record.load_correct(record, path).keys() == RUN.correct.keys()
    before = path.read_bytes()
    run_record.save(RUN.record, path, RUN.correct)
    assert path.read_bytes() == before  # no time is in it
    for damaged in (before[:-20], before[:30] + b"\0" + before[31:]):
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match=r"small\.json\.gz cannot be read"):
            run_record.load(path)


def test_a_checkpoint_of_the_same_name_is_left_alone(tmp_path):
    (tmp_path / "run.safetensors").write_bytes(b"weights")
    saved(tmp_path)
    assert (tmp_path / "run.safetensors").read_bytes() == b"weights"


def test_the_bits_are_where_a_link_leads_and_are_found_from_both_ends(tmp_path):
    for folder in ("real", "links"):
        (tmp_path / folder).mkdir()
    link = tmp_path / "links" / "latest.json"
    link.symlink_to(tmp_path / "real" / "run.json")
    run_record.save(RUN.record, link, RUN.correct)
    assert sorted(os.listdir(tmp_path / "real")) == ["run.correct.safetensors", "run.json"]
    assert os.listdir(tmp_path / "links") == ["latest.json"]
    for path in (link, tmp_path / "real" / "run.json"):
        assert run_record.load_correct(run_record.load(path), path).keys() == RUN.correct.keys()


def test_a_device_gets_no_bits_beside_it(tmp_path):
    run_record.save(RUN.record, Path(os.devnull), RUN.correct)
    assert not Path(f"{os.devnull}.correct.safetensors").exists()


def test_a_record_of_before_there_were_bits_is_read(tmp_path):
    path, _ = tmp_path / "old.json", run_record.save(RUN.record, tmp_path / "old.json")
    record = run_record.load(path)
    assert "correct" not in record
    validate(record)
    assert run_record.load_correct(record, path) == {}
    assert list(tmp_path.iterdir()) == [path]


E = {"value": 0.5, "ci95": [0.4, 0.6]}
NEWER = {
    "sweeps": {
        "trained_on": "digits",
        "tuned_from": "other",
        "shift_distance": {"measure": "kid", "reference": "glyphs", "value": -0.001, "standard_error": 0.002},
        "selection": None,
    },
    "cases": {
        "draws": 5,
        "metrics": {"top5": None, "mean_per_class": E, "nll": {"value": 3.5, "ci95": [3, 4]}, "ece": E},
        "width_matched": {"width": 8, "accuracy": 0.5, "ci95": [0.4, 0.6]},
    },
}


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind in NEWER for field in NEWER[kind]])
def test_newer_fields_are_described_and_optional(kind, field):
    record = copy.deepcopy(RUN.record)
    validate(record)
    record[kind][0][field] = NEWER[kind][field]
    validate(record)
    record[kind][0][field] = {"value": "much"}
    with pytest.raises(jsonschema.ValidationError):
        validate(record)


def test_a_distance_can_be_unavailable_with_a_reason():
    record = copy.deepcopy(RUN.record)
    record["sweeps"][0]["shift_distance"] = {"unavailable": "no reference set"}
    validate(record)


def test_saving_a_loaded_record_without_bits_does_not_refer_to_them(tmp_path):
    path, _ = saved(tmp_path)
    run_record.save(run_record.load(path), tmp_path / "copy.json")
    assert "correct" not in run_record.load(tmp_path / "copy.json")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda path, side: side.unlink(),
            "is missing, .*: copy it from where the run wrote both",
        ),
        (lambda path, side: side.write_bytes(side.read_bytes()[:-1] + b"\xff"), "not from the same run"),
        (lambda path, side: path.write_text(path.read_text().replace("0.7,", "0.9,")), "contradicts the accuracy"),
        (lambda path, side: path.write_text(path.read_text().replace('"run.correct', '"../run.correct')), "ValueError"),
    ],
)
def test_damaged_bits_are_refused(tmp_path, damage, message):
    path, side = saved(tmp_path, stored({("net", "digits"): {"final": right(700)}}))
    damage(path, side)
    with pytest.raises(StoreError, match=message):
        run_record.load_correct(run_record.load(path), path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.update(schema=2), "has schema 2, this probebench reads 1"),
        (lambda record: record.pop("hardware"), "has no hardware"),
        (lambda record: record["cases"][0].pop("ci95"), "has no case ci95"),
        (lambda record: record.update(cases=7), "cannot be read"),
        (lambda record: record.pop("schema"), r"run\.json is not a run record: it has no schema"),
    ],
)
def test_other_json_is_refused(tmp_path, change, message):
    path, _ = saved(tmp_path)
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(StoreError, match=message):
        run_record.load(path)


def test_a_list_is_no_record(tmp_path):
    path = tmp_path / "r.json"
    path.write_text("[]")
    with pytest.raises(StoreError, match=r"r\.json is not a run record: it has no schema"):
        run_record.load(path)


def test_the_file_beside_a_record_is_told_from_it(tmp_path):
    path, side = saved(tmp_path)
    with pytest.raises(StoreError, match=rf"{side.name} says which examples were right .* such as {path.name}"):
        run_record.load(side)


def test_a_baseline_is_told_from_a_record(tmp_path):
    path = tmp_path / "net-digits.json"
    path.write_text(json.dumps({"schema": run_record.SCHEMA, "cases": {"final": {}}, "correct_sha256": "0"}))
    with pytest.raises(StoreError, match=r"net-digits.json is a baseline of one sweep, not a run record: it has no"):
        run_record.load(path)
