"""The Python of `tests.warm` does as the one that runs these tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs process descriptors, which Linux has")

SEEN = """
import os, pathlib, sys, time

def test_seen():
    assert "torch" in sys.modules
    assert sys.path[0] or sys.path[1]
    assert os.environ["ASKED"] == "for"
    pathlib.Path("seen").write_text(f"{os.getpid()}")
    time.sleep(float(os.environ["SECONDS"]))
"""


@pytest.fixture
def start(pytester, warm, monkeypatch):
    monkeypatch.setenv("ASKED", "for")
    pytester.makepyfile(test_seen=SEEN)

    def start(seconds):
        monkeypatch.setenv("SECONDS", str(seconds))
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_seen.py"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        seen = pytester.path / "seen"
        while seconds and not (seen.exists() and seen.read_text()):
            assert process.poll() is None
            time.sleep(0.02)
        return process, seen

    return start


def test_a_process_has_its_environment_directory_streams_and_exit_status(start):
    process, seen = start(0)
    text, _ = process.communicate(timeout=300)
    assert (process.returncode, "1 passed" in text) == (0, True)
    assert int(seen.read_text()) not in (process.pid, os.getpid())


def test_signals_reach_it(start):
    process, _ = start(300)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=200)
    assert (process.returncode, "KeyboardInterrupt" in text) == (2, True)


def test_it_ends_when_what_stands_for_it_is_killed(start):
    process, _ = start(300)
    process.kill()
    text, _ = process.communicate(timeout=200)  # which is over when nobody has the stream any more
    assert (process.returncode, "passed" in text) == (-signal.SIGKILL, False)


def test_what_it_is_not_made_for_is_run_by_python_itself(warm):
    code = "import sys; print(sys.executable, 'torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert out[0] != sys.executable
    assert out[1] == "False"
