"""`probebench init`: all files or none, and they run."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import timm
from PIL import Image
from safetensors.torch import save_file

from probebench.cli import init
from probebench.cli.main import main
from probebench.datasets import Split
from tests.cli.helpers import Out
from tests.commands import check

ALL = sorted(["test_probes.py", "conftest.py", "pytest.ini", "baselines/README.md", ".github/workflows/probebench.yml"])


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def there(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


@pytest.mark.parametrize("name", [".", "a/b c"])
def test_it_writes_a_project_and_says_what_to_type_next(folder, capsys, pytestconfig, name):
    assert main(["init", *([] if name == "." else [name])]) == 0
    assert there(folder / name) == ALL
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out
    commands = [shlex.split(line) for line in out.splitlines() if re.match(r"  \S", line)]
    assert (["cd", "a/b c"] in commands) == (name != ".")
    assert sum(check(words, pytestconfig) for words in commands) == 2


def test_it_fits_into_a_narrow_terminal(folder, monkeypatch):
    terminal = Out("utf-8", terminal=True)
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["init"]) == 0
    lines = terminal.getvalue().splitlines()
    assert max(map(len, lines)) <= 40
    assert "  pytest --probe-update=new" in lines


@pytest.mark.parametrize("name", sorted({*ALL} - {"pytest.ini"}))
def test_a_file_that_is_there_stops_it_before_it_writes(folder, capsys, name):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("mine")
    assert main(["init"]) == 2
    assert there(folder) == [name]
    assert (folder / name).read_text() == "mine"
    assert capsys.readouterr().err == (
        f"probebench: this folder already has {name}; nothing was written. Move it away, or give another folder, as in "
        "`probebench init my_probes`\n"
    )


def test_all_files_that_are_there_are_named_and_a_dangling_link_is_one(folder, capsys):
    assert main(["init", "x"]) == 0
    (folder / "x" / "conftest.py").unlink()
    (folder / "x" / "conftest.py").symlink_to("nowhere")
    assert main(["init", "x"]) == 2
    err = capsys.readouterr().err
    assert all(name in err for name in ALL if name != "pytest.ini")
    assert "Move them away" in err
    assert not (folder / "x" / "nowhere").exists()


@pytest.mark.parametrize(
    ("name", "text", "left_out"),
    [
        ("pytest.ini", "", True),
        ("pyproject.toml", "[project]\n\n[tool.pytest.ini_options]\n", True),
        ("setup.cfg", "[tool:pytest]\n", True),
        ("tox.ini", "[pytest]\n", True),
        ("pyproject.toml", "[tool.ruff]\n", False),
    ],
)
def test_a_configuration_of_pytest_is_kept(folder, capsys, name, text, left_out):
    (folder / name).write_text(text)
    assert main(["init"]) == 0
    assert (folder / name).read_text() == text
    assert there(folder) == sorted({*ALL, name} - ({"pytest.ini"} if left_out else set()) | {name})
    assert ("this folder configures pytest already" in capsys.readouterr().out) is left_out


def test_a_file_is_no_folder(folder, capsys):
    (folder / "x").write_text("mine")
    assert main(["init", "x"]) == 2
    assert "probebench: x is not a folder" in capsys.readouterr().err
    assert main(["init", "x/y"]) == 1
    assert "probebench: cannot write x/y: Not a directory; nothing was written" in capsys.readouterr().err
    assert there(folder) == ["x"]


@pytest.mark.parametrize("blocked", [".github", "baselines"])
def test_if_a_file_cannot_be_written_those_before_it_are_removed(folder, capsys, blocked):
    (folder / "x").mkdir()
    (folder / "x" / blocked).write_text("a file where a folder is needed")
    assert main(["init", "x"]) == 1
    assert f"probebench: cannot write x/{blocked}" in capsys.readouterr().err
    assert os.listdir(folder / "x") == [blocked]


def test_an_interruption_leaves_nothing(folder, capsys, monkeypatch):
    reads = iter([lambda: b"", lambda: b""])

    class Template:
        def joinpath(self, *names):
            return self

        def read_bytes(self):
            if (read := next(reads, None)) is None:
                raise KeyboardInterrupt
            return read()

    monkeypatch.setattr(init, "files", lambda package: Template())
    assert main(["init", "x/y"]) == 130
    assert capsys.readouterr().err == "probebench: interrupted; nothing was written\n"
    assert not (folder / "x").exists()


def test_inside_a_repository_it_says_where_workflows_belong(folder, capsys):
    (folder / ".git").mkdir()
    assert main(["init", "x"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"move .github to {folder}, and name x/test_probes.py in its pytest command" in out
    assert main(["init"]) == 0
    assert "move .github" not in capsys.readouterr().out


def few_images(corruption=None):
    """Stand in for the embedded datasets, whose thousands of images would take most of the time here."""
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32), dtype=np.uint8)
    labels = np.arange(60, dtype=np.int64) % 2
    return ["a", "b"], Split(images[:40], labels[:40]), Split(images[40:], labels[40:])


def test_the_project_runs_as_it_is_and_after_it_is_filled_in(pytester, monkeypatch):
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    for reader in ("digits", "pretraining"):
        monkeypatch.setattr(f"probebench.datasets.embedded.{reader}", few_images)
    assert main(["init"]) == 0
    options = ("-p", "no:cacheprovider", "--probe-jobs=1", "--probe-layer=final")
    pytester.runpytest_inprocess(*options, "--probe-update=new").assert_outcomes(passed=1)
    (baseline,) = Path("baselines").rglob("*.json")
    assert baseline.name == "glyphvit-digits_inverted.json"

    net = timm.create_model("vit_tiny_patch16_224", num_classes=3)
    save_file(net.state_dict(), "my_model.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 2, 3, 8, 8), dtype=np.uint8)
    for split, of_split in zip(("train", "test"), pixels, strict=True):
        for name, images in zip(("dark", "bright"), of_split, strict=True):
            (folder := Path("my_images", split, name)).mkdir(parents=True)
            for number, image in enumerate(images):
                Image.fromarray(image).save(folder / f"{number}.png")
    cases = Path("test_probes.py")
    mark = re.search(r'model="my_model", dataset="my_images"', cases.read_text())[0]
    cases.write_text(cases.read_text().replace('model="glyphvit", dataset="digits_inverted"', mark))
    result = pytester.runpytest_inprocess(*options)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["my_images: 6 test images*", "*my_model*final*"])
