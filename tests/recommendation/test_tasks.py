"""Recommendations and exported probes for labels that are no single class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from probebench import Tap, recommend, run_sweep
from probebench.catalog import DatasetSpec
from probebench.datasets import Split, embedded, load
from probebench.stats import paired
from tests.tiny import tiny_model

MODEL = tiny_model(32, patch_size=8, embed_dim=24, mlp_ratio=2.0, num_classes=1000)
SPECS = {
    task: DatasetSpec(name, f"{__name__}:some", {"name": name}, task=task)
    for task, name in (("multilabel", "letters_grid"), ("regression", "letters_angle"))
}


def some(name):
    """A part of an embedded dataset."""
    names, *splits = getattr(embedded, name)()
    return names, *(Split(split.images[:200], split.labels[:200]) for split in splits)


@pytest.fixture(scope="module", params=SPECS)
def found(request):
    return recommend(MODEL, SPECS[request.param], device="cpu", jobs=1)


def test_the_answer_is_that_of_the_sweep(found):
    sweep = run_sweep(MODEL, SPECS[found.task.name], device="cpu", jobs=1)
    chosen, output = sweep.taps[found.tap], sweep.taps[Tap("output", "output")]
    assert chosen.held_out_accuracy == max(tap.held_out_accuracy for tap in sweep.taps.values())
    assert found.test == chosen.metrics.accuracy
    assert found.gain_p == paired(output.correct, chosen.correct).p_two_sided
    assert (found.n_train, found.n_test) == (200, 200)


def test_the_lines_have_the_score_and_the_test(found):
    text = str(found)
    assert f"test      {found.task.score} {found.test.value:.3f}, 95% interval " in text
    assert ("10 labels" if found.task.name == "multilabel" else "1 target") in text
    assert "sign-flip test" in text
    assert "McNemar" not in text
    assert found.columns[2] == f"test {found.task.score}"
    assert f"{found.test.value:.3f}" in found.rows()[0][2]


def test_the_script_predicts_what_the_probe_does(found, tmp_path, run_here):
    data = load(SPECS[found.task.name])
    images = [tmp_path / f"{number}.png" for number in range(12)]
    for path, pixels in zip(images, data.test.images[:12], strict=True):
        Image.fromarray(pixels).save(path)
    _, script = found.save(tmp_path / "probe")
    done = run_here(script, *images)
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    sweep = run_sweep(MODEL, SPECS[found.task.name], taps=[found.tap], device="cpu", jobs=1)
    assert list(dict.fromkeys(row[0] for row in rows)) == [str(path) for path in images]
    if found.task.name == "regression":
        values = np.array([float(row[2]) for row in rows])
        truth = data.test.labels[:, 0]
        scores = 1 - np.square(values - truth[:12]) / truth.var()
        assert [row[1] for row in rows] == ["angle"] * 12
        assert scores == pytest.approx(sweep.taps[found.tap].correct[:12], abs=1e-3)
    else:
        named = [row for row in rows if row[1] != "-"]
        assert {row[1] for row in named} <= set(data.classes)
        assert all(0.5 <= float(row[2]) <= 1 for row in named)
        assert [row[2] for row in rows if row[1] == "-"] == [""] * (len(rows) - len(named))
        said = np.zeros((12, 10), dtype=bool)
        for path, name, _ in named:
            said[images.index(tmp_path / path), data.classes.index(name)] = True
        assert (said == (data.test.labels[:12] == 1)).mean() > 0.7


def test_a_budget_screens_by_the_score_of_the_task():
    few = recommend(MODEL, replace(SPECS["regression"]), budget=2, device="cpu", jobs=1)
    assert few.budget is not None
    assert len(few.table) <= 4
    assert "was measured for classes only" in str(few)
