from __future__ import annotations

import pytest

from probebench.plugin.expressions import parse_requested_names


def parse(keyword="", mark="", arguments=(), models=(), datasets=()):
    return parse_requested_names(models, datasets, keyword, mark, arguments)


@pytest.mark.parametrize(
    "asked",
    [
        parse("vit_b16"),
        parse("VIT_B16 and not cifar10"),
        parse("not mae_b16 and vit_b16"),
        parse("(dino or vit_b16) and act"),
        parse("not (mae or dino) and vit_b16"),
        parse("not(mae_b16 and L06) and vit_b16"),
        parse("vit_b16-cifar10-L06-act"),
        parse(mark='probe(model="vit_b16", site="act")'),
        parse(mark="probe(model='vit_b16') and not probe(dataset='cifar10')"),
        parse(arguments=["benchmarks/test_vit.py::test_probe[vit_b16-cifar10-L06-act]"]),
        parse(arguments=["t.py::test[1-vit_b16-cifar10-L06-act]"]),
        parse(models=["vit_b16"]),
    ],
)
def test_a_model_is_asked_for_by_its_name(asked):
    assert asked.has_model("vit_b16")
    assert not asked.has_model("mae_b16")


@pytest.mark.parametrize(
    "asked",
    [
        parse(),
        parse("not vit_b16"),
        parse("not (mae or vit_b16)"),
        parse("not(vit_b16) and cifar10"),
        parse("not (mae or (dino and vit_b16))"),
        parse("act or L06 or final or L06-act"),  # places inside a network
        parse("it"),  # in half of all names
        parse(mark='not probe(model="vit_b16")'),
        parse(mark='probe(model="vit_b1")'),  # -m is exact
        parse(arguments=["benchmarks/test_vit.py"]),
        parse(datasets=["cifar10"]),
    ],
    ids=range(11),
)
def test_a_model_is_not_asked_for_by_other_words(asked):
    assert not asked.has_model("vit_b16")


def test_words_are_parts_of_names_as_in_pytest():
    asked = parse("cifar10")
    assert asked.has_dataset("cifar10")
    assert asked.has_dataset("cifar100")
    assert not asked.has_dataset("flowers102")
    assert not parse(datasets=["cifar10"]).has_dataset("cifar100")
