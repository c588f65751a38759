"""`probebench demo`, on a smaller dataset than its own and at few of the layers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from probebench import DatasetSpec
from probebench.catalog.taps import SITES
from probebench.cli import demo
from probebench.cli.main import main
from probebench.datasets import Split
from probebench.models import default_catalog
from tests.cli.helpers import Out


def bands():
    """Images of four classes: the place of a bright band, in noise."""
    rng = np.random.default_rng(0)
    splits = []
    for n in (48, 40):
        labels = np.arange(n, dtype=np.int64) % 4
        images = rng.integers(0, 200, (n, 32, 32), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[8 * label : 8 * label + 8] += 55
        splits.append(Split(images, labels))
    return ["a", "b", "c", "d"], *splits


@pytest.fixture
def small(tmp_path, monkeypatch) -> Path:
    """Replace the dataset; return a folder that is home, cache and current folder."""
    monkeypatch.setattr(demo, "DATASET", DatasetSpec("bands", "tests.cli.test_demo:bands"))
    monkeypatch.setattr(demo, "LAYERS", (12,))
    for name in ("HOME", "XDG_CACHE_HOME", "PROBEBENCH_CACHE", "PROBEBENCH_DATA"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_measures_shows_its_progress_and_the_result_and_writes_nothing(small, monkeypatch, capsys):
    terminal = Out("utf-8", terminal=True)
    monkeypatch.setattr("sys.stderr", terminal)
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert "glyphvit: extract" in terminal.getvalue()
    assert "glyphvit: probing" in terminal.getvalue()
    lines = out.splitlines()
    assert lines[0] == "glyphvit on bands"
    assert lines[1] == "pretraining: supervised, printed glyphs"
    assert "in % of 40 test images" in lines[2]
    assert ["layer", *SITES] in [line.split() for line in lines]
    (row,) = (line.split() for line in lines if line.startswith("L12 "))
    assert len(row) == 1 + len(SITES)
    assert all(0 <= int(cell) <= 100 for cell in row[1:])
    assert [line.partition(":")[0] for line in lines if line[:5] in ("Depth", "Site:", "Limit")] == [
        "Depth",
        "Site",
        "Limits",
    ]
    assert "at 1 of its 12 layers" in " ".join(lines)
    assert "\x1b" not in out
    assert "Nothing was written" in out
    assert not list(small.iterdir())


@pytest.mark.parametrize("terminal", [True, False])
def test_an_interruption_is_one_line(small, monkeypatch, capsys, terminal):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    err = Out("utf-8", terminal=terminal)
    monkeypatch.setattr("sys.stderr", err)
    monkeypatch.setattr("probebench.measure.sweep.run_sweep", interrupted)
    assert main(["demo"]) == 130
    assert err.getvalue().splitlines()[-1].endswith("probebench: interrupted; nothing was written")
    assert "Traceback" not in err.getvalue()
    assert capsys.readouterr().out == ""
    assert os.listdir() == []


def test_its_own_model_and_dataset_are_shipped_with_the_package():
    model, dataset = default_catalog().model(demo.MODEL), default_catalog().dataset(demo.DATASET)
    assert model.weights.startswith("embedded:")
    assert not dataset.archives
    assert dataset.reader.startswith("probebench.datasets.embedded:")
    assert dataset.shift == "strong"
    assert max(demo.LAYERS) == model.depth  # the last layer is what others are compared with
