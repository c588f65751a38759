"""Shared by all tests: a tiny network, tiny datasets, and a project to run pytest in."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import settings

pytest_plugins = ["pytester", "tests.hub", "tests.server", "tests.warm"]

# Where these tests are themselves run by `pytest -n N`, a worker has a core and no more. Before torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples everywhere, for as long as they take on a machine that has other things to do.
settings.register_profile("tests", deadline=None, derandomize=True)
settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    """Import what tests need, but not in the process that only hands them to workers."""
    if hasattr(config, "workerinput") or not config.getoption("tx", None):
        import_module("tests.imported")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests of the whole project, which take longest: a worker would do the last of them alone."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)


# A conftest for inner pytest runs: a two-layer network and a dataset that take a fraction of a second together.
TINY_CONFTEST = dedent(
    """
    import numpy as np
    from probebench import DatasetSpec, ModelSpec
    from probebench.datasets import Split

    KWARGS = dict(img_size=16, patch_size=8, embed_dim=8, num_heads=2, num_classes=0)

    def model(name, seed, **more):
        return ModelSpec(name=name, architecture="VisionTransformer", depth=2, weights="random", seed=seed,
                         input_size=16, mean=(0.5,) * 3, std=(0.5,) * 3, kwargs=KWARGS, **more)

    def pytest_probebench_models():
        return [model("tiny", 0), model("tiny_other", 1, control_of="tiny")]

    def pytest_probebench_datasets():
        return [
            DatasetSpec(name="blobs", reader="conftest:blobs", shift="none"),
            DatasetSpec(name="blobs_dark", reader="conftest:blobs", kwargs={"scale": 0.3}, shift="strong"),
            DatasetSpec(name="no_class_two", reader="conftest:blobs", kwargs={"missing": 2}),
        ]

    def blobs(n=120, scale=1.0, missing=None, seed=0):
        rng = np.random.default_rng(seed)
        splits = []
        for part in ("train", "test"):
            labels = rng.integers(0, 3, n)
            images = rng.uniform(0, 120, (n, 16, 16))
            for image, label in zip(images, labels):
                image[5 * label : 5 * label + 5] += 60
            images = (images * scale).astype(np.uint8)
            keep = labels != (missing if part == "train" else None)
            splits.append(Split(images[keep], labels[keep].astype(np.int64)))
        return ["top", "middle", "bottom"], *splits
    """
)

TINY_CASES = dedent(
    """
    import pytest

    @pytest.mark.probe(model=["tiny", "tiny_other"], dataset=["blobs", "blobs_dark"])
    def test_probe(probe):
        probe.check()
    """
)
ONE_COUNT = 8 * 2 + 3  # taps of a two-layer network
TINY_COUNT = 2 * 2 * ONE_COUNT  # models x datasets x taps

# A conftest for runs of the embedded network where half of its digits will do.
FEW_DIGITS_CONFTEST = dedent(
    """
    from probebench import DatasetSpec
    from probebench.datasets import Split
    from probebench.datasets.embedded import digits

    def pytest_probebench_datasets():
        return [DatasetSpec(name="few_digits", reader="conftest:few_digits")]

    def few_digits():
        names, train, test = digits()
        return [names, *(Split(part.images[:n], part.labels[:n]) for part, n in ((train, 600), (test, 600)))]
    """
)

# Less of the tiny project, for what does not need all: the taps of one sweep (`ONE_COUNT`), and one tap of every sweep.
ONE = ("--probe-model=tiny", "--probe-dataset=blobs")
FEW = ("--probe-site=final",)


@pytest.fixture(autouse=True)
def _not_on_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inner runs print the same wherever these tests run: outside CI pytest shortens its summary. And they do not write
    into the summary of the step that runs these tests. Nor are they told that these run in a worker of pytest-xdist."""
    xdist = [name for name in os.environ if name.startswith("PYTEST_XDIST_")]
    for name in ("CI", "BUILD_NUMBER", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", *xdist):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _servers_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """They are the only ones that tests reach: no proxy lies between, and nothing forbids to ask them. Of the hub there
    is none, nor are there weights from it, unless a test has the fixture `hub`."""
    from tests.hub import nobody

    nobody(monkeypatch, tmp_path_factory.getbasetemp() / "no-hub")
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture(autouse=True)
def _own_feature_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Inner runs do not see the features that whoever runs these tests has kept."""
    monkeypatch.setenv("PROBEBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "features"))


@pytest.fixture(autouse=True)
def _same_draws(request: pytest.FixtureRequest) -> None:
    """Random numbers do not depend on the tests before: those of torch, and of the generator `RNG` of a module, which
    begins where importing the module has left it."""
    import torch

    torch.manual_seed(0)
    if (rng := getattr(request.module, "RNG", None)) is not None:
        rng.bit_generator.state = vars(request.module).setdefault("_RNG_STATE", rng.bit_generator.state)


@pytest.fixture(scope="session")
def _solve_once() -> Callable[..., Any]:
    """The solver of the logistic probes, but it solves no problem twice: hundreds of inner runs fit the same features
    of the same tiny networks. The solver itself is tested in tests/probes, without this."""
    from probebench.probes.lbfgs import solve_path

    solved: dict[bytes, Any] = {}

    def solve(*problem: Any, **more: Any) -> Any:
        key = hashlib.sha256()
        for value in (*problem, *more, *more.values()):
            tensor = hasattr(value, "numpy")
            key.update(f"{value.dtype} {value.shape}".encode() if tensor else f"{value!r};".encode())
            key.update(value.cpu().numpy().tobytes() if tensor else b"")
        if key.digest() not in solved:
            solved[key.digest()] = solve_path(*problem, **more)
        return solved[key.digest()]

    return solve


@pytest.fixture
def project(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, _solve_once: Callable[..., Any]
) -> pytest.Pytester:
    """A directory with a tiny model, two tiny datasets and one case file."""
    for module in ("logistic", "logistic_path"):
        monkeypatch.setattr(f"probebench.probes.{module}.solve_path", _solve_once)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    pytester.makeconftest(TINY_CONFTEST)
    pytester.makepyfile(test_tiny=TINY_CASES)
    pytester.makeini("[pytest]\n")
    return pytester


@pytest.fixture
def run(project: pytest.Pytester, request: pytest.FixtureRequest) -> Callable[..., pytest.RunResult]:
    """Run pytest inside the tiny project, in this process, one core; its workers are warm."""

    def runner(*args: str) -> pytest.RunResult:
        if any(arg.startswith("-n") for arg in args):
            request.getfixturevalue("warm")
        return project.runpytest_inprocess("-p", "no:cacheprovider", "--probe-jobs=1", *args)

    return runner


@pytest.fixture
def baselines_dir(project: pytest.Pytester) -> Path:
    return project.path / "baselines" / "default@2"


@pytest.fixture(scope="session")
def _baselines_of_all_cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("baselines") / "default@2"


@pytest.fixture
def stored(
    project: pytest.Pytester, run: Callable[..., pytest.RunResult], baselines_dir: Path, _baselines_of_all_cases: Path
) -> dict[str, bytes]:
    """The tiny project with baselines of all its cases, as a run stores them. Measured once; contents by file name."""
    if not _baselines_of_all_cases.exists():
        run("--probe-update=all").assert_outcomes(passed=TINY_COUNT)
        shutil.copytree(baselines_dir, _baselines_of_all_cases)
        shutil.rmtree(project.path / ".probebench")
    else:
        shutil.copytree(_baselines_of_all_cases, baselines_dir)
    return {path.name: path.read_bytes() for path in sorted(baselines_dir.iterdir())}
