"""``--probe-prune``: remove baselines that have no case, in a run that has all of them.

A baseline whose case was filtered away looks like one whose case is gone. So a filter of any kind is refused before any
work, and so is whatever else leaves cases out of collection.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from probebench.cases import Sweep
    from probebench.options import Options
    from probebench.sites import Tap

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
    "numprocesses": "-n",
    "collectonly": "--collect-only",
    "probe_model": "--probe-model",
    "probe_dataset": "--probe-dataset",
    "probe_layer": "--probe-layer",
    "probe_site": "--probe-site",
}
"""By the name under which pytest keeps them: options that leave cases out."""


def check_unfiltered(config: pytest.Config) -> None:
    """Raises pytest.UsageError if the command line may leave cases out."""
    found = [option for name, option in _FILTERS.items() if getattr(config.option, name, None)]
    found += [part for argument in config.args if (part := _part(config, argument))]
    if found:
        raise pytest.UsageError(f"{_WHY}: leave out {', '.join(found)}")


def _part(config: pytest.Config, argument: str) -> str:
    """An argument that names a part of a project, and what to name instead; empty for one that does not."""
    path, root = (config.invocation_params.dir / argument.partition("::")[0]).resolve(), config.rootpath.resolve()
    if "::" in argument or path.is_file():
        return argument
    if path == root or not path.is_relative_to(root):
        return ""
    patterns = config.getini("python_files")
    if any(fnmatch(each.name, pattern) for each in root.iterdir() for pattern in patterns):
        return f"{argument} (there are tests beside it)"
    # Tests further up are not looked for in every folder: it is the whole folder in the root that counts.
    return "" if path.parent == root else f"{argument} (or name all of {path.relative_to(root).parts[0]})"


class Pruning:
    """A pytest plugin, registered when ``--probe-prune`` is given.

    Args:
        param: the `Case` or `Withheld` of an item, or None
        notes: lines for the end of the run are added here
    """

    def __init__(self, options: Options, param: Callable[[pytest.Item], Any], notes: list[str]) -> None:
        self._options, self._param, self._notes = options, param, notes
        self._left_out: list[str] = []
        self._cases: dict[Sweep, set[Tap]] = {}
        self._withheld: set[Sweep] = set()

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Other plugins deselect, too."""
        self._left_out += [item.nodeid for item in items if self._param(item) is not None]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that skips itself as a whole, as importorskip does, or that cannot be collected."""
        if not report.passed:
            self._left_out.append(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if session.testsfailed and not session.config.option.continue_on_collection_errors:
            return  # pytest ends the run, and shows why
        if self._left_out:
            raise pytest.UsageError(f"{_WHY}: {len(self._left_out)} were left out, such as {self._left_out[0]}")
        for param in filter(None, map(self._param, session.items)):
            if hasattr(param, "tap"):
                self._cases.setdefault(param.sweep, set()).add(param.tap)
            else:
                self._withheld.add(param.sweep)
        if not self._cases and not self._withheld:
            raise pytest.UsageError(f"{_WHY}: this one has none; name the folder that they are in")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """After the update of baselines, before the terminal summary."""
        if not self._cases and not self._withheld:
            return
        ended = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        if not ended or session.shouldstop or session.shouldfail:
            self._notes.append("baselines: not pruned, because the run did not get to its end")
            return
        options = self._options
        removed, problems = prune(options.baselines, options.protocol, self._cases, self._withheld)
        self._notes += [f"pruned: {what}" for what in removed] or ["baselines: nothing to prune"]
        self._notes += [f"ERROR: {problem}" for problem in problems]
        if problems and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def prune(
    directory: Path, protocol: str, cases: Mapping[Sweep, Collection[Tap]], withheld: Collection[Sweep]
) -> tuple[list[str], list[str]]:
    """Remove the baselines of a protocol that have no case: whole files, and entries of files that stay.

    Baselines of ``timm:`` models stay: their cases exist only where the command line names them.

    Args:
        cases: the taps of every sweep that has cases
        withheld: sweeps whose cases are not run on this machine: theirs stay as they are

    Returns:
        what was removed, and what could not be, a line each
    """
    from probebench import baselines
    from probebench.errors import StoreError

    removed: list[str] = []
    problems: list[str] = []
    if not (directory / protocol).is_dir():
        return removed, problems
    try:
        with baselines.locked(directory):
            for sweep in _stored(directory, protocol):
                if sweep in withheld or sweep.model.startswith("timm_"):
                    continue
                try:
                    what = _prune(directory, sweep, cases.get(sweep, ()))
                except StoreError as error:
                    problems.append(str(error))
                else:
                    removed += [what] if what else []
    except StoreError as error:
        problems.append(str(error))
    return removed, problems


def _stored(directory: Path, protocol: str) -> list[Sweep]:
    """Every sweep with a file of a baseline."""
    from probebench.cases import Sweep

    found = set()
    for path in (directory / protocol).iterdir():
        model, dash, dataset = path.stem.partition("-")
        if dash and path.suffix in (".json", ".safetensors") and not path.name.startswith("."):
            found.add(Sweep(model, dataset, protocol))
    return sorted(found, key=lambda sweep: sweep.id)


def _prune(directory: Path, sweep: Sweep, taps: Collection[Tap]) -> str:
    """Remove what a stored sweep has besides `taps`; what that was, or nothing."""
    from probebench import baselines
    from probebench.run import relative

    path, _ = baselines.paths(directory, sweep)
    if not taps:
        baselines.remove(directory, sweep)
        return f"{relative(path)} and the file beside it, which had no case"
    old = baselines.read(directory, sweep)
    if old is None or not (gone := sorted(old.correct.keys() - set(taps))):
        return ""
    kept = {tap: correct for tap, correct in old.correct.items() if tap not in gone}
    if kept:
        baselines.write(directory, replace(old, correct=kept))
    else:
        baselines.remove(directory, sweep)
    names = ", ".join(tap.id for tap in gone[:3]) + (", ..." if len(gone) > 3 else "")
    return f"{len(gone)} of {len(old.correct)} entries of {relative(path)}, which had no case: {names}"
