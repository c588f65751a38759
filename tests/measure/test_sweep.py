"""What `run_sweep` takes, refuses, and prints."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from probebench import DatasetSpec, SweepResult, Tap, recommend, run_sweep
from probebench.catalog.protocols import DEFAULT
from probebench.datasets import Split
from probebench.errors import ProbebenchError, UnknownName

NOISE = DatasetSpec("noise", "tests.measure.test_sweep:noise")
TAPS = [Tap(1, "act"), Tap(12, "rc2"), Tap("final", "final")]


def noise():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 32, 32), dtype=np.uint8)
    labels = np.arange(60, dtype=np.int64) % 2
    return ["a", "b"], Split(images[:20], labels[:20]), Split(images[20:], labels[20:])


def sweep(**options) -> SweepResult:
    return run_sweep("glyphvit_random", NOISE, device="cpu", jobs=1, **{"taps": TAPS} | options)


@pytest.fixture(scope="module")
def result() -> SweepResult:
    return sweep()


# What is printed


def said(one):
    return f"{100 * one.accuracy:.1f}% ({100 * one.ci95[0]:.1f}-{100 * one.ci95[1]:.1f})"


def test_a_result_prints_as_a_few_lines(result):
    best = min(result.taps.values(), key=lambda one: (-one.held_out_accuracy, one.tap))
    final = result.taps[TAPS[2]]
    first, *others = str(result).splitlines()
    assert first == "<SweepResult glyphvit_random on noise, default@2: 3 taps, 20 training and 40 test images"
    expected = [f"  {best.tap.id}: {said(best)}, the best on held-out images"]
    expected += [f"  final: {said(final)}"] if best is not final else []
    assert "\n".join(others) == "\n".join(expected) + ">"
    assert repr(result.taps[TAPS[0]]) == (
        f"<TapResult L01-act: {said(result.taps[TAPS[0]])}, width 256, C {result.taps[TAPS[0]].C:g}, "
        f"held-out {100 * result.taps[TAPS[0]].held_out_accuracy:.1f}%>"
    )


def test_what_was_chosen_on_test_and_what_has_no_tap_yet_print_too(result):
    paper = sweep(protocol="paper@1", taps=["final"])
    assert str(paper).splitlines()[1:] == [f"  final: {said(paper.taps[TAPS[2]])}, the best on test images>"]
    assert "held-out" not in repr(paper.taps[TAPS[2]])
    result = SweepResult(**{**vars(result), "taps": {}})
    assert str(result) == "<SweepResult glyphvit_random on noise, default@2: 0 taps, 20 training and 40 test images>"


def test_rows_are_plain_and_have_what_was_measured(result):
    rows = result.to_rows()
    assert json.loads(json.dumps(rows)) == rows
    assert [row["tap"] for row in rows] == ["L01-act", "L12-rc2", "final"]
    act, rc2, final = rows
    one = result.taps[TAPS[0]]
    assert {key: act[key] for key in ("model", "dataset", "protocol", "layer", "site", "width")} == {
        "model": "glyphvit_random",
        "dataset": "noise",
        "protocol": "default@2",
        "layer": 1,
        "site": "act",
        "width": 256,
    }
    assert (act["accuracy"], act["low"], act["high"], act["C"]) == (one.accuracy, *one.ci95, one.C)
    assert act["held_out_accuracy"] == one.held_out_accuracy
    assert act["equal_width"] == one.width_matched.accuracy.value
    assert (rc2["equal_width"], final["layer"]) == (None, "final")


def test_rows_make_a_dataframe(result):
    pandas = pytest.importorskip("pandas", reason="needs probebench[notebook]")
    frame = pandas.DataFrame(result.to_rows()).set_index("tap")
    assert frame.loc["final", "accuracy"] == result.taps[TAPS[2]].accuracy


# What is taken


def test_taps_may_be_named_by_their_ids(result):
    named = sweep(taps=["final", "L01-act"])
    assert list(named.taps) == [TAPS[0], TAPS[2]]
    assert list(sweep(taps="final").taps) == [TAPS[2]]
    assert np.array_equal(named.taps[TAPS[0]].correct, result.taps[TAPS[0]].correct)


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        ([], r"taps is empty: name some, as in \['L06-act', 'final'\], or leave it out for all"),
        (["L06-atc"], "unknown site 'atc'. Did you mean 'act'"),
        ([(6, "act")], "unknown tap .* Known: L01-act"),
        (["L13-act"], "unknown layer '13'. Known: 1 to 12 for model glyphvit_random"),
    ],
)
def test_taps_that_there_are_not_are_told(taps, message):
    with pytest.raises(ProbebenchError, match=message):
        sweep(taps=taps)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"weights": "gone.pt"}, r"'glyphvit_random' \(/.*gone.pt\): no such file; correct the path$"),
        ({"batch_size": 0}, "a batch must be at least 1 image, got 0"),
        ({"protocol": replace(DEFAULT, name="mine", probe="svm")}, "unknown probe 'svm'"),
    ],
)
def test_what_cannot_be_is_told_before_any_image_is_read(kwargs, message, monkeypatch):
    monkeypatch.setattr("probebench.datasets.load", None)
    with pytest.raises(ProbebenchError, match=message):
        sweep(**kwargs)


@pytest.mark.parametrize("call", [run_sweep, recommend])
def test_a_network_is_no_model_and_the_error_says_how_it_becomes_one(call):
    with pytest.raises(
        ProbebenchError, match=r"a name or a ModelSpec, got Linear\. .*save_file.*checkpoint='mine.safe"
    ):
        call(torch.nn.Linear(2, 2), NOISE)


@pytest.mark.parametrize(("call", "what"), [(run_sweep, "dataset must be a name"), (recommend, "data must be a path")])
def test_data_of_another_kind_is_told(call, what):
    with pytest.raises(ProbebenchError, match=f"{what}.* or a DatasetSpec, got list"):
        call("glyphvit", [1, 2])


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("name", ["shapes", "../here/shapes"])
def test_a_folder_as_dataset_is_told_with_the_spec_that_reads_it(tmp_path, monkeypatch, kind, name):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    shapes = tmp_path / "here" / "shapes"
    write(shapes / "train", 3)
    write(shapes / "test", 3)
    assert spec_of(kind(name)).kwargs == {"root": name}
    for split in ("train", "test"):
        (shapes / split).rename(tmp_path / split)
    write(shapes, 10)
    assert spec_of(kind(name)).kwargs["test_every"] == 5


def write(folder, each):
    from tests.datasets.ondisk import jpeg

    for number, name in enumerate(("round", "square")):
        for i in range(each):
            jpeg(folder / name / f"{i}.jpg", (200 * number, i, 0))


def spec_of(name) -> DatasetSpec:
    """The spec that the error advises, with which the sweep runs."""
    with pytest.raises(UnknownName, match="is a folder and not a dataset's name") as caught:
        run_sweep("glyphvit_random", name)
    spec = eval(re.search(r"DatasetSpec\(.*?}\)", str(caught.value))[0])
    run_sweep("glyphvit_random", spec, taps=["final"], device="cpu", jobs=1)
    return spec


def test_a_path_that_leads_nowhere_is_told(tmp_path):
    with pytest.raises(UnknownName, match=r"looks like a folder \(there is none: .*/no/such\).*'root': .*/no/such'}"):
        run_sweep("glyphvit_random", str(tmp_path / "no" / "such"))
