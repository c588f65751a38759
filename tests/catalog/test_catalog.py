from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import timm

from probebench.catalog import Catalog, ModelSpec
from probebench.catalog.taps import all_taps
from probebench.errors import ProbebenchError, UnknownName
from probebench.features.hooks import TapReader
from probebench.fetch.hub import needs_download
from probebench.models import default_catalog
from probebench.models.timm_spec import complete_spec, is_timm_id, without_weights

CATALOG = default_catalog()


def spec(**changes):
    fields = {"name": "mine", "architecture": "vit_tiny_patch16_224", "depth": 12, "weights": "random", "seed": 0}
    fields |= {"input_size": 224, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    return ModelSpec(**(fields | changes))


def test_the_embedded_models_differ_in_their_weights_only():
    model, control = CATALOG.model("glyphvit"), CATALOG.model("glyphvit_random")
    assert control.control_of == "glyphvit"
    assert (model.architecture, model.depth, model.kwargs) == (control.architecture, control.depth, control.kwargs)
    assert (model.weights, control.weights) == ("embedded:glyphvit.safetensors", "random")


def test_the_embedded_suite_is_in_the_order_of_shift():
    names = CATALOG.dataset_names("embedded")
    embedded = {
        name for name, spec in CATALOG.datasets.items() if spec.reader.startswith("probebench.datasets.embedded:")
    }
    reference = {"glyphs_pretraining"}  # the others are compared with it
    like_others = {"glyphs", "digits_gaussian_noise", "digits_snow", "digits_speckle_noise"}  # in their shift
    other_tasks = {name for name in embedded if CATALOG.dataset(name).task != "classification"}
    assert other_tasks == {"letters_grid", "letters_angle"}
    assert set(names) == embedded - reference - like_others - other_tasks
    shifts = [CATALOG.dataset(name).shift for name in names]
    assert shifts == sorted(shifts, key=["none", "shift", "strong"].index)


def test_unknown_names_get_the_nearest_and_the_list():
    with pytest.raises(
        UnknownName, match=r"'glyfvit'. Did you mean 'glyphvit'.* `probebench models` lists those of the catalog\."
    ):
        CATALOG.model("glyfvit")
    with pytest.raises(UnknownName, match="Did you mean 'digits_snow'"):
        CATALOG.dataset_names("digit_snow")


def test_names_that_differ_in_case_only_are_refused():
    with pytest.raises(ProbebenchError, match="names of models 'mine' and 'Mine' differ in case only"):
        CATALOG.extend([spec(), replace(spec(), name="Mine")])
    with pytest.raises(ProbebenchError, match="names of models 'glyphvit' and 'GlyphViT' differ in case only"):
        CATALOG.extend([replace(spec(), name="GlyphViT")])


def test_a_name_can_be_added_once():
    assert CATALOG.extend([spec()]).model("mine").depth == 12
    with pytest.raises(ProbebenchError, match="registered twice"):
        CATALOG.extend([spec(), spec()])
    with pytest.raises(ProbebenchError, match="registered twice"):
        CATALOG.extend([spec(name="glyphvit")])


def test_a_catalog_that_grows_keeps_what_it_was_asked_for():
    catalog = default_catalog()
    name = catalog.model("timm:vit_tiny_patch16_224.augreg_in21k").name
    assert catalog.model("vit_b16_random").control_of == "vit_b16"
    more = catalog.extend([spec(), spec(name="vit_b16_random")])
    assert more.model(name) == catalog.model(name)
    assert more.model("vit_b16_random").control_of is None


@pytest.mark.parametrize("name", ["with-dash", "", "spaced out", "ä"])
def test_names_that_would_make_ids_ambiguous_are_refused(name):
    with pytest.raises(ProbebenchError, match="letters, digits and underscores"):
        spec(name=name)


def test_random_weights_need_a_seed_and_statistics_three_channels():
    with pytest.raises(ProbebenchError, match="no seed"):
        spec(seed=None)
    with pytest.raises(ProbebenchError, match="interpolation must be bilinear or bicubic, got 'nearest'"):
        spec(interpolation="nearest")
    with pytest.raises(ProbebenchError, match=r"mean needs three numbers, got \(0.5,\)"):
        spec(mean=(0.5,))
    with pytest.raises(ProbebenchError, match=r"std needs three numbers, got 0\.5"):
        spec(std=0.5)
    with pytest.raises(
        ProbebenchError, match=r"mean must be for pixels from 0 to 1, got \(124, 116, 104\); .* divide it by 255"
    ):
        spec(mean=(124, 116, 104))
    with pytest.raises(ProbebenchError, match=r"std must be for pixels from 0 to 1, got \(0, 0, 0\)"):
        spec(std=(0, 0, 0))


def test_a_model_is_tuned_from_another_and_its_control_is_not():
    tuned = spec(name="tuned", weights="timm", seed=None, architecture="vit_tiny_patch16_224", tuned_from="base")
    assert tuned.tuned_from == "base"
    catalog = Catalog({"tuned": tuned}, {}, {})
    assert catalog.model("tuned_random").tuned_from is None
    with pytest.raises(ProbebenchError, match="it cannot be tuned from itself"):
        spec(name="tuned", tuned_from="tuned")
    with pytest.raises(ProbebenchError, match="it cannot be tuned from anything: it is a random control"):
        spec(name="tuned", tuned_from="base", control_of="base")


HUB = [name for name, spec in CATALOG.models.items() if needs_download(spec)]


@pytest.mark.parametrize("name", HUB)
def test_a_table_says_what_timm_says_and_its_network_can_be_read(name):
    spec = CATALOG.model(name)
    told = complete_spec(ModelSpec(name, spec.architecture, kwargs=spec.kwargs))
    differs = {
        key: (getattr(spec, key), getattr(told, key))
        for key in ("architecture", "depth", "width", "parameters", "download_size", "input_size", "mean", "std")
        + ("interpolation", "crop", "source", "licence")
        if getattr(spec, key) != getattr(told, key)
    }
    assert not differs
    assert spec.pretraining
    with without_weights():
        net = timm.create_model(spec.architecture, pretrained=False, **spec.kwargs).eval()
    TapReader(net, all_taps(spec.depth), "mean")  # refuses a network that no layout fits


def test_the_catalog_has_the_families_that_people_use():
    families = ["vit", "augreg", "deit3", "mae", "dino", "dinov2", "dinov2_reg", "dinov3", "clip", "siglip", "siglip2"]
    families += ["beitv2", "eva02", "pe_core", "aimv2"]
    assert all(any(name.startswith(f"{family}_") for name in HUB) for family in families)
    assert CATALOG.model("vit_b16").architecture == "vit_base_patch16_224.orig_in21k"


def test_every_model_has_a_control():
    control = CATALOG.model("vit_b16_random")
    assert (control.weights, control.seed, control.control_of) == ("random", 0, "vit_b16")
    assert control.architecture == CATALOG.model("vit_b16").architecture
    assert (control.licence, control.download_size) == ("", 0)
    with pytest.raises(UnknownName):
        CATALOG.model("vit_b16_random_random")


def test_any_model_of_timm_can_be_named():
    spec = CATALOG.model("timm:vit_tiny_patch16_224")
    assert spec.name == "timm_vit_tiny_patch16_224"
    assert spec.architecture == "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert CATALOG.model(spec.name) is spec
    with pytest.raises(UnknownName, match="Did you mean 'vit_tiny_patch16_224'"):
        CATALOG.model("timm:vit_tiny_patch16_242")


def test_a_spec_keeps_what_the_user_typed():
    typed = "timm:vit_tiny_patch16_224"
    of_timm = CATALOG.model(typed)
    assert (of_timm.typed, CATALOG.model("glyphvit").typed) == (typed, "glyphvit")
    assert CATALOG.model("vit_b16_random").typed == "vit_b16_random"
    assert replace(of_timm, name="mine").typed == "mine"
    # A model of one's own may have the name that ids give to one of timm.
    own = replace(of_timm, typed=of_timm.name)
    assert own.typed == "timm_vit_tiny_patch16_224"
    assert own == of_timm
    assert repr(own) == repr(of_timm)


def test_models_of_timm_are_known_by_the_names_in_ids():
    assert is_timm_id("timm_vit_tiny_patch16_224")
    assert is_timm_id("timm_vit_tiny_patch16_224_augreg_in21k")
    assert not is_timm_id("timm_mine")
    assert not is_timm_id("vit_tiny_patch16_224")


def test_a_spec_of_name_and_architecture_is_enough():
    catalog = CATALOG.extend([ModelSpec("mine", "vit_tiny_patch16_224.augreg_in21k")])
    assert catalog.model("mine").depth == 12


def test_a_catalog_that_does_not_ask_timm_needs_whole_specs():
    catalog = Catalog.default().extend([spec(depth=0)])
    with pytest.raises(ProbebenchError, match=r"'mine': its spec leaves out depth, .*default_catalog\(\)"):
        catalog.model("mine")


def test_weights_are_of_a_known_kind():
    with pytest.raises(ProbebenchError, match="for a file of your own, give checkpoint"):
        spec(weights="mine.safetensors")


def test_every_model_has_a_case_file_and_no_case_file_another():
    text = "".join(path.read_text() for path in (Path(__file__).parents[2] / "benchmarks").glob("test_*.py"))
    assert sorted(re.findall(r'^    "(\w+)",$', text, re.MULTILINE)) == sorted(HUB)


def test_a_name_that_is_too_long_for_a_folder_is_unknown():
    with pytest.raises(UnknownName, match="unknown dataset 'aaa"):
        Catalog.default().dataset_names("a" * 300)
