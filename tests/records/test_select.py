"""Sweeps selected by the names of models and datasets."""

from __future__ import annotations

import pytest

from probebench.errors import ProbebenchError, UnknownName
from probebench.records.select import matching, select
from tests.records.places import placed
from tests.records.samples import right, stored
from tests.records.valid import validate


def test_patterns_choose_in_the_order_of_the_record():
    known = ["vit_b", "dino", "vit_a"]
    assert matching("model", [], known) == known
    assert matching("model", ["vit_*"], known) == ["vit_b", "vit_a"]
    assert matching("model", ["vit_a", "dino"], known) == ["dino", "vit_a"]
    with pytest.raises(UnknownName, match=r"unknown model 'vit_c'\. Did you mean 'vit_b' or 'vit_a'"):
        matching("model", ["dino", "vit_c"], known)
    with pytest.raises(UnknownName, match=r"unknown model 'VIT\*'"):
        matching("model", ["VIT*"], known)


def test_cases_of_other_sweeps_are_left_out():
    record = placed().record
    chosen = select(record, [], ["*e*", "far"])
    assert [sweep["dataset"] for sweep in chosen["sweeps"]] == ["clean", "more", "far"]
    chosen = select(record, ["n*"], ["far", "clean"])
    validate(chosen)
    assert [sweep["dataset"] for sweep in chosen["sweeps"]] == ["clean", "far"]
    assert {case["dataset"] for case in chosen["cases"]} == {"clean", "far"}
    assert chosen["images"] == sum(sweep["images"] for sweep in chosen["sweeps"]) < record["images"]
    assert select(record, [], []) is record


def test_what_was_not_measured_cannot_be_selected():
    run = stored({("net", "a"): {"final": right(700)}, ("other", "b"): {"final": right(700)}})
    with pytest.raises(UnknownName, match="unknown dataset 'c'"):
        select(run.record, [], ["c"])
    with pytest.raises(ProbebenchError, match="net was not measured on b"):
        select(run.record, ["net"], ["b"])
