"""Which models and datasets are drawn, and together with which."""

from __future__ import annotations

import pytest

from probebench.errors import ProbebenchError, UnknownName
from probebench.records.view import RecordView
from probebench.reporting.figures.choice import bases, by_shift, families
from tests.records.samples import right, stored
from tests.reporting.html.records import full


def members(contents, tuned=None, models=None):
    base_of = bases(contents, tuned or {})
    found = families(contents, base_of, models or contents.models, contents.datasets)
    return {
        (family.base, family.dataset): (
            family.pretrained and family.pretrained.model,
            [sweep.model for sweep in family.tuned],
            [sweep.model for sweep in family.controls],
        )
        for family in found
    }


def test_a_model_stands_with_its_control_and_with_what_was_tuned_from_it():
    contents = RecordView(full(), "")
    assert members(contents) == {
        ("net", "easy"): ("net", [], ["net_random"]),
        ("net_tuned", "easy"): ("net_tuned", [], []),
        ("net", "hard"): ("net", [], ["net_random"]),
    }
    together = ("net", ["net_tuned"], ["net_random"])
    assert members(contents, {"net_tuned": "net"})["net", "easy"] == together
    said = full()
    for sweep in said["sweeps"]:
        if sweep["model"] == "net_tuned":
            sweep["tuned_from"] = "net"
    assert members(RecordView(said, ""))["net", "easy"] == together


def test_a_base_brings_its_relatives_and_a_relative_comes_alone():
    contents, tuned = RecordView(full(), ""), {"net_tuned": "net"}
    assert members(contents, tuned, ["net"])["net", "easy"] == ("net", ["net_tuned"], ["net_random"])
    assert members(contents, tuned, ["net_random"]) == {
        ("net", "easy"): (None, [], ["net_random"]),
        ("net", "hard"): (None, [], ["net_random"]),
    }


def test_what_was_tuned_twice_stands_with_the_first_base():
    run = stored({(name, "a"): {"final": right(500)} for name in ("one", "two", "three")})
    contents = RecordView(run.record, "")
    assert members(contents, {"two": "one", "three": "two"}) == {("one", "a"): ("one", ["two", "three"], [])}
    for circle in ({"one": "one"}, {"one": "two", "two": "one"}):
        with pytest.raises(ProbebenchError, match="one would be tuned from itself: "):
            bases(contents, circle)
    with pytest.raises(UnknownName, match="unknown model 'oen'"):
        bases(contents, {"two": "oen"})


def test_a_random_control_is_not_tuned():
    for tuned in ({"net_random": "net"}, {"net_tuned": "net_random"}):
        with pytest.raises(ProbebenchError, match="net_random is a random control"):
            bases(RecordView(full(), ""), tuned)


def test_datasets_are_in_the_order_of_their_distance():
    record = stored({(m, d): {"final": right(500)} for m in ("net", "net_random") for d in "abcd"}).record
    distances = {"a": 0.3, "b": None, "c": -0.01, "d": 0.2}
    for sweep in record["sweeps"]:
        value = distances[sweep["dataset"]]
        if sweep["model"] == "net_random":
            sweep["control_of"] = "net"
        elif value is not None:
            sweep["shift_distance"] = {"measure": "kid", "reference": "r", "value": value, "standard_error": 0.1}
    contents = RecordView(record, "")
    for model in ("net", "net_random"):
        own = [sweep for sweep in contents.sweeps if sweep.model == model]
        assert [sweep.dataset for sweep in by_shift(contents, own)] == ["c", "d", "a", "b"]
