"""Kill -9 while features are extracted and kept: no wrong feature is ever served, and nothing is left growing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("how", ["operations", "moments"])
def test_killed_many_times(warm, tmp_path, how):
    """Before an operation on a file, drawn at random, and at random moments with another process at the same."""
    out = subprocess.run(
        [sys.executable, "-m", "tests.features.cache.killed", str(tmp_path / "features"), how, "--kills=20"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,  # it waits for the disk hundreds of times
        check=False,
    )
    assert out.returncode == 0, out.stderr
    report = json.loads(out.stdout.splitlines()[-1])
    assert report["kills"] == 20
    assert report["wrong"] == 0, out.stderr
    assert report["problems"] == report["strays"] == []
    assert report["others"] == [".lock"]
    assert report["held"] == report["bytes"]
    assert report["largest"] <= 2 * report["bytes"]
    assert report["extracted"] == 0
