"""The command `probebench` itself."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from probebench import __version__
from probebench.cli.exit_codes import SUMMARY
from probebench.cli.main import main


def test_version_and_help(capsys):
    texts = [("--version", f"probebench {__version__}\n"), ("--help", "probebench fetch paper --dry-run")]
    for option, text in [*texts, ("--help", SUMMARY)]:
        with pytest.raises(SystemExit) as caught:
            main([option])
        assert caught.value.code == 0
        assert text in capsys.readouterr().out


def test_the_package_runs_as_a_command_and_survives_a_closed_pipe():
    pipe = subprocess.Popen(
        f"{sys.executable} -m probebench datasets --all | head -n 1", shell=True, stdout=subprocess.PIPE, stderr=-1
    )
    out, err = pipe.communicate()
    assert out.strip().startswith(b"name")
    assert err == b""


def test_the_script_is_declared():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"probebench": "probebench.cli:main"}


@pytest.mark.parametrize("args", [[], ["fetch"], ["fetch", "cifar10", "--roof=x"], ["nothing"]])
def test_wrong_usage(args, capsys):
    with pytest.raises(SystemExit) as caught:
        main(args)
    assert caught.value.code == 2
    assert "usage: probebench" in capsys.readouterr().err
