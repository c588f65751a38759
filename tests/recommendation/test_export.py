"""The probe that is written, and the script that uses it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from PIL import ExifTags, Image
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

from probebench import Tap, all_taps, recommend
from probebench.catalog import Catalog, DatasetSpec, ModelSpec
from probebench.catalog.protocols import DEFAULT
from probebench.catalog.taps import SITES
from probebench.cli.main import main
from probebench.datasets.files import decode
from probebench.errors import StoreError
from probebench.features.hooks import TapReader
from probebench.fetch.hub import download
from probebench.models.build import build_model
from probebench.models.timm_spec import complete_spec
from probebench.probes.linear import Linear
from probebench.recommendation import classify
from probebench.recommendation.export import _cut, export
from probebench.recommendation.hook_recipe import recipe
from tests.recommendation.conftest import write_digits

CHECKPOINT = Path(str(files("probebench.embedded") / "glyphvit.safetensors"))


@pytest.fixture(scope="module")
def written(found, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "deep" / "probe"
    probe, script = found.save(folder)
    assert sorted(folder.iterdir()) == [script, probe]
    return folder


def test_the_script_alone_predicts_what_the_probe_does(found, written, folder, tmp_path):
    script, bad = written / "classify.py", tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    images = sorted((folder / "test").rglob("*.png"))
    # A name on the path that cannot be imported: the script does without probebench.
    (tmp_path / "probebench.py").write_text("raise ImportError('not to be used')")
    done = subprocess.run(
        [sys.executable, script, bad, *images, "--checkpoint", CHECKPOINT],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    (complaint,) = done.stderr.splitlines()
    assert f"{bad} cannot be read" in complaint
    assert done.returncode == 1  # for the image that is none
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == [str(path) for path in images]
    assert [row[1] for row in rows] == in_process(found, images)
    # And so it has the score that was promised.
    right = np.mean([row[1] == Path(row[0]).parent.name for row in rows])
    assert right == pytest.approx(found.test.value)
    assert 1 / 3 <= min(float(row[2]) for row in rows) <= max(float(row[2]) for row in rows) <= 1


def in_process(found, images) -> list[str]:
    """Predictions of the exported probe on features as probebench extracts them, of the whole network."""
    from probebench.datasets import Split
    from probebench.datasets.files import ImageFiles
    from probebench.datasets.views import Views
    from probebench.features.batching import BatchSize
    from probebench.features.forward import extract
    from probebench.features.settings import ExtractionSettings

    built = build_model(Catalog.default().model("glyphvit"))
    split = Split(ImageFiles(Path("/"), [str(path) for path in images]), np.zeros(len(images), dtype=np.int64))
    views = Views(split, np.arange(len(images)), DEFAULT.test_view, 32, 0, DEFAULT.resizing(built.spec))
    settings = ExtractionSettings.for_model(DEFAULT, built.spec, BatchSize(16), "cpu")
    seen = extract(built, views, [found.tap], settings)[found.tap]
    return [found.classes[label] for label in found.export.probe.predict(seen)]


def test_the_script_reads_pixels_as_training_did(tmp_path):
    about = {"preprocessing": {"size": 8, "interpolation": "bicubic", "mean": [0.0] * 3, "std": [1.0] * 3}}
    rng = np.random.default_rng(0)
    for mode, channels in (("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4)):
        pixels = rng.integers(0, 256, (8, 8, channels), dtype=np.uint8).squeeze()
        path = tmp_path / f"{mode}.png"
        Image.fromarray(pixels).save(path)
        seen = (classify.read_image(path, about) * 255).round().byte().permute(1, 2, 0).numpy()
        assert np.array_equal(seen, decode(path, "it")), mode
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    seen = (classify.read_image(tmp_path / "turned.png", about) * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(seen, decode(tmp_path / "turned.png", "it", upright=True))
    assert not np.array_equal(seen, decode(tmp_path / "turned.png", "it"))


def test_the_file_says_what_it_is(found, written):
    with safe_open(written / "probe.safetensors", framework="pt") as file:
        about = json.loads(file.metadata()["probebench"])
        shapes = {name: tuple(file.get_tensor(name).shape) for name in file.keys()}  # noqa: SIM118
    width = next(row.width for row in found.table if row.tap == found.tap.id)
    assert shapes == {"mean": (width,), "scale": (width,), "weight": (3, width), "bias": (3,)}
    assert about["model"] == "glyphvit"
    assert about["tap"] == found.tap.id
    assert about["classes"] == list(found.classes)
    assert about["protocol"] == "default@2"
    assert about["test"] == found.test.to_json()
    assert about["preprocessing"]["size"] == 32
    assert about["preprocessing"]["upright"] is True
    assert about["network"]["blocks"] == max(1, found.tap.layer if isinstance(found.tap.layer, int) else 12)


def test_images_that_were_not_turned_are_not_turned_by_the_script(tmp_path):
    data = write_digits(tmp_path / "own" / "train", each=4)
    write_digits(tmp_path / "own" / "test", each=2, part="test")
    kwargs = {"root": str(data.parent), "upright": False}
    spec = DatasetSpec("lying", "probebench.datasets.folder:image_folder", kwargs)
    found = recommend("glyphvit", spec, device="cpu", jobs=1, budget=1)
    assert found.export.about["preprocessing"]["upright"] is False
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    image = Image.open(next(data.rglob("*.png")))
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "marked.png", exif=exif)
    plain, marked = (classify.read_image(tmp_path / f"{name}.png", found.export.about) for name in ("plain", "marked"))
    assert torch.equal(plain, marked)


def test_the_script_says_what_is_missing(written, folder, tmp_path, monkeypatch):
    image, probe = next((folder / "test").rglob("*.png")), ["--probe", str(written / "probe.safetensors")]
    for args, text in [
        (probe, "weights of glyphvit are in a separate file: add --checkpoint FILE"),
        ([*probe, "--checkpoint", str(tmp_path / "no")], f"file {tmp_path / 'no'} does not exist"),
        (["--probe", str(tmp_path / "none")], f"file {tmp_path / 'none'} does not exist"),
    ]:
        monkeypatch.setattr(sys, "argv", ["classify.py", str(image), *args])
        with pytest.raises(SystemExit, match=re.escape(text)):
            classify.main()


def test_the_script_refuses_other_weights(found, tmp_path):
    from safetensors.torch import load_file, save_file

    state = load_file(CHECKPOINT)
    state["blocks.0.mlp.fc1.bias"][0] += 1
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(SystemExit, match="not the weights of glyphvit"):
        classify.build(dict(found.export.about), tmp_path / "other.safetensors")


def test_a_classify_py_of_another_origin_is_not_replaced(found, tmp_path):
    (tmp_path / "classify.py").write_text("mine\n")
    with pytest.raises(StoreError, match="not from probebench"):
        found.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["classify.py"]
    found.save(tmp_path / "other")
    found.save(tmp_path / "other")  # one's own is


ARCHITECTURES = {
    "vit_tiny_patch16_224": {"img_size": 32, "patch_size": 16},
    "vit_small_patch16_36x1_224": {"img_size": 32, "patch_size": 16, "depth": 3, "embed_dim": 24, "num_heads": 2},
    "vit_small_patch16_18x2_224": {"img_size": 32, "patch_size": 16, "depth": 3, "embed_dim": 24, "num_heads": 2},
    "vit_base_patch16_xp_224": {"img_size": 32, "patch_size": 16, "depth": 3, "embed_dim": 24, "num_heads": 2},
    "eva02_tiny_patch14_224": {"img_size": 28, "depth": 3},
    "beit_base_patch16_224": {"img_size": 32, "depth": 3, "embed_dim": 24, "num_heads": 2},
}


def read(built, taps, pooling, images):
    """Features as probebench extracts them."""
    reader = TapReader(built.net, taps, pooling)
    with torch.inference_mode(), reader.attached():
        return reader.read(images)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_script_reads_every_tap_as_probebench_does(architecture):
    kwargs = ARCHITECTURES[architecture] | {"depth": 3}
    spec = ModelSpec("m", architecture, weights="random", seed=1, kwargs=kwargs | {"num_classes": 0})
    built = build_model(complete_spec(spec))
    images = torch.rand(2, 3, built.spec.input_size, built.spec.input_size)
    taps = all_taps(3)
    expected = read(built, taps, "mean", images)
    for tap, value in zip(taps, expected, strict=True):
        torch.testing.assert_close(classify.features(built.net, recipe(built.net, [tap], "mean"), images), value)
    # And of the network that is cut behind the tap.
    tap = taps[9 + SITES.index("act")]
    assert _cut(built, [tap], DEFAULT) == len(built.net.blocks) == 2
    seen = classify.features(built.net, recipe(built.net, [tap], "mean"), images)
    torch.testing.assert_close(seen, expected[taps.index(tap)])


def test_pretrained_weights_come_from_where_probebench_took_them(hub, found):
    """From timm's repository, and from another that the spec names."""
    kwargs = {"depth": 2, "embed_dim": 24, "num_heads": 2, "img_size": 32}
    for source, path in [
        ("", "/timm/vit_tiny_patch16_224.augreg_in21k/resolve/main/model.safetensors"),
        ("someone/something:w.safetensors", "/someone/something/resolve/main/w.safetensors"),
    ]:
        own = timm.create_model("vit_tiny_patch16_224.augreg_in21k", num_classes=21843, **kwargs)
        hub.files = {path: save(own.state_dict())}
        given = ModelSpec("own", "vit_tiny_patch16_224.augreg_in21k", source=source, kwargs=kwargs)
        spec = complete_spec(given)
        download(spec)
        built = build_model(spec)
        written = export(built, None, Tap(1, "act"), found.export.probe, ["a", "b", "c"], DEFAULT, {})
        assert written.checkpoint is None
        net = classify.build(json.loads(json.dumps(written.about)), None)
        assert len(net.blocks) == 1
        torch.testing.assert_close(net.blocks[0].mlp.fc1.weight, own.blocks[0].mlp.fc1.weight.detach())


def test_the_script_builds_random_and_finetuned_networks(found, tmp_path):
    about = dict(found.export.about)
    random = replace(Catalog.default().model("glyphvit_random"))
    built = build_model(random)
    about["network"] = about["network"] | {"weights": "random", "blocks": 12, "digest": classify.digest(built.net)}
    net = classify.build(about, None)
    for name, tensor in built.net.state_dict().items():
        torch.testing.assert_close(net.state_dict()[name], tensor, rtol=0, atol=0)
    # The weights in a file, which has a classifier of its own.
    save_file(built.net.state_dict() | {"head.weight": torch.zeros(5, 64)}, tmp_path / "tuned.safetensors")
    about["network"] = about["network"] | {"weights": "checkpoint"}
    net = classify.build(about, tmp_path / "tuned.safetensors")
    torch.testing.assert_close(net.pos_embed, built.net.pos_embed)


def test_the_network_of_a_users_checkpoint_is_written_beside_the_probe(found, tmp_path, run_here):
    """As it was loaded: by other names, without a head, on the grid of positions that the probe was trained with."""
    state = {f"module.backbone.{name}": tensor for name, tensor in load_file(CHECKPOINT).items()}
    state["module.backbone.pos_embed"] = torch.randn(1, 65, 64)  # of images of 64 pixels
    torch.save({"args": Namespace(), "net": state | {"module.head.weight": torch.zeros(5, 64)}}, tmp_path / "tuned.pt")
    built = build_model(Catalog.default().model("glyphvit"), weights=tmp_path / "tuned.pt")
    assert (built.made_for, built.prefix) == (64, "backbone.")
    written = export(built, tmp_path / "tuned.pt", Tap(1, "act"), found.export.probe, ["a", "b", "c"], DEFAULT, {})
    _, script = written.write(tmp_path / "out")
    image = tmp_path / "image.png"
    Image.new("RGB", (32, 32), "white").save(image)
    out = run_here(script, image)
    assert out.returncode == 0, out.stderr
    assert out.stdout.startswith(f"{image}\t")
    net = classify.build(json.loads(json.dumps(written.about)), tmp_path / "out" / "network.safetensors")
    torch.testing.assert_close(net.pos_embed, built.net.pos_embed)


def test_a_network_of_another_library_is_written_as_a_program(tmp_path, monkeypatch, run_here):
    pixels = {"depth": 2, "input_size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    built = build_model(ModelSpec("mine", "tests.models.libraries.networks:fixed", **pixels))
    tap, rng = Tap(1, "act"), np.random.default_rng(0)
    zeros, weight = np.zeros(48, np.float32), rng.normal(size=(3, 48)).astype(np.float32)
    probe = Linear(np.arange(3), zeros, zeros + 1, weight, np.zeros(3, np.float32))
    image = tmp_path / "image.png"
    pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(image)
    reader = TapReader(built.net, [tap], "mean")
    view = torch.from_numpy(pixels).permute(2, 0, 1)[None].float().div(255).sub(0.5).div(0.5)
    with torch.inference_mode(), reader.attached():
        scores = probe.scores(reader.read(view)[0].numpy())
    likely = torch.from_numpy(scores).softmax(dim=1)[0]
    written = export(built, None, tap, probe, ["a", "b", "c"], DEFAULT, {})
    assert (written.about["network"]["blocks"], written.network) == (1, {})
    _, script = written.write(tmp_path / "out")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name in ("timm", "probebench"):  # the script does without them
        (tmp_path / f"{name}.py").write_text("raise ImportError('not to be used')")
    answer = f"{image}\t{'abc'[int(likely.argmax())]}\t{likely.max():.3f}\n"
    out = subprocess.run([sys.executable, script, image], capture_output=True, text=True, check=False)
    assert out.stdout == answer, out.stderr
    program = tmp_path / "out" / "network.pt2"
    program.write_bytes(program.read_bytes() + b"x")
    out = run_here(script, image)
    assert out.stderr == f"classify.py: {program} is not the network of mine that the probe was trained on\n"
    program.unlink()
    out = run_here(script, image)
    assert out.stderr.endswith("network.pt2 with the network of mine is missing; it was written with the probe\n")
    with pytest.raises(StoreError, match=r"torch\.export cannot write the network \(no\); nothing is written"):
        replace(written, problem="no").write(tmp_path / "no")
    assert not (tmp_path / "no").exists()


# The command


def test_the_command_answers_and_writes(tmp_path, capsys):
    data = write_digits(tmp_path / "own", each=8)
    args = ["recommend", "--model", "glyphvit", "--data", str(data), "--budget", "1", "--jobs", "1", "--device", "cpu"]
    assert main([*args, "--pooling", "patch_mean", "--combine", "pair", "-o", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    # 24 images, and nothing but the stages: what was printed before the answer.
    assert err.splitlines() == [
        f"glyphvit on {data}: {stage}"
        for stage in (
            "reading images and network",
            "extraction, 24 images",
            "screening, 99 taps",
            "probing, 3 taps",
            "search for the best pair, 1 pair",
            "training the chosen probe",
        )
    ]
    assert "glyphvit on " in out
    assert "has no test split" in out
    assert "\npooling   patch_mean, of all taps but output\n" in out
    assert "\nsame      output is final, up to rounding: fitted once\n" in out  # the network averages patches
    assert len([line for line in out.splitlines() if line.startswith("pair      ")]) == 1
    assert f"{tmp_path / 'out' / 'classify.py'} IMAGE... --checkpoint {CHECKPOINT}" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["classify.py", "probe.safetensors"]


@pytest.mark.parametrize(("budget", "told"), [(None, True), (10, False)])
def test_a_budget_of_all_taps_is_told(monkeypatch, capsys, budget, told):
    found = SimpleNamespace(taps=98, budget=budget)
    monkeypatch.setattr("probebench.recommendation.recommend", lambda *args, **more: found)
    assert main(["recommend", "--model", "glyphvit", "--data", "digits", "--budget", "1000"]) == 0
    line = "budget    covers all 98 taps: each had the full probe, and none was screened\n"
    assert (line in capsys.readouterr().out) is told


def test_bad_input_writes_nothing(tmp_path, capsys):
    data = write_digits(tmp_path / "own", each=4)
    args = ["recommend", "--data", str(data), "-o", str(tmp_path / "out"), "--jobs", "1"]
    assert main([*args, "--model", "glyphvi"]) == 2
    said = capsys.readouterr().err
    assert "Did you mean 'glyphvit'" in said
    assert "Models that a conftest.py defines are available in pytest only: pass --weights FILE" in said
    sorted((data / "two").iterdir())[3].write_bytes(b"nothing")
    assert main([*args, "--model", "glyphvit"]) == 1
    assert "cannot be decoded" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit):
        main([*args, "--model", "glyphvit", "--budget", "0"])
    assert "'0' is not a positive whole number" in capsys.readouterr().err
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert main(["recommend", "--model", "glyphvit", "--data", str(data), "-o", str(blocked)]) == 1
    assert "is not a directory" in capsys.readouterr().err


def test_a_folder_stands_for_its_images(tmp_path):
    (tmp_path / "inner").mkdir()
    for name in ("b.png", "a.PNG", "inner/c.jpg"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    found = classify.find_images([tmp_path / "missing.png", tmp_path])
    assert found == [tmp_path / name for name in ("missing.png", "a.PNG", "b.png", "inner/c.jpg")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match=r"classify\.py: folder .*empty has no images"):
        classify.find_images([tmp_path / "empty"])
