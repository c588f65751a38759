"""Noise on one block's weights turns a run red, at that block or behind it; other ways of running the same do not."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from probebench.records import run_record
from tests.conftest import FEW_DIGITS_CONFTEST

TOOL = Path(__file__).parents[2] / "tools" / "damage_weights.py"

REVERSED = "\ndef pytest_collection_modifyitems(items):\n    items.reverse()\n"


@pytest.fixture
def measure(pytester, monkeypatch):
    """Run glyphvit on some digits at the layer before the damage to block 6, at it, and at the end."""
    monkeypatch.setattr("probebench.measure.shift.MOST", 100)  # distances are not the point
    pytester.makeconftest(FEW_DIGITS_CONFTEST)
    pytester.makepyfile(
        test_glyphvit="""
        import pytest

        @pytest.mark.probe(model="glyphvit", dataset="few_digits", layer=[5, 6, "final"], site=["act", "rc2"])
        def test_probe(probe):
            probe.check()
        """
    )

    def run(*args):
        result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--probe-json=r.json", *args)
        verdicts = {case["id"]: case["verdict"] for case in run_record.load(pytester.path / "r.json")["cases"]}
        assert len(verdicts) == 5
        return result, verdicts

    return run


def test_damage_is_found_where_it_is_and_clean_reruns_raise_nothing(pytester, measure, monkeypatch):
    measure("--probe-jobs=1", "--probe-update=all")[0].assert_outcomes(passed=5)

    for number, args in enumerate((["--probe-batch-size=7", "--probe-jobs=1"], ["--probe-batch-size=1000"])):
        if number:
            pytester.makeconftest(FEW_DIGITS_CONFTEST + REVERSED)
        result, verdicts = measure("--probe-strict", "--probe-jobs=2", *args)
        result.assert_outcomes(passed=5)
        assert set(verdicts.values()) == {"same"}

    monkeypatch.setattr("sys.argv", [str(TOOL), "damaged.safetensors", "--block=6", "--amount=10"])
    runpy.run_path(str(TOOL), run_name="__main__")
    result, verdicts = measure("--probe-jobs=1", "--probe-weights=glyphvit=damaged.safetensors")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    regressed = {name for name, verdict in verdicts.items() if verdict == "regressed"}
    assert regressed
    assert {name.split("-")[2] for name in regressed} <= {"L06", "final"}
    assert {v for name, v in verdicts.items() if "-L05-" in name} == {"same"}
    for name in regressed:
        result.stdout.fnmatch_lines([f"FAILED *{name}*"])
