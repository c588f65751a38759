"""The end of a session: save what was measured as soon as the tests are over, whatever other plugins do afterwards."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from probebench.errors import Note

if TYPE_CHECKING:
    from probebench.plugin.session import ProbeSession


class Ending:
    """A pytest plugin, registered in every session.

    Results are saved where the loop of the tests ends, not in `pytest_sessionfinish`: in that hook wrappers of other
    plugins come first, and what they raise would cost the results.
    """

    def __init__(self, state: ProbeSession) -> None:
        self._state = state

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember which tests pytest counts as failed: not those that are expected to fail, or run again."""
        if report.failed and report.nodeid in self._state.collected.items:
            self._state.failed.add(report.nodeid)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Save when the tests are over, and when anything ends them: the innermost wrapper, so that it comes first."""
        try:
            result = yield
        except BaseException as error:
            self._save(session, error)
            raise
        self._save(session, None)
        return result

    def _save(self, session: pytest.Session, error: BaseException | None) -> None:
        """Gather what was measured, and save it.

        Args:
            error: what has ended the tests; None if they have come to their end
        """
        state = self._state
        state.notes += [Note("warning", text) for text in dict.fromkeys(state.unreachable)]
        if state.run is None and (state.began is None or state.worker is not None or not state.options.outputs):
            return
        run = state.ensure_run()
        state.engine.gather(run, ended_early=error is not None)
        if state.worker is not None:  # the controller writes
            return
        from probebench.plugin import finish

        unreachable = dict.fromkeys(outcome.unreachable for outcome in run.outcomes() if outcome.unreachable)
        state.notes += [Note("warning", text) for text in unreachable]
        left = any(run.over(sweep) is None for sweep in state.collected.taps if sweep not in state.skipped)
        interrupted = error is not None and (left or not _enough_failures(error))
        if finish.finish(state, run, interrupted):
            session.testsfailed += 1  # ends pytest with exit code 1


def _enough_failures(error: BaseException) -> bool:
    """Return True if -x or --maxfail has ended the tests: after the last sweep they end nothing."""
    # pytest-xdist interrupts the session for these, too.
    return isinstance(error, pytest.Session.Failed) or str(error).startswith("stopping after")
