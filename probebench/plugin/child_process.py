"""Refuse tests that each run in a process of their own, as --forked runs them: what they measure ends with it."""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest

from probebench.errors import ProbebenchError
from probebench.plugin.items import param_of

_WHY = (
    "runs each case in a process of its own, and what is measured ends with it, so that every case would measure its "
    "whole sweep anew"
)


def check_forked(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    """Raises ProbebenchError if pytest-forked is going to run cases."""
    if not hasattr(config.option, "forked"):  # it is not installed
        return
    cases = [item for item in items if param_of(item) is not None]
    if cases and config.option.forked:
        raise ProbebenchError(f"--forked {_WHY}: leave it out. With -n, a crash costs one sweep and not the run")
    if marked := [item.nodeid for item in cases if item.get_closest_marker("forked") is not None]:
        raise ProbebenchError(f"{marked[0]}: the mark `forked` {_WHY}: remove it")


def check_process(parent: int) -> None:
    """Fail a test that is about to measure in another process than its session, whichever plugin has started that.

    Args:
        parent: id of the process of the session
    """
    if os.getpid() != parent:
        pytest.fail(f"some plugin {_WHY}: leave it out for cases", pytrace=False)
