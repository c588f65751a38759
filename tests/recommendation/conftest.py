"""A small folder of images of digits, and a recommendation for it, made once."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

from probebench import Recommendation, recommend
from probebench.datasets.embedded import digits

CLASSES = ("zero", "one", "two")
EACH = 30


def write_digits(root: Path, each: int = EACH, part: str = "train", first: int = 0) -> Path:
    """`each` images of the digits 0 to 2, as grey PNG files in one folder a class."""
    _, train, test = digits("gaussian_noise")
    split = train if part == "train" else test
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in np.flatnonzero(split.labels == label)[first : first + each]:
            Image.fromarray(split.images[number]).save(root / name / f"{number:04d}.png")
    return root


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and test/, each with three classes."""
    root = tmp_path_factory.mktemp("own") / "my digits"
    write_digits(root / "train")
    write_digits(root / "test", part="test")
    return root


@pytest.fixture(scope="session")
def found(folder: Path) -> Recommendation:
    return recommend("glyphvit", folder, device="cpu", jobs=1)


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., CompletedProcess]:
    """Run a written script in this process, which has the libraries that another would take seconds to import.

    That the script imports all that it needs is tested in processes of their own, once for each kind of probe and of
    network.
    """

    def run(script: Path, *args: Path, without: Sequence[str] = ()) -> CompletedProcess:
        """Keep it from importing the packages `without`."""
        argv, status = [str(script), *map(str, args)], 0
        capsys.readouterr()
        with monkeypatch.context() as context:
            context.setattr(sys, "argv", argv)
            for name in [*without, *(each for each in sys.modules if each.partition(".")[0] in without)]:
                context.setitem(sys.modules, name, None)
            try:
                runpy.run_path(str(script), run_name="__main__")
            except SystemExit as end:
                status = end.code
        out, err = capsys.readouterr()
        if isinstance(status, str):  # which Python prints
            status, err = 1, f"{err}{status}\n"
        return CompletedProcess(argv, status, out, err)

    return run
