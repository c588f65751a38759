"""The terminal, through pytest's reporter or, if another plugin has replaced that, without one.

The only file that uses private names of pytest: the terminal reporter's `_tw` and its `_file`. Tested with
pytest 9.2.0.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

_WIDTH = 80  # characters of a line without a terminal reporter of pytest


class Reporter:
    """Writes lines to the terminal of a pytest session.

    Args:
        pytests: the plugin ``terminalreporter``. Another plugin may have put its own in its place, which may lack any
            attribute of pytest's; then lines go to the standard output
    """

    def __init__(self, pytests: Any) -> None:
        needed = ("_tw", "currentfspath", "startpath", "section", "write_line", "ensure_newline", "isatty", "verbosity")
        self.pytests: Any = pytests if all(hasattr(pytests, name) for name in needed) else None

    @property
    def file(self) -> Any:
        return sys.stdout if self.pytests is None else self.pytests._tw._file

    @property
    def isatty(self) -> bool:
        return self.pytests is not None and bool(self.pytests.isatty)

    @property
    def verbosity(self) -> int:
        return 0 if self.pytests is None else int(self.pytests.verbosity)

    @property
    def width(self) -> int:
        return _WIDTH if self.pytests is None else int(self.pytests._tw.fullwidth)

    @property
    def hasmarkup(self) -> bool:
        return self.pytests is not None and bool(self.pytests._tw.hasmarkup)

    def section(self, title: str) -> None:
        if self.pytests is None:
            self.write_line(f" {title} ".center(_WIDTH, "="))
        else:
            self.pytests.section(title, sep="=")

    def write(self, text: str) -> None:
        if self.pytests is None:
            sys.stdout.write(text)
        else:
            self.pytests._tw.write(text)

    def write_line(self, line: str, **markup: bool) -> None:
        if self.pytests is None:
            sys.stdout.write(f"{line}\n")
        else:
            self.pytests.write_line(line, **markup)

    def ensure_newline(self) -> None:
        if self.pytests is not None:
            self.pytests.ensure_newline()


def find_reporter(config: pytest.Config) -> Reporter | None:
    """The reporter of a session; None if the user wants none (``-p no:terminal``)."""
    plugins = config.pluginmanager
    if any(map(plugins.is_blocked, ("terminal", "terminalreporter"))):
        return None
    return Reporter(plugins.get_plugin("terminalreporter"))


@contextmanager
def own_lines(config: pytest.Config, reporter: Reporter) -> Iterator[None]:
    """Let lines be written while a test runs: they begin on a fresh line, and the row of results goes on after them."""
    capture: Any = config.pluginmanager.get_plugin("capturemanager")
    with nullcontext() if capture is None else capture.global_and_fixture_disabled():  # -p no:capture
        if (pytests := reporter.pytests) is None:
            yield
            return
        writer, path = pytests._tw, pytests.currentfspath
        if writer.width_of_current_line:
            writer.line()
        pytests.currentfspath = None
        yield
        # The row of a file or, with -v, of a test; but each result of a worker begins a row of its own.
        if path is not None and not config.pluginmanager.has_plugin("dsession"):
            writer.write(f"{os.path.relpath(path, pytests.startpath)} " if isinstance(path, Path) else path)
            pytests.currentfspath = path
        writer.flush()
