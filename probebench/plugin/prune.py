"""``--probe-prune``: remove stale baselines, which have no case, in a run of all cases.

A baseline whose case is filtered out looks like one whose case no longer exists. So filters of any kind are refused
before any work, and so is a collection from which anything else leaves cases out.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from typing import TYPE_CHECKING

import pytest

from probebench._format import list_some
from probebench.errors import Note
from probebench.plugin.items import param_of
from probebench.records.baselines import prune

if TYPE_CHECKING:
    from probebench.catalog.cases import Sweep
    from probebench.catalog.taps import Tap
    from probebench.measure.options import Options
    from probebench.plugin.collected import Collected

_WHY = "--probe-prune removes every baseline that has no case in the run, so it needs a run of all cases"
_FILTERS = {
    "keyword": "-k",
    "markexpr": "-m",
    "deselect": "--deselect",
    "ignore": "--ignore",
    "ignore_glob": "--ignore-glob",
    "lf": "--last-failed",
    "stepwise": "--stepwise",
    "pyargs": "--pyargs",
    "collectonly": "--collect-only",
    "probe_model": "--probe-model",
    "probe_dataset": "--probe-dataset",
    "probe_layer": "--probe-layer",
    "probe_site": "--probe-site",
    "probe_shard": "--probe-shard",
}
"""Options that leave cases out, by the name under which pytest keeps them."""


def check_unfiltered(config: pytest.Config) -> None:
    """Raises pytest.UsageError if the command line may leave cases out."""
    found = [option for name, option in _FILTERS.items() if getattr(config.option, name, None)]
    found += [part for argument in config.args if (part := _describe_part(config, argument))]
    if found:
        raise pytest.UsageError(f"{_WHY}: leave out {', '.join(found)}")


def _describe_part(config: pytest.Config, argument: str) -> str:
    """Describe an argument that names only a part of a project, and what to name instead; empty for other arguments."""
    path, root = (config.invocation_params.dir / argument.partition("::")[0]).resolve(), config.rootpath.resolve()
    if "::" in argument or path.is_file():
        return argument
    if path == root or not path.is_relative_to(root):
        return ""
    patterns = config.getini("python_files")
    if any(fnmatch(each.name, pattern) for each in root.iterdir() for pattern in patterns):
        return f"{argument} (there are tests next to it)"
    # Tests further up are not searched for: the whole folder below the root must be named.
    return "" if path.parent == root else f"{argument} (or name all of {path.relative_to(root).parts[0]})"


class Pruning:
    """A pytest plugin, registered when ``--probe-prune`` is given.

    Args:
        notes: lines for the end of the run are added here

    Attributes:
        left_out: node ids of deselected cases, and of files that could not be collected
    """

    def __init__(self, options: Options, notes: list[Note]) -> None:
        self._options, self._notes = options, notes
        self.left_out: list[str] = []
        self._skipped_files: list[str] = []
        self._cases: dict[Sweep, set[Tap]] = {}
        self._skipped: set[Sweep] = set()

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Called by any plugin that deselects."""
        self.left_out += [item.nodeid for item in items if param_of(item) is not None]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a file that skips itself as a whole, as importorskip does, or that cannot be collected."""
        if report.skipped:
            self._skipped_files.append(report.nodeid)
        elif report.failed:
            self.left_out.append(report.nodeid)

    def begin(self, collected: Collected) -> None:
        """Take the cases of the run. Raises pytest.UsageError if it does not have all of them."""
        if left_out := collected.left_out:
            raise pytest.UsageError(f"{_WHY}: {len(left_out)} were left out, such as {left_out[0]}")
        self._cases = {sweep: set(taps) for sweep, taps in collected.taps.items()}
        self._skipped = set(collected.skipped)
        if not self._cases and not self._skipped:
            raise pytest.UsageError(f"{_WHY}: this one has none; name the folder that they are in")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """After the update of baselines, before the terminal summary."""
        if not self._cases and not self._skipped:
            return
        ended = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        if not ended or session.shouldstop or session.shouldfail:
            self._notes.append(Note("info", "baselines: not pruned, because the run did not get to its end"))
            return
        options = self._options
        from probebench.models.libraries import is_library_id

        measured = {sweep.model for sweep in (*self._cases, *self._skipped)}

        def keeps(model: str) -> bool:
            # Models of libraries have cases only in runs whose command line names them; and which models a file that
            # skipped itself would have measured is not known.
            return is_library_id(model) or (bool(self._skipped_files) and model not in measured)

        removed, problems = prune(options.baselines, options.protocol, self._cases, self._skipped, keeps)
        lines = [f"pruned: {what}" for what in removed] or ["baselines: nothing to prune"]
        if self._skipped_files:
            files = list_some(dict.fromkeys(self._skipped_files))
            lines.append(
                f"baselines: those of models without a case were kept, because of files that were skipped: {files}"
            )
        self._notes += [Note("info", line) for line in lines] + [Note("error", problem) for problem in problems]
        if problems and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
