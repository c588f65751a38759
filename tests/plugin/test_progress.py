"""The progress bar: on a terminal only, gone when it is done."""

from __future__ import annotations

import os
import sys

import pytest

from tests.conftest import ONE_COUNT

pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")


def run_on_terminal(args, cwd):
    pid, terminal = pty.fork()
    if pid == 0:  # the child: its standard streams are the terminal
        os.chdir(cwd)
        os.environ.update(TERM="xterm-256color", COLUMNS="100", LINES="40")
        os.execv(sys.executable, [sys.executable, "-m", "pytest", *args])
    chunks = []
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not chunk:
            break
        chunks.append(chunk)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), b"".join(chunks).decode()


def test_a_terminal_sees_both_stages_with_their_rates(warm, project):
    args = ["--probe-jobs=1", "--probe-model=tiny", "--probe-dataset=blobs", "-p", "no:cacheprovider"]
    status, text = run_on_terminal(args, project.path)
    assert status == 0
    assert "tiny-blobs: extraction" in text
    assert "tiny-blobs: probing" in text
    assert "/240" in text  # 120 training images and 120 test images
    assert f"{ONE_COUNT} passed" in text
    # The line of the sweep stays, above the results.
    assert text.index("tiny on blobs: ") < text.index(f"{ONE_COUNT} passed")
    # The heat map's colours, and no leftover of the bar after the summary began.
    assert "tiny-blobs: probing" not in text[text.index("= probebench =") :]


def test_a_pipe_sees_no_bar(project, run):
    assert "extract" not in run("--probe-model=tiny", "--probe-dataset=blobs").stdout.str()


def test_a_terminal_without_capture(warm, project):
    args = ["--probe-jobs=1", "--probe-model=tiny", "--probe-dataset=blobs", "-p", "no:capture"]
    status, text = run_on_terminal(args, project.path)
    assert status == 0
    assert f"{ONE_COUNT} passed" in text
