"""The attentive probe beside the recommended tap: where it is trained, what is said of it, and how it is written."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy.stats import binomtest

from probebench import DatasetSpec, ModelSpec, Tap, recommend, run_sweep
from probebench._arrays import on_host
from probebench.catalog.protocols import ATTENTIVE, get_protocol
from probebench.catalog.taps import SITES
from probebench.cli.main import main
from probebench.datasets import Split, load
from probebench.errors import FeatureError, ProbebenchError
from probebench.features.hooks import TapReader
from probebench.measure.plan import Workload
from probebench.models.build import build_model
from probebench.probes.attention_pool import AttentiveClassifier
from probebench.probes.attentive import Attentive
from probebench.probes.evaluate import Combination
from probebench.probes.token_rows import Scale
from probebench.recommendation import classify
from probebench.recommendation.attention import best_with_tokens
from probebench.recommendation.export import export
from probebench.recommendation.hook_recipe import recipe
from tests.measure.test_tokens import spots
from tests.recommendation.conftest import write_digits
from tests.recommendation.test_hook_recipe import NETWORKS, built_from_file, images_for, read
from tests.tiny import tiny_model

MODEL = tiny_model(16, depth=2, patch_size=4, embed_dim=16, reg_tokens=2)
DATA = DatasetSpec("spots", f"{__name__}:few_spots")


def few_spots():
    """Images in which one token of sixteen has the class."""
    names, train, test = spots()
    return names, Split(train.images[:80], train.labels[:80]), Split(test.images[:60], test.labels[:60])


def choose(monkeypatch, *names):
    """Choose these representations, one after the other, in the place of the best."""
    left = list(names)

    def chosen(cases, correct, original=recommend.__globals__["select_tap"]):
        return original(cases, correct) | {"tap": left.pop(0)}

    monkeypatch.setitem(recommend.__globals__, "select_tap", chosen)


def run(model=MODEL, **options):
    return recommend(model, DATA, device="cpu", jobs=1, attentive=True, **options)


@pytest.fixture(scope="module")
def found():
    return run()


def test_it_is_trained_at_the_chosen_tap_and_is_one_more_representation(found):
    at = {row.tap: row for row in found.table}
    linear = [row for row in found.table if row.tap != found.attentive.tap.id]
    best = max(linear, key=lambda row: row.validation)  # the first of equal ones
    assert (found.attentive.linear.id, found.attentive.tap.id) == (best.tap, f"{best.tap}.tokens")
    assert found.attentive.instead_of is None
    one = at[found.attentive.tap.id]
    assert (one.pooling, one.width, one.C, one.saved_compute) == ("tokens", best.width, None, best.saved_compute)
    assert found.tap.id == max(found.table, key=lambda row: row.validation).tap
    # What a sweep under the protocol measures, with the linear probe of the default protocol.
    sweep = run_sweep(MODEL, DATA, protocol="attentive@1", taps=[best.tap], device="cpu", jobs=1)
    (measured,) = sweep.taps.values()
    plain = run_sweep(MODEL, DATA, taps=[best.tap, "final"], device="cpu", jobs=1).taps[Tap.parse(best.tap)]
    assert (one.test, one.low, one.high) == (measured.accuracy, *measured.ci95)
    assert one.validation == measured.held_out_accuracy
    gained, lost = (
        int((a & ~b).sum()) for a, b in ((measured.correct, plain.correct), (plain.correct, measured.correct))
    )
    assert found.attentive.p_value == pytest.approx(binomtest(gained, gained + lost).pvalue if gained + lost else 1.0)
    assert found.attentive.gain == pytest.approx((gained - lost) / len(plain.correct))


def test_the_lines_say_what_it_gains_and_costs(found):
    compared, at = found.attentive, {row.tap: row for row in found.table}
    (line,) = (line for line in found.lines() if line.startswith("attentive "))
    one, linear = at[compared.tap.id], at[compared.linear.id]
    assert line.startswith(
        f"attentive attention to the tokens of {linear.tap}: validation {100 * one.validation:.1f}%, "
        f"test {100 * one.test:.1f}%, "
    )
    assert f"(test {100 * linear.test:.1f}%, {100 * compared.gain:+.1f} points, p = {compared.p_value:.2g})" in line
    part = -(-linear.width // 32)  # of each of 32 queries
    weights = 32 * linear.width * (1 + part) + 3 * (32 * part + 1)
    assert f"; {weights:,} weights instead of {3 * (linear.width + 1):,}, and " in line
    assert f"the best of {len(found.table) - 1} taps and 1 attentive probe on validation" in str(found)
    assert f"over {len(found.table) - 1} taps" in str(found)  # Holm's procedure counts it
    assert {row[0] for row in found.rows()} >= {one.tap, linear.tap, "final", "output"}


def test_it_is_called_better_only_if_the_test_says_so(found):
    tap, linear = found.attentive.tap, found.attentive.linear
    text = str(replace(found, tap=tap))
    assert f"\ntap       {tap.id} (the attentive probe), the best of " in text

    def said(gain, p, **more):
        return str(replace(found, attentive=replace(found.attentive, gain=gain, p_value=p), **more))

    assert f", better than the linear probe of {linear.id} (" in said(0.05, 0.03)
    assert f", worse than the linear probe of {linear.id} (" in said(-0.05, 0.03)
    assert f", not significantly better than the linear probe of {linear.id} (" in said(0.05, 0.06)
    # A concatenation is one more test: 0.03 is not enough of two.
    made = {"final": Combination((linear,), linear, 0.01, 0.5, 1)}
    assert ", not significantly better than the linear probe of " in said(0.05, 0.03, combinations=made)
    patches = replace(found.attentive, tap=replace(tap, pooling="patch_tokens"))
    renamed = tuple(replace(row, tap=patches.tap.id) if row.tap == tap.id else row for row in found.table)
    assert f"the tokens of the patches at {linear.id}:" in str(replace(found, attentive=patches, table=renamed))
    assert "attentive" not in str(replace(found, attentive=None)).replace(DATA.name, "")


@pytest.mark.parametrize(("chosen", "options"), [("output", {}), ("pair", {"combinations": "pair", "budget": 3})])
def test_where_the_chosen_one_has_no_tokens_the_best_tap_that_has_some_is_used(monkeypatch, chosen, options):
    choose(monkeypatch, chosen, chosen)
    found = run(**options)
    there = [row for row in found.table if row.pooling and "." not in row.tap]
    best = max(there, key=lambda row: row.validation).tap
    assert (found.attentive.linear.id, found.attentive.tap.id) == (best, f"{best}.tokens")
    assert found.attentive.instead_of == found.tap == Tap(chosen, chosen)
    where = f"the best single tap with tokens (the best of all, {chosen}, has none): validation "
    assert f"attentive attention to the tokens of {best}, {where}" in str(found)
    counted = " concatenations and 1 attentive probe on" if options else " taps and 1 attentive probe on"
    assert counted in str(found).replace("1 concatenation ", "1 concatenations ")


@pytest.mark.parametrize(
    ("chosen", "poolings", "tokens", "protocol"),
    [
        ("L01-act", ["patch_mean"], "L01-act.patch_tokens", "attentive@1+patch_mean"),
        ("L01-act.cls", ["mean", "cls"], "L01-act.tokens", "attentive@1"),
    ],
)
def test_the_tokens_are_those_that_the_chosen_tap_is_made_of(monkeypatch, chosen, poolings, tokens, protocol):
    choose(monkeypatch, chosen, tokens)
    found = run(poolings=poolings)
    assert (found.attentive.linear.id, found.attentive.tap.id) == (chosen, tokens)
    linear = next(row for row in found.table if row.tap == chosen)
    assert found.attentive.gain == pytest.approx(found.test.value - linear.test)
    about = found.export.about
    assert (about["tap"], about["protocol"]) == (tokens, protocol)
    assert about["fingerprint"] == get_protocol(protocol).fingerprint


def test_the_best_tap_with_tokens_is_one_that_is_read_alone():
    names = {"output": 0.9, "pair": 0.8, "last4": 0.7, "L02-act": 0.6, "L01-act.cls": 0.6, "final": 0.5}
    results = {Tap.parse(name): SimpleNamespace(held_out_accuracy=value) for name, value in names.items()}
    assert best_with_tokens(results) == Tap(1, "act", "cls")


def normalised(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.5)


@pytest.mark.parametrize("name", ["L02-act", "L02-fc1", "final"])
def test_the_script_alone_classifies_as_was_measured(monkeypatch, tmp_path, name):
    choose(monkeypatch, name, f"{name}.tokens")
    found = run(budget=1) if name == "final" else run(budget=19)
    probe, script = found.save(tmp_path / "out")
    tensors = load_file(probe)
    width = next(row.width for row in found.table if row.tap == name)
    assert {each: tuple(values.shape)[:2] for each, values in tensors.items()} == {
        "mean": (width,),
        "scale": (width,),
        "queries": (32, width),
        "values": (32, width),
        "weight": (3, 32 * -(-width // 32)),
        "bias": (3,),
    }
    assert {values.dtype for values in tensors.values()} == {torch.float32}
    tensors, about = classify.load_probe(probe)
    assert (about["tap"], about["rate"] in ATTENTIVE.rates) == (f"{name}.tokens", True)
    test = load(DATA).test
    net = classify.build(about, None)
    scores = classify.score(tensors, classify.features(net, about["features"], normalised(test.images))).numpy()
    assert np.mean(scores.argmax(axis=1) == test.labels) == found.test.value
    if name != "L02-fc1":
        return
    # And image by image, in a process without probebench. Once, because libraries take long to load.
    image = tmp_path / "image.png"
    Image.fromarray(test.images[0]).save(image)
    (tmp_path / "probebench.py").write_text("raise ImportError('not to be used')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    out = subprocess.run([sys.executable, script, image], capture_output=True, text=True, check=False)
    likely = torch.from_numpy(scores[0]).softmax(dim=0)
    assert out.stdout == f"{image}\t{'abc'[int(likely.argmax())]}\t{likely.max():.3f}\n", out.stderr


def untrained(width, tokens):
    """A probe with weights of all sizes."""
    generator = torch.Generator().manual_seed(0)
    net = AttentiveClassifier(width, 4, 3, generator)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    mean, deviation = tokens.flatten(0, 1).mean(dim=0), tokens.flatten(0, 1).std(dim=0) + 0.1
    return Attentive(np.arange(3), net, Scale(mean, deviation), 0.01, 1, 1, None)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("pooling", ["tokens", "patch_tokens"])
def test_the_script_reads_the_tokens_of_every_tap_and_scores_them_as_the_package_does(tmp_path, kind, pooling):
    built = built_from_file(kind, tmp_path, depth=4)
    images = images_for(built)
    places = [*(Tap(4, site) for site in SITES), *map(Tap.parse, ("embed", "final", "last4"))]
    taps = [replace(tap, pooling=pooling) for tap in places]
    for tap, tokens in zip(taps, read(built.net, taps, "mean", images), strict=True):
        assert tokens.ndim == 3
        plan = json.loads(json.dumps(recipe(built.net, [tap], "mean")))
        seen = classify.features(built.net, plan, images)
        torch.testing.assert_close(seen, tokens, rtol=1e-5, atol=1e-5, msg=tap.id)
        probe = untrained(tokens.shape[2], tokens)
        bits = on_host(tokens.bfloat16().flatten(1)).reshape(tuple(tokens.shape))
        np.testing.assert_allclose(
            classify.score(probe.tensors(), tokens).numpy(), probe.scores(bits), rtol=1e-3, atol=1e-3, err_msg=tap.id
        )


@pytest.mark.parametrize("name", ["L01-act", "L02-fc1", "final"])
def test_a_network_of_another_library_is_written_as_a_program_that_gives_tokens(tmp_path, run_here, name):
    pixels = {"depth": 2, "input_size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    built = build_model(ModelSpec("mine", "tests.models.libraries.networks:fixed", **pixels))
    tap = replace(Tap.parse(name), pooling="tokens")
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    reader = TapReader(built.net, [tap], "mean")
    with torch.inference_mode(), reader.attached():
        (tokens,) = reader.read(normalised(image[None]))
    probe = untrained(tokens.shape[2], tokens.clone())
    scores = probe.scores(on_host(tokens.bfloat16().flatten(1)).reshape(tuple(tokens.shape)))
    likely = torch.from_numpy(scores).softmax(dim=1)[0]
    _, script = export(built, None, tap, probe, ["a", "b", "c"], ATTENTIVE, {}).write(tmp_path / "out")
    if name != "L02-fc1":
        program = torch.export.load(tmp_path / "out" / "network.pt2").module()
        tensors, about = classify.load_probe(tmp_path / "out" / "probe.safetensors")
        found = classify.score(tensors, classify.features(program, about["features"], normalised(image[None])))
        np.testing.assert_allclose(found.numpy(), scores, rtol=1e-3, atol=1e-3)
        return
    Image.fromarray(image).save(tmp_path / "image.png")
    out = run_here(script, tmp_path / "image.png", without=("timm", "probebench"))
    answer = f"{tmp_path / 'image.png'}\t{'abc'[int(likely.argmax())]}\t{likely.max():.3f}\n"
    assert out.stdout == answer, out.stderr


def test_what_has_nothing_to_attend_to_is_refused_before_the_work(monkeypatch):
    one_token = tiny_model(16, patch_size=16, embed_dim=16, class_token=False, global_pool="avg")
    with pytest.raises(ProbebenchError, match="tiny has only one token an image, so there is nothing to attend to"):
        run(one_token)
    one_patch = tiny_model(16, patch_size=16, embed_dim=16)
    with pytest.raises(ProbebenchError, match="tiny has only one patch an image, so there is nothing to attend to"):
        run(one_patch, poolings=["mean", "patch_mean"])
    labels = DatasetSpec("many", f"{__name__}:many", task="multilabel")
    with pytest.raises(ProbebenchError, match="fits classes only, and the task of the images is multilabel: leave out"):
        recommend(MODEL, labels, attentive=True)
    much = property(lambda self: 10**18 if self.tokens else 10**4)
    monkeypatch.setattr(Workload, "feature_bytes", much)
    monkeypatch.setattr(Workload, "held_bytes", lambda self, *_: self.feature_bytes)
    with pytest.raises(
        FeatureError, match=r"keeps every token of a tap \(.* GB\), which fit neither .* leave out --attentive"
    ):
        run()


def many():
    raise AssertionError("nothing is to be read")


def test_the_command(tmp_path, capsys):
    data = write_digits(tmp_path / "own", each=5)
    args = ["recommend", "--model", "glyphvit", "--data", str(data), "--budget", "1", "--jobs", "1", "--device", "cpu"]
    assert main([*args, "--attentive"]) == 0
    out, err = capsys.readouterr()
    assert len([line for line in out.splitlines() if line.startswith("attentive attention to the tokens of ")]) == 1
    stages = [line.removeprefix(f"glyphvit on {data}: ") for line in err.splitlines()]
    assert stages[-3:] == ["extraction, 15 images", "probing, 1 tap", "training the chosen probe"]
