from __future__ import annotations

import pytest

from probebench.catalog import Catalog, ModelSpec
from probebench.errors import ProbebenchError, UnknownName

CATALOG = Catalog.default()


def spec(**changes):
    fields = {"name": "mine", "architecture": "vit_tiny_patch16_224", "depth": 12, "weights": "random", "seed": 0}
    fields |= {"input_size": 224, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    return ModelSpec(**(fields | changes))


def test_the_embedded_models_differ_in_their_weights_only():
    model, control = CATALOG.model("glyphvit"), CATALOG.model("glyphvit_random")
    assert control.control_of == "glyphvit"
    assert (model.architecture, model.depth, model.kwargs) == (control.architecture, control.depth, control.kwargs)
    assert (model.weights, control.weights) == ("embedded:glyphvit.safetensors", "random")


def test_the_embedded_suite_is_every_embedded_dataset_in_the_order_of_shift():
    names = CATALOG.dataset_names("embedded")
    embedded = {
        name for name, spec in CATALOG.datasets.items() if spec.reader.startswith("probebench.datasets.embedded:")
    }
    assert set(names) == embedded
    shifts = [CATALOG.dataset(name).shift for name in names]
    assert shifts == sorted(shifts, key=["none", "shift", "strong"].index)


def test_unknown_names_get_the_nearest_and_the_list():
    with pytest.raises(UnknownName, match=r"'glyfvit'. Did you mean 'glyphvit'.* are known: probebench models lists"):
        CATALOG.model("glyfvit")
    with pytest.raises(UnknownName, match="Did you mean 'digits_snow'"):
        CATALOG.dataset_names("digit_snow")


def test_a_name_can_be_added_once():
    assert CATALOG.extended([spec()]).model("mine").depth == 12
    with pytest.raises(ProbebenchError, match="registered twice"):
        CATALOG.extended([spec(), spec()])
    with pytest.raises(ProbebenchError, match="registered twice"):
        CATALOG.extended([spec(name="glyphvit")])


@pytest.mark.parametrize("name", ["with-dash", "", "spaced out", "ä"])
def test_names_that_would_make_ids_ambiguous_are_refused(name):
    with pytest.raises(ProbebenchError, match="letters, digits and underscores"):
        spec(name=name)


def test_random_weights_need_a_seed_and_statistics_three_channels():
    with pytest.raises(ProbebenchError, match="no seed"):
        spec(seed=None)
    with pytest.raises(ProbebenchError, match="interpolation must be bilinear or bicubic, got 'nearest'"):
        spec(interpolation="nearest")
    with pytest.raises(ProbebenchError, match="mean needs three numbers"):
        spec(mean=(0.5,))
