"""--probe-weights: check another checkpoint against a model's baselines."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from probebench import results


@pytest.fixture
def case_file(pytester):
    pytester.makepyfile(
        test_glyphvit="""
        import pytest

        @pytest.mark.probe(model="glyphvit", dataset="digits", layer=[3, 9, "final"])
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

    measure(case_file, "--probe-update=all").assert_outcomes(passed=17)
    measure(case_file, "--probe-weights=glyphvit=clean.safetensors").assert_outcomes(passed=17)
    result = measure(case_file, "--probe-weights=glyphvit=damaged.safetensors", "--probe-json=r.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    verdict = {case["id"]: case["verdict"] for case in results.load(case_file.path / "r.json")["cases"]}
    # Layer 3 lies before the damage in block 6: nothing moved. Behind it, accuracy fell.
    assert {v for name, v in verdict.items() if "-L03-" in name} == {"same"}
    assert "improved" not in verdict.values()
    assert verdict["glyphvit-digits-final"] == "regressed"
    result.stdout.fnmatch_lines(["regressed: glyphvit on digits at final: accuracy *"])


def test_where_in_a_file_the_network_was_found_is_told_once(case_file):
    from importlib.resources import files

    state = load_file(str(files("probebench.embedded") / "glyphvit.safetensors"))
    state = {f"backbone.{name}": tensor for name, tensor in state.items()} | {
        "projector.weight": state["norm.weight"] + 1
    }
    plain = {name: tensor + 1 for name, tensor in state.items()}
    torch.save({"model": plain, "model_ema": state}, case_file.path / "own.pt")
    result = measure(case_file, "--probe-weights=glyphvit=own.pt", "--probe-layer=final")
    result.assert_outcomes(passed=1, deselected=result.parseoutcomes().get("deselected", 0))
    told = [line for line in result.stdout.lines if line.startswith("weights of glyphvit: ")]
    assert told == [
        "weights of glyphvit: those in the entry 'model_ema' of their file",
        "weights of glyphvit: names in their file have the prefix 'backbone.', which was dropped; what does not have "
        "it was left out",
    ]
