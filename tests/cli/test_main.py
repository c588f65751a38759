"""The command `probebench` itself."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from probebench import __version__
from probebench.cli.exit_codes import SUMMARY
from probebench.cli.main import main
from probebench.records import run_record
from tests.records.samples import right, stored


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


class Full(io.StringIO):
    """A file on a disk without space."""

    def write(self, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fileno(self):
        return self.number


@pytest.mark.parametrize(("command", "code"), [(["models"], 1), (["cache", "ls", "--root=."], 1), (["compare"], 2)])
def test_a_full_disk_behind_the_standard_output_is_one_line(command, code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if command == ["compare"]:
        run = stored({("net", "digits"): {"final": right(700)}})
        run_record.save(run.record, tmp_path / "a.json", run.correct)
        command = ["compare", "a.json", "a.json"]
    with (tmp_path / "out").open("wb") as out:
        full = Full()
        full.number = out.fileno()
        monkeypatch.setattr(sys, "stdout", full)
        assert main(command) == code
    assert capsys.readouterr().err == "probebench: cannot write to the standard output: No space left on device\n"


def test_the_script_is_declared():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"probebench": "probebench.cli:main"}


@pytest.mark.parametrize("args", [[], ["fetch"], ["fetch", "cifar10", "--roof=x"], ["nothing"]])
def test_wrong_usage(args, capsys):
    with pytest.raises(SystemExit) as caught:
        main(args)
    assert caught.value.code == 2
    assert "usage: probebench" in capsys.readouterr().err
