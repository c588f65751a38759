"""Installed but unused, the plugin changes nothing about a pytest run."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import TINY_COUNT

HEAVY = (
    "torch",
    "timm",
    "sklearn",
    "numpy",
    "rich",
    "scipy",
    "PIL",
    "tabulate",
    "joblib",
    "skimage",
    "safetensors",
    "pandas",
)

# pytest-benchmark and other plugins of the environment stay out: this is about probebench alone.
ALONE = [
    "-p",
    "no:cacheprovider",
    "-p",
    "no:benchmark",
    "-p",
    "no:anyio",
    "-p",
    "no:hypothesispytest",
    "-p",
    "no:xdist",
]


def test_an_unrelated_run_imports_nothing_heavy(pytester):
    pytester.makepyfile(
        f"""
        import sys

        def test_nothing_heavy():
            assert "probebench.plugin.hooks" in sys.modules
            assert not [name for name in {HEAVY!r} if name in sys.modules]
            ours = sorted(name for name in sys.modules if name.startswith("probebench"))
            light = ("_version catalog catalog.precision catalog.protocols catalog.taps errors measure measure.options "
                     "plugin plugin.benchmark plugin.child_process plugin.collected plugin.ending plugin.gather "
                     "plugin.hooks plugin.hookspecs plugin.items plugin.local_engine plugin.options plugin.parsing "
                     "plugin.session plugin.shard plugin.time_limit").split()
            assert ours == ["probebench", *map("probebench.".__add__, light)]
        """
    )
    result = pytester.runpytest_subprocess(*ALONE)
    result.assert_outcomes(passed=1)
    assert "probebench:" not in result.stdout.str()
    assert not (pytester.path / ".probebench").exists()


@pytest.mark.parametrize("statement", ["import probebench", "from probebench import Case, Tap, ModelSpec, Protocol"])
def test_importing_the_package_imports_nothing_heavy(statement):
    code = f"{statement}\nimport sys\nprint([n for n in {HEAVY!r} if n in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_collecting_cases_imports_no_torch(project):
    project.makepyfile(
        test_zz="import sys\n\ndef test_last(): assert 'torch' not in sys.modules",
        test_tiny=(project.path / "test_tiny.py").read_text(),
    )
    text = (project.path / "conftest.py").read_text()
    # The tiny datasets need numpy; give their module the names that collection needs only.
    project.makeconftest(
        text.replace("import numpy as np\n", "").replace("from probebench.datasets import Split\n", "")
    )
    code = "import sys, pytest; pytest.main(['--collect-only', '-q', *sys.argv[1:]]); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code, *ALONE], capture_output=True, text=True, cwd=project.path)
    assert f"{TINY_COUNT + 1} tests collected" in out.stdout
    assert out.stdout.rstrip().endswith("False")


def test_every_public_name_resolves():
    import probebench

    assert all(getattr(probebench, name) is not None for name in probebench.__all__)
    assert set(probebench.__all__) <= set(dir(probebench))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(probebench, "nothing")  # noqa: B009
