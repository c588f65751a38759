"""Which sweeps are skipped, how that is reported, and how images are prepared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from probebench.catalog import Archive, Catalog, DatasetSpec, ModelSpec
from probebench.catalog.cases import Sweep
from probebench.catalog.protocols import get_protocol
from probebench.errors import WeightsError
from probebench.fetch import hub
from probebench.measure.availability import Availability
from probebench.measure.sweep import run_sweep
from probebench.models.preprocessing import describe_preprocessing
from probebench.plugin.expressions import parse_requested_names
from probebench.reporting.availability import preprocessing_lines, skipped_lines

NOBODY = parse_requested_names((), (), "", "", ())
SPEC = Catalog.default().model("vit_b16")
HERE = DatasetSpec("here", "module:function")
ARCHIVE = Archive("https://example.org/a.zip", size=5_000_000, makes="a")
GONE = DatasetSpec("gone", "module:function", archives=(ARCHIVE,))
BY_HAND = replace(GONE, name="by_hand", archives=(replace(ARCHIVE, manual="needs an account"),))
CATALOG = Catalog.default().extend(datasets=[HERE, GONE, BY_HAND])


@pytest.fixture(autouse=True)
def nothing_is_here(monkeypatch, tmp_path):
    """An empty data root, and a machine that has the weights of mae_b16 only."""
    monkeypatch.setenv("PROBEBENCH_DATA", str(tmp_path))
    monkeypatch.setattr(hub, "cached", lambda spec: tmp_path if spec.name == "mae_b16" else None)


def decide(model, dataset, keyword="", offline=False, licences=(), own=()):
    requested = parse_requested_names((), (), keyword, "", ())
    availability = Availability(CATALOG, dict.fromkeys(own), requested, offline, licences)
    return availability.decide(Sweep(model, dataset, "default@2"), 99)


@pytest.mark.parametrize("model", ["glyphvit", "glyphvit_random", "mae_b16", "mae_b16_random"])
def test_what_is_here_runs(model):
    assert decide(model, "here") is None
    assert decide(model, "here", offline=True) is None


def test_what_is_not_here_is_skipped_in_a_bare_run():
    found = decide("vit_b16", "gone")
    assert (found.missing_weights, found.missing_datasets, found.requested, found.cases) == (True, ("gone",), False, 99)
    assert decide("vit_b16", "here").missing_datasets == ()
    assert decide("mae_b16", "gone").missing_weights is False


def test_a_control_runs_by_itself_only_where_its_model_is():
    assert decide("vit_b16_random", "here").missing_weights
    assert decide("vit_b16_random", "here", "vit_b16_random") is None


def test_what_is_requested_by_name_may_be_downloaded():
    assert decide("vit_b16", "gone", "vit_b16") is None
    assert decide("mae_b16", "gone", "gone") is None


def test_a_dataset_by_name_downloads_no_weights():
    found = decide("vit_b16", "gone", "gone")
    assert (found.missing_weights, found.requested) == (True, True)


def test_offline_downloads_nothing(monkeypatch):
    assert decide("vit_b16", "gone", "vit_b16", offline=True).requested
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert decide("vit_b16", "here", "vit_b16").missing_weights


def test_what_no_program_can_fetch_is_skipped_though_requested():
    assert decide("mae_b16", "by_hand", "by_hand").missing_datasets == ("by_hand",)


def test_weights_of_ones_own_need_no_download():
    assert decide("vit_b16", "here", own=["vit_b16"]) is None
    spec = replace(SPEC, name="tuned", checkpoint="tuned.safetensors")
    availability = Availability(CATALOG.extend([spec]), {}, NOBODY, False, ())
    assert availability.decide(Sweep("tuned", "here", "default@2"), 1) is None


@pytest.mark.parametrize(
    ("model", "licences", "refused"),
    [
        ("mae_b16", (), False),
        ("mae_b16", ("commercial",), True),
        ("mae_b16", ("cc-by-nc-4.0",), False),
        ("mae_b16", ("mit", "apache-2.0"), True),
        ("glyphvit", ("commercial",), False),
        ("mae_b16_random", ("commercial",), False),
    ],
)
def test_licences_can_be_refused(model, licences, refused):
    found = decide(model, "here", "mae_b16", licences=licences)
    assert (found is not None) == refused
    if refused:
        assert found.reason == f"licence cc-by-nc-4.0, refused by --probe-licence={','.join(sorted(licences))}"


def test_an_unknown_licence_is_not_a_permission():
    spec = ModelSpec("nameless", "vit_base_patch16_224.mae", 12, "timm", 224, (0.5,) * 3, (0.5,) * 3)
    availability = Availability(CATALOG.extend([spec]), {}, NOBODY, False, ("commercial",))
    assert availability.decide(Sweep("nameless", "here", "default@2"), 1).reason.startswith("licence unknown")


def test_a_dead_host_is_not_taken_for_a_dead_network():
    live = replace(GONE, name="live", archives=(replace(ARCHIVE, url="https://other.example.org/b.zip", makes="b"),))
    requested = parse_requested_names((), (), "glyphvit", "", ())
    availability = Availability(CATALOG.extend(datasets=[live]), {}, requested, False, ())
    availability.skip_unreachable(Sweep("glyphvit", "gone", "default@2"), 1)
    assert availability.decide(Sweep("glyphvit", "gone", "default@2"), 1) is not None
    assert availability.decide(Sweep("glyphvit", "live", "default@2"), 1) is None


def test_weights_of_ones_own_that_are_not_there_are_found_before_images_are_read(tmp_path):
    with pytest.raises(WeightsError, match=r"gone.pt\): no such file"):
        run_sweep("glyphvit", GONE, weights=tmp_path / "gone.pt", download=False)


def test_where_probes_are_trained_on_clean_images_those_are_looked_for_too():
    shifted = replace(HERE, name="shifted", clean="gone")
    catalog, sweep = CATALOG.extend(datasets=[shifted]), Sweep("glyphvit", "shifted", "transfer@1")
    assert Availability(catalog, {}, NOBODY, False, ()).decide(sweep, 99) is None
    found = Availability(catalog, {}, NOBODY, False, (), clean=True).decide(sweep, 99)
    assert found.missing_datasets == ("gone",)
    (_, line) = skipped_lines([found], catalog, {})
    assert line.endswith("probebench fetch gone")
    # Asking for the shifted dataset by name gets the clean one.
    requested = parse_requested_names((), (), "shifted", "", ())
    assert Availability(catalog, {}, requested, False, (), clean=True).decide(sweep, 99) is None


def test_no_network_once_means_no_further_tries():
    availability = Availability(CATALOG, {}, parse_requested_names((), (), "vit_b16", "", ()), False, ())
    sweep = Sweep("vit_b16", "here", "default@2")
    assert availability.decide(sweep, 99) is None
    found = availability.skip_unreachable(sweep, 99)
    assert (found.missing_weights, found.missing_datasets, found.requested) == (True, (), True)
    assert availability.decide(sweep, 99) is not None
    assert availability.decide(Sweep("mae_b16", "here", "default@2"), 99) is None


def test_a_decision_is_kept_until_a_host_does_not_answer(monkeypatch, tmp_path):
    availability = Availability(CATALOG, {}, parse_requested_names((), (), "gone", "", ()), False, ())
    gone, other = Sweep("mae_b16", "gone", "default@2"), Sweep("glyphvit", "gone", "default@2")
    here = Sweep("vit_b16", "here", "default@2")
    assert availability.decide(gone, 99) is None
    assert availability.decide(other, 99) is None
    assert availability.decide(here, 99).cases == 99
    monkeypatch.setattr(hub, "cached", lambda spec: tmp_path)
    assert availability.decide(here, 8).cases == 8  # the weights have come since
    assert availability.skip_unreachable(gone, 99).missing_datasets == ("gone",)
    assert availability.decide(other, 99).missing_datasets == ("gone",)


def test_the_summary_is_one_line_per_model():
    availability = Availability(CATALOG, {}, NOBODY, False, ("apache-2.0",))
    paper = CATALOG.dataset_names("paper")
    found = [availability.decide(Sweep("vit_b16", name, "default@2"), 99) for name in paper]
    found += [availability.decide(Sweep("vit_b16_random", name, "default@2"), 99) for name in paper]
    found.append(availability.decide(Sweep("glyphvit", "gone", "default@2"), 99))
    found.append(availability.decide(Sweep("mae_b16", "gone", "default@2"), 99))
    found.append(availability.decide(Sweep("vit_l16", "here", "default@2"), 195))
    _, vit_b, embedded, refused, vit_l = skipped_lines(found, CATALOG, {})
    assert vit_b.startswith("  vit_b16 ")
    assert "2,178 cases" in vit_b
    assert "343 MB + 11 datasets " in vit_b
    assert vit_b.endswith("probebench fetch vit_b16 paper")
    assert "1 dataset 5.0 MB" in embedded
    assert embedded.endswith("probebench fetch gone")
    assert refused.endswith("licence cc-by-nc-4.0, refused by --probe-licence=apache-2.0")
    assert vit_l.endswith("probebench fetch vit_l16")
    assert skipped_lines([], CATALOG, {}) == []


def test_models_that_the_command_line_does_not_name_share_a_line_unless_images_are_all_they_lack():
    availability = Availability(CATALOG, {}, NOBODY, False, ("apache-2.0", "cc-by-nc-4.0"))
    away = [name for name in CATALOG.models if name.startswith("augreg")]
    here = ["glyphvit", "mae_b16"]
    found = [availability.decide(Sweep(name, "gone", "default@2"), 99) for name in (*away, *here, "dinov3_s16")]
    groups = {each.sweep: "vit" if each.sweep.model in away else "mae" for each in found[1:]}
    first = replace(found[0], requested=True, model_requested=True)
    head, named, *lacking, together, refused = skipped_lines([first, *found[1:]], CATALOG, groups)
    assert head.startswith("Skipped ")
    assert named.startswith(f"  {away[0]} ")
    assert [line.split()[0] for line in lacking] == here
    assert together.startswith(f"Not on this machine: vit ({len(away) - 1} models); name a model to download it (-k ")
    assert refused == (
        "licence dinov3-license, refused by --probe-licence=apache-2.0,cc-by-nc-4.0: mae (1 model); -v lists all"
    )
    assert len(skipped_lines([first, *found[1:]], CATALOG, groups, every=True)) == 1 + len(found)


def test_of_models_that_lack_nothing_but_images_only_some_are_listed():
    own = [name for name in CATALOG.models if name.startswith("augreg")]
    availability = Availability(CATALOG, dict.fromkeys(own), NOBODY, False, ())
    found = [availability.decide(Sweep(name, "gone", "default@2"), 99) for name in own]
    groups = {each.sweep: "vit" for each in found}
    _, *lines, last = skipped_lines(found, CATALOG, groups)
    assert [line.split()[0] for line in lines] == own[:5]
    assert last == f"  and {len(own) - 5} more models: -v shows them, probebench models lists all known models"
    assert len(skipped_lines(found[:6], CATALOG, groups)) == 7  # one more line would save none


def test_preparation_is_told_beside_what_the_weights_declare():
    text, differs = describe_preprocessing(SPEC, get_protocol("default@2"))
    assert text == "224 px, bicubic, mean 0.5, std 0.5, crop 100% (the weights were evaluated at 90%)"
    assert differs == []
    _, differs = describe_preprocessing(SPEC, get_protocol("paper@1"))
    assert differs == [
        "resizing bilinear, where the weights declare bicubic",
        "mean 0.485/0.456/0.406, where the weights declare 0.5",
        "std 0.229/0.224/0.225, where the weights declare 0.5",
    ]


def test_a_spec_that_contradicts_its_weights_is_told():
    spec = replace(SPEC, mean=(0.4, 0.5, 0.6), input_size=384)
    _, differs = describe_preprocessing(spec, get_protocol("default@2"))
    assert differs == [
        "input 384 px, where the weights declare 224 px",
        "mean 0.4/0.5/0.6, where the weights declare 0.5",
    ]


def test_the_report_names_weights_and_licence_and_joins_models_that_agree():
    protocol = get_protocol("default@2")
    glyphs = [CATALOG.model("glyphvit"), CATALOG.model("glyphvit_random")]
    assert preprocessing_lines(glyphs, protocol, {}) == [
        "glyphvit, glyphvit_random: 32 px, bilinear, mean 0.485/0.456/0.406, std 0.229/0.224/0.225; "
        "as the weights declare"
    ]
    (line,) = preprocessing_lines([SPEC], protocol, {})
    assert line.startswith("vit_b16: vit_base_patch16_224.orig_in21k, licence apache-2.0; 224 px, bicubic")
    assert line.endswith("; otherwise as the weights declare")  # all but the crop
    (line,) = preprocessing_lines([SPEC], get_protocol("paper@1"), {})
    assert "WARNING: mean 0.485/0.456/0.406, where the weights declare 0.5" in line
    (line,) = preprocessing_lines([SPEC], protocol, {"vit_b16": "weights /x.pt"})
    assert line.startswith("vit_b16: weights /x.pt; 224 px")
