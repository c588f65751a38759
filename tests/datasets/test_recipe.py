"""The recipe for one's own data in docs/datasets.md, followed to the letter."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.ondisk import jpeg

DOCS = Path(__file__).parents[2] / "docs" / "datasets.md"


def test_own_data_become_cases(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    _, conftest, cases = re.findall("```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    pytester.makeconftest(conftest)
    pytester.makepyfile(test_own=cases)
    for split in ("train", "test"):
        for name, colour in (("daisy", "white"), ("tulip", "red")):
            for i in range(4):
                jpeg(pytester.path / "flowers" / split / name / f"{i}.jpg", colour, (20 + i, 24))
    names = np.array(["round", "long"] * 4)
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16), dtype=np.uint8)
    np.savez(pytester.path / "cells.npz", x_train=images, y_train=names, x_test=images, y_test=names)
    args = ["-p", "no:cacheprovider", "--probe-jobs=1", "--probe-layer=final", "--probe-update=new"]
    result = pytester.runpytest_inprocess(*args, "-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*glyphvit-my_flowers-final*PASSED*", "*glyphvit-my_cells-final*PASSED*"])


def test_a_dataset_that_is_not_there_fails_with_the_way_to_get_it(pytester: pytest.Pytester, root):
    pytester.makepyfile(
        test_cifar="""
        import pytest

        @pytest.mark.probe(model="glyphvit", dataset="cifar10")
        def test_probe(probe):
            probe.check()
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--probe-jobs=1", "--probe-layer=final")
    assert result.ret != 0
    text = re.sub(r"\s+", " ", result.stdout.str())
    assert "dataset 'cifar10' is not on this machine" in text
