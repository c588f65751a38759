"""Time limits of other plugins, such as pytest-timeout's: they raise an outcome of pytest while a sweep is measured."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from probebench.errors import first_line


def describe_stop(error: BaseException) -> str:
    """Explain in one line why a sweep was stopped."""
    reason = first_line(error).rstrip(".")
    return (
        f"stopped while it was measured: {reason}. The first test of a sweep measures all of it, so that a time limit "
        "of tests is one of sweeps"
    )


@contextmanager
def no_alarm() -> Iterator[None]:
    """Make a time limit wait for an import: numpy and torch cannot be imported again if they were imported by half."""
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
