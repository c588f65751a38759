"""Start the processes of tests quickly: fork them from a copy of the process that runs the tests.

Importing torch, timm and scikit-learn takes a process several seconds, and the tests of pytest-xdist, of Ray and of
interrupted or killed runs start more than a hundred processes. Each of them is still a process of its own, with its own
environment, directory and standard streams; only its imports are done.

The copy is made before the first test, when all is imported and nothing has happened yet. `serve` runs in it. `CLIENT`
is the script that takes the place of ``sys.executable``: it passes its arguments and streams to the copy, forwards
signals to the forked process, and ends with its exit status. Commands that are not known to be safe after a fork are
run by the real Python.
"""

from __future__ import annotations

import array
import atexit
import io
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import threading
import traceback
import types
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

BOOTSTRAP = "import sys;exec(eval(sys.stdin.readline()))"
"""The command with which pytest-xdist starts its workers."""

CLIENT = """#!{python} -IS
import array, json, os, signal, socket, sys

arguments = ["-m", "pytest", *sys.argv[2:]] if sys.argv[1:2] == ["-mpytest"] else sys.argv[1:]
flags = [each for each in arguments[:2] if each in ("-u", "-B")]
rest = arguments[len(flags) :]
script = os.path.basename(rest[0]) if rest else ""
if script == "setup_worker.py":  # of Ray; where nothing is to be set up, it only starts what is named next
    rest = rest[1:]
    script = os.path.basename(rest[0])
known = rest[:2] in [["-m", "pytest"], ["-c", {bootstrap!r}]] or script == "default_worker.py"
known = known or rest[:1] == ["-m"] and rest[1].startswith("tests.")
more = os.environ.get("PYTHONPATH", "").removesuffix({path!r}).split(os.pathsep)
try:
    if not known or any(os.path.exists(os.path.join(each, "sitecustomize.py")) for each in more if each):
        raise OSError
    server = socket.socket(socket.AF_UNIX)
    server.connect({address!r})
except OSError:
    os.execv({python!r}, [{python!r}, *arguments])
said = json.dumps([__file__, flags, rest, dict(os.environ), os.getcwd(), [each for each in more if each]]).encode()
streams = array.array("i", [0, 1, 2])
server.sendmsg([len(said).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
server.sendall(said)
for each in (signal.SIGINT, signal.SIGTERM):
    signal.signal(each, lambda number, _: server.send(bytes([number])))
status = int.from_bytes(server.recv(4, socket.MSG_WAITALL), "big", signed=True)
if status < 0:
    if status != -signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
"""


class Copy:
    """A copy of this process that forks for clients, until this process ends or calls `end`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp())  # not one that is removed when a process ends: forked ones do as well
        address, self.client = self.folder / "socket", self.folder / "python"
        path = os.environ.get("PYTHONPATH", "")
        self.client.write_text(
            CLIENT.format(python=sys.executable, bootstrap=BOOTSTRAP, path=path, address=str(address))
        )
        self.client.chmod(0o755)
        line, self._line = os.pipe()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(address))
            listener.listen(64)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # other threads only wait to be told something
                self._process = os.fork()
            if not self._process:
                try:
                    os.close(self._line)
                    os.setsid()
                    os._exit(ended(serve(listener, line)))
                finally:
                    os._exit(1)
        os.close(line)

    def end(self) -> None:
        os.close(self._line)
        os.waitpid(self._process, 0)
        shutil.rmtree(self.folder)


_COPY = pytest.StashKey[Copy]()


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if "tests.imported" in sys.modules and hasattr(os, "pidfd_open"):  # which not every system has
        config.stash[_COPY] = Copy()


def pytest_unconfigure(config: pytest.Config) -> None:
    if _COPY in config.stash:
        config.stash[_COPY].end()


@pytest.fixture
def from_nothing() -> None:
    """Start the processes of this test with the real Python, as users do."""


@pytest.fixture
def warm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the processes of this test, unless it takes the fixture `from_nothing`."""
    if "from_nothing" not in request.fixturenames and _COPY in request.config.stash:
        monkeypatch.setattr(sys, "executable", str(request.config.stash[_COPY].client))


def serve(listener: socket.socket, line: int) -> list[str]:
    """Fork for every client, until nobody has the other end of the line.

    Returns in processes that were forked only: the arguments to run with.
    """
    threadpool_limits(1)  # with one thread it may fork
    selector = selectors.DefaultSelector()
    selector.register(line, selectors.EVENT_READ)
    selector.register(listener, selectors.EVENT_READ)
    children: dict[socket.socket, int] = {}
    while True:
        for key, _ in selector.select():
            if key.fileobj == line:
                for child in children.values():
                    os.kill(child, signal.SIGKILL)
                os._exit(0)
            elif key.fileobj is listener:
                client, _ = listener.accept()
                try:
                    said, streams = heard(client)
                except (OSError, ValueError):  # it was killed before it had said all
                    client.close()
                    continue
                child = os.fork()
                if child == 0:
                    for held in (selector, listener, client, *children):
                        held.close()
                    os.close(line)
                    return become(*said, streams)
                for stream in streams:
                    os.close(stream)
                children[client] = child
                selector.register(client, selectors.EVENT_READ)
                selector.register(os.pidfd_open(child), selectors.EVENT_READ, client)
            elif key.data is None:  # a client passes a signal on, or has been killed
                if key.fileobj in children:
                    numbers = told(key.fileobj) or [signal.SIGKILL]
                    for number in numbers:
                        os.kill(children[key.fileobj], number)
                    if signal.SIGKILL in numbers:
                        selector.unregister(key.fileobj)
            else:  # a child has ended
                client = key.data
                _, status = os.waitpid(children.pop(client), 0)
                with suppress(OSError):
                    client.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
                with suppress(KeyError):
                    selector.unregister(client)
                client.close()
                selector.unregister(key.fileobj)
                os.close(key.fileobj)


def told(client: socket.socket) -> bytes:
    """The numbers of signals; none if the client is there no more."""
    with suppress(OSError):
        return client.recv(16)
    return b""


def heard(client: socket.socket) -> tuple[list, list[int]]:
    """Read the request of a client, and its standard streams."""
    head, [(_, _, sent)], *_ = client.recvmsg(4, socket.CMSG_SPACE(12))
    streams = array.array("i")
    streams.frombytes(sent)
    with client.makefile("rb") as file:
        return json.loads(file.read(int.from_bytes(head, "big"))), list(streams)


def become(
    executable: str,
    flags: list[str],
    rest: list[str],
    environment: dict[str, str],
    directory: str,
    more: list[str],
    streams: list[int],
) -> list[str]:
    """Take on the streams, environment and directory of the client, like a process that has just been started."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    unbuffered = "-u" in flags
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        raw = io.FileIO(number, mode, closefd=False)
        stream = io.TextIOWrapper(
            io.BufferedReader(raw) if mode == "r" else raw if unbuffered else io.BufferedWriter(raw),
            encoding=environment.get("PYTHONIOENCODING", "utf-8"),
            errors="backslashreplace" if name == "stderr" else "strict",
            line_buffering=name == "stderr" or raw.isatty(),
            write_through=unbuffered and mode == "w",
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    sys.executable = executable
    sys.dont_write_bytecode = "-B" in flags or bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    standard = next(number for number, path in enumerate(sys.path) if path.endswith(".zip"))  # of Python itself
    sys.path[:standard] = ["" if rest[0] == "-c" else directory if rest[0] == "-m" else os.path.dirname(rest[0]), *more]
    return rest


def run(rest: list[str]) -> None:
    """Run these arguments as Python would."""
    if rest[0] == "-m":
        sys.argv = rest[1:]
        runpy.run_module(rest[1], run_name="__main__", alter_sys=True)
    elif rest[0] == "-c":
        sys.argv = ["-c", *rest[2:]]
        sys.modules["__main__"] = types.ModuleType("__main__")
        exec(rest[1], vars(sys.modules["__main__"]))
    else:
        sys.argv = rest
        runpy.run_path(rest[0], run_name="__main__")


def ended(rest: list[str]) -> int:
    """Run, and return the exit status. Exit handlers run; torch is not torn down, which would take long."""
    try:
        run(rest)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    return status
