"""--probe-weights: check another checkpoint against a model's baselines."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from probebench.records import run_record
from tests.conftest import FEW_DIGITS_CONFTEST


@pytest.fixture
def case_file(pytester, monkeypatch):
    monkeypatch.setattr("probebench.measure.shift.MOST", 100)  # distances are not the point
    pytester.makeconftest(FEW_DIGITS_CONFTEST)
    pytester.makepyfile(
        test_glyphvit="""
        import pytest

        @pytest.mark.probe(model="glyphvit", dataset="few_digits", layer=[3, 9, "final"], site=["act", "rc2"])
        def test_probe(probe):
            probe.check()
        """
    )
    return pytester


def measure(pytester, *args):
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "--probe-jobs=1", *args)


def test_damage_to_one_layer_is_found_there_and_behind_it(case_file):
    from importlib.resources import files

    state = load_file(str(files("probebench.embedded") / "glyphvit.safetensors"))
    save_file(state, case_file.path / "clean.safetensors")
    damaged = {name: tensor.clone() for name, tensor in state.items()}
    damaged["blocks.5.mlp.fc2.weight"] *= -8
    damaged["blocks.5.attn.proj.weight"] *= -8
    save_file(damaged, case_file.path / "damaged.safetensors")

    measure(case_file, "--probe-update=all").assert_outcomes(passed=5)
    measure(case_file, "--probe-weights=glyphvit=clean.safetensors").assert_outcomes(passed=5)
    result = measure(case_file, "--probe-weights=glyphvit=damaged.safetensors", "--probe-json=r.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    verdict = {case["id"]: case["verdict"] for case in run_record.load(case_file.path / "r.json")["cases"]}
    # Layer 3 lies before the damage in block 6: nothing moved. Behind it, accuracy fell.
    assert {v for name, v in verdict.items() if "-L03-" in name} == {"same"}
    assert "improved" not in verdict.values()
    assert verdict["glyphvit-few_digits-final"] == "regressed"
    result.stdout.fnmatch_lines(["regressed: glyphvit on few_digits at final: accuracy *"])


def test_where_in_a_file_the_network_was_found_is_told_once(case_file):
    from importlib.resources import files

    state = load_file(str(files("probebench.embedded") / "glyphvit.safetensors"))
    first, patches = state["pos_embed"].split([1, 16], dim=1)
    state["pos_embed"] = torch.cat([first, patches.repeat(1, 4, 1)], dim=1)
    state = {f"backbone.{name}": tensor for name, tensor in state.items()} | {
        "projector.weight": state["norm.weight"] + 1,
        "decoder.0.weight": state["norm.weight"] + 2,
        "decoder.1.weight": state["norm.weight"] + 3,
    }
    plain = {name: tensor + 1 for name, tensor in state.items()}
    torch.save({"model": plain, "model_ema": state}, case_file.path / "own.pt")
    result = measure(case_file, "--probe-weights=glyphvit=own.pt", "--probe-layer=final")
    result.assert_outcomes(passed=1, deselected=result.parseoutcomes().get("deselected", 0))
    named = measure(case_file, "--probe-weights=glyphvit=own.pt#model", "--probe-layer=final")
    named.stdout.no_fnmatch_line("*another copy*")
    measure(case_file, "--probe-weights=glyphvit=own.pt#mdoel", "--probe-layer=final").stdout.fnmatch_lines(
        ["*unknown entry of weights of model 'glyphvit' (*own.pt), 'mdoel'. Did you mean 'model'*"]
    )
    told = [line for line in result.stdout.lines if line.startswith("weights of glyphvit: ")]
    assert told == [
        "weights of glyphvit: those in the entry 'model_ema' of their file",
        "weights of glyphvit: names in their file have the prefix 'backbone.', which was dropped",
        "weights of glyphvit: 3 tensors of their file, no part of the network, were left out: "
        "decoder.* (2), projector.weight",
        "weights of glyphvit: their file has another copy of the network in its entry 'model' under the prefix "
        "'backbone.' of its names (entries are tried in the order state_dict_ema, model_ema, state_dict, model); "
        "checkpoint_key and checkpoint_prefix in its ModelSpec name one",
        "weights of glyphvit: position embeddings in their file are made for images of 64 pixels, and were resampled "
        "to the 32 that are read; kwargs={'img_size': 64} in its ModelSpec reads images of that size",
    ]


NOT_IN_THE_RUN = (
    "*--probe-weights: model 'glyphvit_random' has no case in this run. Did you mean 'glyphvit'? Models with cases: "
    "glyphvit, tiny."
)


@pytest.mark.parametrize(
    "args", [[], ["-n2"], ["--probe-shard=1/2"], ["--collect-only"]], ids=["alone", "workers", "shard", "collecting"]
)
def test_a_file_for_a_model_without_a_case_is_refused_before_any_work(project, run, args):
    (project.path / "w.safetensors").touch()
    text = (project.path / "test_tiny.py").read_text()
    project.makepyfile(test_tiny=text.replace("tiny_other", "glyphvit"))
    result = run("--probe-weights=glyphvit_random=w.safetensors", *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([NOT_IN_THE_RUN])
    assert not (project.path / ".probebench" / "runs").exists()


@pytest.mark.parametrize(
    "args",
    [["-k", "tiny-blobs-final"], ["-m", "probe(model='tiny')"], ["--probe-shard=1/4"]],
    ids=lambda args: args[0].partition("=")[0],
)
def test_a_file_for_a_model_whose_cases_are_left_out_is_none_of_that(project, run, args):
    from probebench.catalog import ModelSpec
    from probebench.models.build import build_model

    kwargs = {"img_size": 16, "patch_size": 8, "embed_dim": 8, "num_heads": 2, "num_classes": 0}
    spec = ModelSpec("own", "VisionTransformer", 2, "random", 16, (0.5,) * 3, (0.5,) * 3, seed=3, kwargs=kwargs)
    save_file(build_model(spec).net.state_dict(), project.path / "w.safetensors")
    result = run("--probe-weights=tiny_other=w.safetensors", "--probe-site=final", *args)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*tiny_other-*")
